//! Files that appear complete or not at all.

use anyhow::{Context, bail};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A file that appears complete or not at all: it is written under another name, synced, and
/// renamed. If it is dropped before [`AtomicFile::finish`], no file remains.
#[derive(Debug)]
pub struct AtomicFile {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Begins a file with mode 0600, and creates missing folders with mode 0700.
    pub fn create(path: &Path) -> anyhow::Result<AtomicFile> {
        AtomicFile::create_after(path, |_| Ok(()))
    }

    /// Like [`AtomicFile::create`], and calls `before` with the [temporary](AtomicFile::temporary) path before the file is
    /// there, so that it can be noted and found after a kill. It is called again, with another path, when that one is taken.
    ///
    /// Fails with the error of `before`, too.
    pub fn create_after(
        path: &Path,
        mut before: impl FnMut(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<AtomicFile> {
        let Some(folder) = path.parent() else {
            bail!("{} is not a file name: name a file", path.display())
        };
        // A path without folders is in the current one.
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        private_folder(folder)?;
        let mut refused = None;
        let file = tempfile::Builder::new()
            .prefix(".")
            .suffix(".part")
            .make_in(folder, |temporary| {
                if let Err(error) = before(temporary) {
                    refused = Some(error);
                    return Err(io::ErrorKind::Other.into());
                }
                fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(temporary)
            });
        if let Some(error) = refused {
            return Err(error);
        }
        let file = file.with_context(|| format!("cannot create a file in {}", folder.display()))?;
        Ok(AtomicFile {
            file,
            path: path.to_owned(),
        })
    }

    /// The path that the file has until it is complete.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        self.file.path()
    }

    /// Appends bytes.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file
            .write_all(bytes)
            .with_context(|| self.cannot_write())
    }

    /// Syncs the file and renames it to its own name.
    pub fn finish(self) -> anyhow::Result<()> {
        let path = self.path.clone();
        self.seal(path)?.place()
    }

    /// Syncs the file, which [`SealedFile::place`] will rename to `path` in the same folder.
    pub fn seal(mut self, path: PathBuf) -> anyhow::Result<SealedFile> {
        self.path = path;
        let message = self.cannot_write();
        self.file.as_file().sync_all().context(message)?;
        Ok(SealedFile {
            // Closed, because an export can have more files than a process may have open.
            file: self.file.into_temp_path(),
            path: self.path,
        })
    }

    /// What an error of a write to it begins with.
    #[must_use]
    pub fn cannot_write(&self) -> String {
        format!("cannot write {}", self.path.display())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is complete and synced, under a temporary name. If it is dropped before
/// [`SealedFile::place`], no file remains.
#[derive(Debug)]
pub struct SealedFile {
    file: tempfile::TempPath,
    path: PathBuf,
}

impl SealedFile {
    /// Keeps the file under its temporary name, which it returns, also when the program ends.
    pub fn keep(self) -> anyhow::Result<PathBuf> {
        let message = || format!("cannot write {}", self.path.display());
        let kept = self.file.keep().map_err(|error| error.error);
        kept.with_context(message)
    }

    /// Renames the file to its own name.
    pub fn place(self) -> anyhow::Result<()> {
        let message = || format!("cannot write {}", self.path.display());
        if self.path.is_dir() {
            bail!(
                "cannot write the file {}: a folder has that name, move it away",
                self.path.display()
            );
        }
        self.file
            .persist(&self.path)
            .map_err(|error| error.error)
            .with_context(message)?;
        sync_folder_of(&self.path).with_context(message)
    }
}

/// Syncs the folder of a file: without that, a power loss could undo a rename.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// Creates a folder and the missing folders above it, with mode 0700.
pub fn private_folder(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/logs.jsonl");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_bytes(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 0);
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_bytes(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
