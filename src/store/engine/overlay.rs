//! A trial repair in memory, before the file is repaired.
//!
//! redb repairs a file while opening it. By the time it finds that the repair is impossible, or
//! that the tables are those of a newer program, it has already written to the file, which must
//! stay unchanged in these cases.

use crate::store::engine::disk::Disk;
use redb::{BackendError, StorageBackend};
use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

const PAGE_BYTES: usize = 4096;

/// A disk that reads from another disk and keeps writes in memory. Locks are taken on the real
/// file, so no other process changes it in the meantime.
#[derive(Debug)]
pub(crate) struct Overlay {
    disk: Disk,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    /// The length of the file beneath that is still visible: bytes that were once cut off read as
    /// zeros.
    length_beneath: u64,
    /// Whether anything was written. Until then another process may extend the file.
    is_changed: bool,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(crate) fn new(disk: Disk) -> io::Result<Overlay> {
        let length = disk.len()?;
        Ok(Overlay {
            disk,
            written: Mutex::new(Written {
                length,
                length_beneath: length,
                is_changed: false,
                pages: BTreeMap::new(),
            }),
        })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writes, with the present length of the file beneath if there are none yet.
    fn present(&self) -> io::Result<MutexGuard<'_, Written>> {
        let mut written = self.written();
        if !written.is_changed {
            written.length = self.disk.len()?;
            written.length_beneath = written.length;
        }
        Ok(written)
    }

    /// The writes, to which one is about to be added.
    fn changing(&self) -> io::Result<MutexGuard<'_, Written>> {
        let mut written = self.present()?;
        written.is_changed = true;
        Ok(written)
    }

    /// Reads the bytes of the file beneath, without the writes in memory.
    fn read_beneath(&self, written: &Written, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown = written.length_beneath.saturating_sub(offset);
        let shown = usize::try_from(shown).unwrap_or(usize::MAX).min(out.len());
        let (out, cut_off) = out.split_at_mut(shown);
        cut_off.fill(0);
        if out.is_empty() {
            return Ok(());
        }
        self.disk.read(offset, out)
    }
}

