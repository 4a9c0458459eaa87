//! The storage backend of the database, with a hook that lets tests make it fail.

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};
use std::{fmt, fs::File, io, ops::Bound, sync::Arc};

/// An operation that the database is about to perform on its file.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum DiskOperation<'a> {
    /// Read bytes.
    Read {
        /// The start of the range, in bytes from the start of the file.
        offset: u64,
        /// The length of the range, in bytes.
        bytes: usize,
    },
    /// Write bytes.
    Write {
        /// The start of the range, in bytes from the start of the file.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Change the file's length.
    SetLength(u64),
    /// Wait until all written bytes are on the disk.
    Sync,
    /// Append uncommitted records to the spill of a writer, a file beside the database.
    Spill {
        /// The number of bytes.
        bytes: usize,
    },
}

/// Called before each operation. An error is returned to the database in place of the operation.
pub(crate) type DiskHook = Arc<dyn Fn(DiskOperation<'_>) -> io::Result<()> + Send + Sync>;

/// The number of bytes that are overwritten at once.
const OVERWRITTEN_BYTES: usize = 1 << 20;

pub(crate) struct Disk {
    file: FileBackend,
    hook: Option<DiskHook>,
    overwrites_cut: bool,
}

impl Disk {
    /// With `overwrites_cut`, the end of the file is overwritten with zeros before it is cut off.
    pub(crate) fn new(
        file: File,
        hook: Option<DiskHook>,
        overwrites_cut: bool,
    ) -> Result<Disk, DatabaseError> {
        Ok(Disk {
            file: FileBackend::new(file)?,
            hook,
            overwrites_cut,
        })
    }

    /// Overwrites the file from `start` to its end with zeros.
    fn overwrite_end(&self, start: u64) -> io::Result<()> {
        let end = self.file.len()?;
        let (mut found, zeros) = (vec![0; OVERWRITTEN_BYTES], vec![0; OVERWRITTEN_BYTES]);
        let (mut offset, mut is_changed) = (start, false);
        while offset < end {
            let length = usize::try_from(end - offset)
                .map_or(OVERWRITTEN_BYTES, |left| left.min(OVERWRITTEN_BYTES));
            let (Some(found), Some(zeros)) = (found.get_mut(..length), zeros.get(..length)) else {
                break;
            };
            self.file.read(offset, found)?;
            // A hole stays one.
            if found != zeros {
                self.write(offset, zeros)?;
                is_changed = true;
            }
            offset += length as u64;
        }
        if is_changed {
            // Otherwise the system would not write what is cut off a moment later.
            self.sync_data()?;
        }
        Ok(())
    }

    fn ask(&self, operation: DiskOperation<'_>) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(operation))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.ask(DiskOperation::Read {
            offset,
            bytes: out.len(),
        })?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.overwrites_cut {
            self.overwrite_end(len)?;
        }
        self.ask(DiskOperation::SetLength(len))?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.ask(DiskOperation::Sync)?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.ask(DiskOperation::Write {
            offset,
            bytes: data,
        })?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
