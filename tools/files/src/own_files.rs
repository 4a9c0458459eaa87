//! Files of this user below a folder that is held open.
//!
//! An export writes to files that it finds, and another program may put a link in the place of such a file
//! or of a folder above it. So nothing below the folder is reached through a link, and only a plain file
//! with one name is opened: what is written to another one would change a file elsewhere.

use crate::private_folder;
use anyhow::{Context, bail};
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Mode, OFlags, Stat, fsync, openat, renameat, statat, unlinkat},
    io::Errno,
};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

/// Maximum size of a file that stores a position, in bytes: an export of a hundred thousand servers has one
/// of 30 MB.
const NAMED_BYTES_MAX: u64 = 64 << 20;

/// A folder that is held open.
#[derive(Debug)]
pub struct HeldFolder {
    folder: OwnedFd,
    path: PathBuf,
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

impl HeldFolder {
    /// Opens a folder, and creates it if it is missing. A link may lead to it, because its user has named it.
    pub fn create(path: &Path) -> anyhow::Result<HeldFolder> {
        // A path without folders is in the current one.
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        private_folder(path)?;
        let folder = rustix::fs::open(path, folder_flags(), Mode::empty())
            .with_context(|| format!("cannot open the folder {}", path.display()))?;
        Ok(HeldFolder {
            folder,
            path: path.to_owned(),
        })
    }

    /// The folder of the file `path`, which must be below this one, and its name there. Without a link, and
    /// without `..`.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "it is outside the folder");
        let below = path.strip_prefix(&self.path).unwrap_or(path);
        let mut folder = self.folder.try_clone()?;
        let mut names = below.components().peekable();
        while let Some(name) = names.next() {
            let Component::Normal(name) = name else {
                break;
            };
            if names.peek().is_none() {
                return Ok((folder, name));
            }
            let flags = folder_flags() | OFlags::NOFOLLOW;
            folder = openat(&folder, name, flags, Mode::empty()).map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR => io::Error::other(
                    "a folder above it is a symbolic link or no folder: move that away",
                ),
                error => error.into(),
            })?;
        }
        Err(outside())
    }

    /// Opens a file for reading and appending. `None` when there is none.
    ///
    /// Fails when it is not a plain file of this user with one name.
    pub fn open(&self, path: &Path) -> anyhow::Result<Option<File>> {
        let cannot = || format!("cannot continue {}", path.display());
        // Without NONBLOCK, opening would wait where a FIFO has this name.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = self.parent(path).and_then(|(folder, name)| {
            Ok(openat(
                &folder,
                name,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
            )?)
        });
        let file = match opened {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let kind = Errno::from_io_error(&error);
                if matches!(kind, Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO)) {
                    return refuse(path, kind == Some(Errno::LOOP));
                }
                return Err(error).with_context(cannot);
            }
        };
        let metadata = file.metadata().with_context(cannot)?;
        if !metadata.is_file() {
            return refuse(path, false);
        }
        if metadata.nlink() > 1 {
            bail!(
                "{} has another name as well (a hard link), under which it would change: move it away",
                path.display()
            );
        }
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user {
            bail!(
                "{} belongs to user {}, not to user {user}: move it away",
                path.display(),
                metadata.uid()
            );
        }
        Ok(Some(file))
    }

    /// Creates a file with mode 0600, to append to.
    pub fn create_file(&self, path: &Path) -> io::Result<File> {
        let (folder, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(&folder, name, flags | OFlags::CLOEXEC, mode)?;
        fsync(&folder)?;
        Ok(File::from(file))
    }

    /// Renames a file within its folder, also after a power loss.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((folder, from), (target, to)) = (self.parent(from)?, self.parent(to)?);
        renameat(&folder, from, &target, to)?;
        Ok(fsync(&target)?)
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        Ok(unlinkat(&folder, name, AtFlags::empty())?)
    }

    /// What the file system says about an entry, of a link about itself; `None` when there is none.
    pub fn entry(&self, path: &Path) -> io::Result<Option<Stat>> {
        let entry = self
            .parent(path)
            .and_then(|(folder, name)| Ok(statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?));
        match entry {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn refuse<T>(path: &Path, is_link: bool) -> anyhow::Result<T> {
    let kind = if is_link {
        "a symbolic link"
    } else {
        "not a regular file"
    };
    bail!(
        "{} is {kind}, and only regular files are read and written here: move it away",
        path.display()
    );
}

/// Reads a small file that a user has named, such as that of a cursor. `None` when there is none.
///
/// Fails when it is not a plain file of this user with one name.
pub fn read_named(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} is not a file name: name a file", path.display());
    };
    let folder = HeldFolder::create(folder)?;
    let Some(mut file) = folder.open(&folder.path.join(name))? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    let read = (&mut file).take(NAMED_BYTES_MAX + 1).read_to_end(&mut text);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    if text.len() as u64 > NAMED_BYTES_MAX {
        bail!(
            "{} is too large to be a file of this program: name another",
            path.display()
        );
    }
    Ok(Some(text))
}