/// Splits a byte range into pages: for each, the page number, the offset in the page, and the
/// length.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = offset;
    let mut rest = length;
    std::iter::from_fn(move || {
        let start = usize::try_from(at % PAGE_BYTES as u64).unwrap_or(0);
        let count = rest.min(PAGE_BYTES - start);
        let part = (count > 0).then_some((at / PAGE_BYTES as u64, start, count));
        at += count as u64;
        rest -= count;
        part
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.present()?.length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.present()?;
        let end = offset.saturating_add(out.len() as u64);
        if end > written.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // In one read: a page of redb can be as long as a thousand of those that are kept here.
        self.read_beneath(&written, offset, out)?;
        let numbers = offset / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64);
        for (number, page) in written.pages.range(numbers) {
            let start = number * PAGE_BYTES as u64;
            let before = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).ok();
            let page = before(start, offset).and_then(|skipped| page.get(skipped..));
            let out = before(offset, start).and_then(|skipped| out.get_mut(skipped..));
            if let (Some(page), Some(out)) = (page, out) {
                (out.iter_mut().zip(page)).for_each(|(out, byte)| *out = *byte);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.changing()?;
        let mut rest = data;
        for (number, start, count) in parts(offset, data.len()) {
            if !written.pages.contains_key(&number) {
                let mut page = vec![0; PAGE_BYTES];
                self.read_beneath(&written, number * PAGE_BYTES as u64, &mut page)?;
                written.pages.insert(number, page);
            }
            let (data, after) = rest.split_at(count);
            let page = written.pages.get_mut(&number);
            if let Some(bytes) = page.and_then(|page| page.get_mut(start..start + count)) {
                bytes.copy_from_slice(data);
            }
            rest = after;
        }
        written.length = written.length.max(offset + data.len() as u64);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.changing()?;
        if length < written.length {
            drop(written.pages.split_off(&length.div_ceil(PAGE_BYTES as u64)));
            let end = usize::try_from(length % PAGE_BYTES as u64).unwrap_or(0);
            let last = written.pages.get_mut(&(length / PAGE_BYTES as u64));
            if let Some(beyond) = last.and_then(|page| page.get_mut(end..)) {
                beyond.fill(0);
            }
            written.length_beneath = written.length_beneath.min(length);
        }
        written.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.disk.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.disk.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.disk.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.disk.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.disk.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.disk.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    #[derive(Debug, Clone)]
    enum Operation {
        Write(u64, Vec<u8>),
        SetLength(u64),
        Read(u64, usize),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let offset = 0u64..30_000;
        prop_oneof![
            (offset.clone(), prop::collection::vec(1u8.., 1..9000))
                .prop_map(|(offset, bytes)| Operation::Write(offset, bytes)),
            offset.clone().prop_map(Operation::SetLength),
            (offset, 1usize..9000).prop_map(|(offset, bytes)| Operation::Read(offset, bytes)),
        ]
    }

    /// Other processes must not change the file during a trial repair.
    #[test]
    fn locks_are_those_of_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || Disk::new(file.reopen().unwrap(), None, false).unwrap();
        let (overlay, other) = (Overlay::new(open()).unwrap(), open());
        let (start, end) = (Bound::Included(10), Bound::Excluded(20));
        let others_see = |is_shared: bool| {
            assert!(other.query_lock_range(start, end).unwrap());
            assert!(!other.try_lock_range(start, end).unwrap());
            assert_eq!(other.try_lock_shared_range(start, end).unwrap(), is_shared);
            assert_eq!(overlay.query_lock_range(start, end).unwrap(), is_shared);
            other.unlock_range(start, end).unwrap();
            overlay.unlock_range(start, end).unwrap();
            assert!(!other.query_lock_range(start, end).unwrap());
        };
        assert!(overlay.try_lock_range(start, end).unwrap());
        others_see(false);
        overlay.lock_range(start, end).unwrap();
        others_see(false);
        assert!(overlay.try_lock_shared_range(start, end).unwrap());
        others_see(true);
        overlay.lock_shared_range(start, end).unwrap();
        others_see(true);
        assert!(other.try_lock_range(start, end).unwrap());
        assert!(overlay.query_lock_range(start, end).unwrap());
        assert!(!overlay.try_lock_range(start, end).unwrap());
        assert!(!overlay.try_lock_shared_range(start, end).unwrap());
        other.unlock_range(start, end).unwrap();

        assert!(overlay.try_lock_range(start, end).unwrap());
        overlay.close().unwrap();
        assert!(!other.query_lock_range(start, end).unwrap());
    }

    proptest! {
        #[test]
        fn behaves_as_a_file_does_and_leaves_it_alone(
            operations in prop::collection::vec(operation(), 1..30)
        ) {
            let before: Vec<u8> = (0..20_000u32).map(|byte| byte.to_le_bytes()[0] | 1).collect();
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&before, 0).unwrap();
            let disk = Disk::new(file.try_clone().unwrap(), None, false).unwrap();
            let overlay = Overlay::new(disk).unwrap();
            let model = tempfile::tempfile().unwrap();
            model.write_all_at(&before, 0).unwrap();
            for operation in operations {
                match operation {
                    Operation::Write(offset, bytes) => {
                        overlay.write(offset, &bytes).unwrap();
                        model.write_all_at(&bytes, offset).unwrap();
                    }
                    Operation::SetLength(length) => {
                        overlay.set_len(length).unwrap();
                        model.set_len(length).unwrap();
                    }
                    Operation::Read(offset, bytes) => {
                        let (mut read, mut expected) = (vec![0; bytes], vec![0; bytes]);
                        let outcome = overlay.read(offset, &mut read);
                        match model.read_exact_at(&mut expected, offset) {
                            Ok(()) => prop_assert_eq!(read, expected),
                            Err(_) => prop_assert!(outcome.is_err()),
                        }
                    }
                }
                prop_assert_eq!(overlay.len().unwrap(), model.metadata().unwrap().len());
            }
            let mut after = vec![0; before.len()];
            file.read_exact_at(&mut after, 0).unwrap();
            prop_assert!(after == before);
            prop_assert_eq!(file.metadata().unwrap().len(), 20_000);
        }
    }
}
