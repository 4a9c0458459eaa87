//! Files that only one process uses at a time.

use crate::private_folder;
use anyhow::Context;
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
};
use std::{fs::File, path::Path};

/// Takes the lock of the file at `path`, which need not exist; `None` when another process or another part of this one
/// has it. It is held until the returned file is closed, also by the end of the process.
///
/// The lock is that of an empty file beside it with `.lock` added to its name, because the file itself is replaced.
pub fn lock_beside(path: &Path) -> anyhow::Result<Option<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    private_folder(folder.unwrap_or(Path::new(".")))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let cannot = || format!("cannot lock {}", path.display());
    let file = open(Path::new(&name), flags, Mode::RUSR | Mode::WUSR).with_context(cannot)?;
    let file = File::from(file);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(cannot),
    }
}
