//! The spill of a writer: a small file beside the database that belongs to one writer.
//!
//! While the writer runs, the file is locked (`flock`), and the system releases the lock when the
//! process ends, however it ends. So a writer runs if its spill is locked, also when its process is a
//! zombie, when another process has its id, and when it runs in another PID namespace.
//!
//! The file starts with a header of [`HEADER_BYTES`]. It is written once when the file is created, so
//! that it has a disk block, and in place afterwards: a writer can then say why it cannot store, also
//! on a full disk.
//!
//! ```text
//! magic 8 | checksum of the rest of the header 8 | length 2 | MessagePack of SpillHeader | zeros
//! ```
//!
//! Integers are little-endian. Nothing is synced: the file must survive the end of the process, not
//! a power failure.

use crate::{
    error::{Error, Result},
    home::StackPath,
    platform,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
};
use xxhash_rust::xxh3::xxh3_64;

/// The length of the header, in bytes.
const HEADER_BYTES: usize = 512;
const MAGIC: &[u8; 8] = b"gcspill1";
/// The start of the part of the header that its checksum covers.
const CHECKED_FROM: usize = 16;
/// Maximum length of an error in the header, in bytes.
const ERROR_BYTES_MAX: usize = 400;

/// What a writer says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SpillHeader {
    /// See [`platform::boot_id`]; 0 where there is none.
    pub(crate) boot: u64,
    /// The number of wipes when the writer started.
    pub(crate) wipe_generation: u64,
    /// Since when the writer cannot store, in nanoseconds since the epoch, and its last error.
    pub(crate) failure: Option<(i64, String)>,
}

/// The spill of a running writer. It stays locked while this value lives.
#[derive(Debug)]
pub(crate) struct Spill {
    file: File,
    place: StackPath,
    writer: u64,
    header: SpillHeader,
}

impl Spill {
    /// Creates and locks the spill of `writer`. Fails when the file system has no place or no locks.
    pub(crate) fn create(place: &StackPath, writer: u64, wipe_generation: u64) -> Result<Spill> {
        let file = place.create_spill(writer)?;
        let spill = Spill {
            file,
            place: place.clone(),
            writer,
            header: SpillHeader {
                boot: platform::boot_id().unwrap_or(0),
                wipe_generation,
                failure: None,
            },
        };
        let prepared =
            (spill.file.try_lock().map_err(io::Error::from)).and_then(|()| spill.write_header());
        if let Err(error) = prepared {
            // An unlocked file would say that its writer is dead.
            place.remove_spill(writer)?;
            return Err(Error::io("write to", &place.spill(writer), error));
        }
        Ok(spill)
    }

    /// Says since when the writer cannot store, and why; `None` when it can.
    pub(crate) fn set_failure(&mut self, failure: Option<(i64, &str)>) -> io::Result<()> {
        self.header.failure = failure.map(|(since, error)| {
            let fits = |(at, next): &(usize, char)| at + next.len_utf8() <= ERROR_BYTES_MAX;
            let error = error.char_indices().take_while(fits);
            (since, error.map(|(_, next)| next).collect())
        });
        self.write_header()
    }

    fn write_header(&self) -> io::Result<()> {
        let header = rmp_serde::to_vec(&self.header).map_err(io::Error::other)?;
        let length = u16::try_from(header.len()).map_err(io::Error::other)?;
        let mut checked = length.to_le_bytes().to_vec();
        checked.extend(header);
        checked.resize(HEADER_BYTES - CHECKED_FROM, 0);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(xxh3_64(&checked).to_le_bytes());
        bytes.extend(checked);
        self.file.write_all_at(&bytes, 0)
    }

    /// Removes the file, which releases the lock.
    pub(crate) fn remove(self) -> Result<()> {
        self.place.remove_spill(self.writer)
    }
}

/// What the file of a spill says about its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// The writer runs.
    Held,
    /// The writer has ended.
    Free,
    /// The file is missing, or its file system has no locks.
    Unknown,
}

/// Whether the spill of `writer` is locked.
pub(crate) fn lock_of(place: &StackPath, writer: u64) -> Lock {
    let Ok(Some(file)) = place.open_spill(writer) else {
        return Lock::Unknown;
    };
    // Shared, so that processes that look at the same time do not take each other for the writer.
    match file.try_lock_shared() {
        Ok(()) => Lock::Free,
        Err(TryLockError::WouldBlock) => Lock::Held,
        Err(TryLockError::Error(_)) => Lock::Unknown,
    }
}

/// The header of the spill of `writer`; `None` when it is missing or damaged.
pub(crate) fn header_of(place: &StackPath, writer: u64) -> Option<SpillHeader> {
    read_header(&place.open_spill(writer).ok()??)
}

fn read_header(file: &File) -> Option<SpillHeader> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (magic, rest) = bytes.split_first_chunk()?;
    let (checksum, checked) = rest.split_first_chunk()?;
    if magic != MAGIC || u64::from_le_bytes(*checksum) != xxh3_64(checked) {
        return None;
    }
    let (length, header) = checked.split_first_chunk()?;
    let header = header.get(..u16::from_le_bytes(*length).into())?;
    rmp_serde::from_slice(header).ok()
}
