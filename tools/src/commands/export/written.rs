//! A file that an export continues, and the check that it still is the file that the export wrote.
//!
//! Between two runs, and while an export waits, a file can be deleted, moved, compressed, emptied or
//! replaced. An export continues a file only if the bytes that it wrote last are where it wrote them.
//! It never writes through a link.

use anyhow::Context;
use gridctl_telemetry_files::HeldFolder;
use serde::{Deserialize, Serialize};
use std::{fs::File, os::unix::fs::FileExt, path::Path};
use xxhash_rust::xxh3::xxh3_64;

/// The number of last written bytes by which a file is recognised.
const END_BYTES: u64 = 1024;

/// The bytes that were written to a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    /// The number of bytes.
    pub(super) bytes: u64,
    /// The last [`END_BYTES`] bytes.
    end: Vec<u8>,
}

/// The state of a file that is stored from run to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remembered {
    /// Its length.
    pub(super) bytes: u64,
    /// The hash of its last bytes.
    end: u64,
}

/// The state in which a file was found.
#[derive(Debug)]
pub(super) enum Found {
    /// The file is as it was written, and perhaps longer.
    AsWritten(File, Written),
    /// The file does not exist.
    Gone,
    /// The file was changed.
    Changed,
}

impl Written {
    /// Notes appended bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let max = usize::try_from(END_BYTES).unwrap_or(usize::MAX);
        let new = bytes
            .get(bytes.len().saturating_sub(max)..)
            .unwrap_or_default();
        let surplus = (self.end.len() + new.len()).saturating_sub(max);
        self.end.drain(..surplus);
        self.end.extend_from_slice(new);
    }

    pub(super) fn remember(&self) -> Remembered {
        Remembered {
            bytes: self.bytes,
            end: xxh3_64(&self.end),
        }
    }
}

impl Remembered {
    /// Whether no byte was written yet.
    pub(super) fn is_empty(self) -> bool {
        self.bytes == 0
    }

    /// Opens the file to append to it.
    ///
    /// Fails when it is not a plain file of this user with one name.
    pub(super) fn find(self, folder: &HeldFolder, path: &Path) -> anyhow::Result<Found> {
        let cannot = || format!("cannot continue {}", path.display());
        let Some(file) = folder.open(path)? else {
            return Ok(Found::Gone);
        };
        let bytes = file.metadata().with_context(cannot)?.len();
        if bytes < self.bytes {
            return Ok(Found::Changed);
        }
        let end = self.bytes.min(END_BYTES);
        let mut written = Written {
            bytes: self.bytes,
            end: vec![0; usize::try_from(end).unwrap_or_default()],
        };
        file.read_exact_at(&mut written.end, self.bytes - end)
            .with_context(cannot)?;
        Ok(if self.is_empty() || written.remember() == self {
            Found::AsWritten(file, written)
        } else {
            Found::Changed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    proptest! {
        #[test]
        fn a_file_is_known_by_what_was_written_last(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..700), 1..6),
            more in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let held = HeldFolder::create(folder.path()).unwrap();
            let path = folder.path().join("file");
            let mut written = Written::default();
            for piece in &pieces {
                written.append(piece);
            }
            let mut text = pieces.concat();
            text.extend(&more);
            fs::write(&path, &text).unwrap();
            let remembered = written.remember();
            let found = remembered.find(&held, &path).unwrap();
            prop_assert!(matches!(
                found,
                Found::AsWritten(_, again) if again.remember() == remembered && again.end == written.end
            ));
            text[pieces.concat().len() - 1] ^= 1;
            fs::write(&path, &text).unwrap();
            prop_assert!(matches!(remembered.find(&held, &path).unwrap(), Found::Changed));
            fs::write(&path, &text[..pieces.concat().len() - 1]).unwrap();
            prop_assert!(matches!(remembered.find(&held, &path).unwrap(), Found::Changed));
            fs::remove_file(&path).unwrap();
            prop_assert!(matches!(remembered.find(&held, &path).unwrap(), Found::Gone));
        }
    }
}
