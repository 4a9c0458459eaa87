//! A file that an export goes on with, and whether it still is what the export wrote.
//!
//! Between two runs, and while one waits, anything can happen to a file: it is deleted, moved,
//! compressed, emptied, or another one takes its place. A file is gone on with when it has the
//! bytes that were written last where they were written, and is never written through a link.

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};
use xxhash_rust::xxh3::xxh3_64;

/// A file is known by so many of the bytes that were written to it last.
const END_BYTES: u64 = 1024;

/// What was written to a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    /// How many bytes.
    pub(super) bytes: u64,
    /// The last [`END_BYTES`] of them.
    end: Vec<u8>,
}

/// What is remembered of a file from run to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remembered {
    /// Its length.
    pub(super) bytes: u64,
    /// The hash of its last bytes.
    end: u64,
}

/// What became of a file.
#[derive(Debug)]
pub(super) enum Found {
    /// It is as it was written, and perhaps longer.
    AsWritten(File, Written),
    /// There is none.
    Gone,
    /// Something else was done to it.
    Changed,
}

impl Written {
    /// Adds what was appended.
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
    /// Nothing was written yet.
    pub(super) fn is_empty(self) -> bool {
        self.bytes == 0
    }

    /// Opens the file to append to it.
    ///
    /// Fails when it is a link, a folder or anything else but a file.
    pub(super) fn find(self, path: &Path) -> anyhow::Result<Found> {
        let cannot = || format!("cannot go on with {}", path.display());
        let Some(file) = open(path)? else {
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

/// Opens a file that is there, for reading and appending.
fn open(path: &Path) -> anyhow::Result<Option<File>> {
    let cannot = || format!("cannot go on with {}", path.display());
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(metadata) => {
            let kind = if metadata.is_symlink() {
                "a symbolic link"
            } else {
                "no regular file"
            };
            bail!(
                "{} is {kind}, and an export writes to none: move it away, and the export goes on in \
                 a new file",
                path.display()
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(cannot),
    }
    // It may be replaced until it is opened: a link is not followed, and a pipe does not block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .custom_flags(flags)
        .open(path)
        .with_context(cannot)?;
    if !file.metadata().with_context(cannot)?.is_file() {
        bail!("{} is no regular file: move it away", path.display());
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_file_is_known_by_what_was_written_last(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..700), 1..6),
            more in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            let mut written = Written::default();
            for piece in &pieces {
                written.append(piece);
            }
            let mut text = pieces.concat();
            text.extend(&more);
            fs::write(&path, &text).unwrap();
            let remembered = written.remember();
            let found = remembered.find(&path).unwrap();
            prop_assert!(matches!(
                found,
                Found::AsWritten(_, again) if again.remember() == remembered && again.end == written.end
            ));
            text[pieces.concat().len() - 1] ^= 1;
            fs::write(&path, &text).unwrap();
            prop_assert!(matches!(remembered.find(&path).unwrap(), Found::Changed));
            fs::write(&path, &text[..pieces.concat().len() - 1]).unwrap();
            prop_assert!(matches!(remembered.find(&path).unwrap(), Found::Changed));
            fs::remove_file(&path).unwrap();
            prop_assert!(matches!(remembered.find(&path).unwrap(), Found::Gone));
        }
    }
}
