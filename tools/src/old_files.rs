//! The flat files that gridctl's Go daemon left in a stack's folder.
//!
//! They hold the same records as the database that they were imported to, so `status` names them and
//! `wipe` deletes them. Deleting is stricter than importing: only a regular file with exactly a name
//! that the daemon writes, with one hard link, owned by this user, is deleted. Below the stack's folder
//! no link is followed, and each folder is opened in the one above it, so that a folder that is
//! replaced by a link in the meantime leads nowhere.

use crate::{flat::FileName, folders};
use anyhow::Context;
use bytesize::ByteSize;
use gridctl_telemetry::{ServerName, Signal};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The Go daemon's files of some servers and signals of a stack.
#[derive(Debug, Default)]
pub(crate) struct OldFiles {
    /// The files of each (server, signal) pair.
    pub(crate) found: BTreeMap<(ServerName, Signal), Count>,
    /// Files in the folders of these servers that `wipe` does not delete, and why.
    pub(crate) left: Vec<(PathBuf, String)>,
    /// Whether a file is left that should have been deleted.
    pub(crate) failed: bool,
}

/// A number of files, and their size.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Count {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.files == 1 { "file" } else { "files" };
        let size = ByteSize::b(self.bytes).display().iec();
        write!(f, "{} {noun} of gridctl's Go daemon, {size}", self.files)
    }
}

impl OldFiles {
    /// Looks for files. `stack` must be a valid name of a stack; without `servers` and `signal`, the files
    /// of all are found.
    pub(crate) fn find(
        home: &Path,
        stack: &str,
        servers: &[ServerName],
        signal: Option<Signal>,
    ) -> anyhow::Result<OldFiles> {
        Walk::run(home, stack, servers, signal, None)
    }

    /// Deletes the files that [`OldFiles::find`] finds, and returns those that were deleted. A file
    /// that cannot be deleted is left, with the reason. If `overwrite`, each is overwritten with zeros
    /// before.
    pub(crate) fn delete(
        home: &Path,
        stack: &str,
        servers: &[ServerName],
        signal: Option<Signal>,
        overwrite: bool,
    ) -> anyhow::Result<OldFiles> {
        Walk::run(home, stack, servers, signal, Some(Delete { overwrite }))
    }

    /// All files found.
    pub(crate) fn total(&self) -> Count {
        let mut total = Count::default();
        for count in self.found.values() {
            total.files += count.files;
            total.bytes += count.bytes;
        }
        total
    }
}

/// The folder of a stack, which holds its database and the folders of the Go daemon.
pub(crate) fn stack_folder(home: &Path, stack: &str) -> PathBuf {
    home.join("telemetry").join(stack)
}

/// The names of all folders that can be a stack's, with or without a database, sorted.
pub(crate) fn stack_folders(home: &Path) -> anyhow::Result<BTreeSet<String>> {
    let folder = home.join("telemetry");
    let cannot = || format!("cannot read the folder {}", folder.display());
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error).with_context(cannot),
    };
    let mut stacks = BTreeSet::new();
    for entry in entries {
        let entry = entry.with_context(cannot)?;
        // A name that is not UTF-8 cannot be a stack's.
        if let Ok(name) = entry.file_name().into_string()
            && entry.path().is_dir()
        {
            stacks.insert(name);
        }
    }
    Ok(stacks)
}

/// How files are deleted.
struct Delete {
    /// Whether they are overwritten with zeros before.
    overwrite: bool,
}

struct Walk<'a> {
    /// Empty for all servers.
    servers: &'a [ServerName],
    signal: Option<Signal>,
    /// `None` when files are only looked for.
    delete: Option<Delete>,
    user: u32,
    files: OldFiles,
}

impl Walk<'_> {
    fn run(
        home: &Path,
        stack: &str,
        servers: &[ServerName],
        signal: Option<Signal>,
        delete: Option<Delete>,
    ) -> anyhow::Result<OldFiles> {
        let path = stack_folder(home, stack);
        let mut walk = Walk {
            servers,
            signal,
            delete,
            user: rustix::process::geteuid().as_raw(),
            files: OldFiles::default(),
        };
        // The stack's folder may be a link to another disk, as it may be for the database.
        match rustix::fs::open(&path, folder_flags(), Mode::empty()) {
            Ok(folder) => walk.folder(&folder, &path, &mut Vec::new())?,
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error).with_context(|| cannot_read(&path)),
        }
        walk.files.left.sort();
        Ok(walk.files)
    }

    /// Looks through a folder, whose names down from the stack's folder are `names`.
    fn folder(
        &mut self,
        folder: &OwnedFd,
        path: &Path,
        names: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let server = folders::server_of(names)
            .ok()
            .filter(|server| self.is_selected(server));
        let mut left = Vec::new();
        let mut is_servers = false;
        let mut deleted = false;
        for name in names_in(folder).with_context(|| cannot_read(path))? {
            let entry_path = path.join(&name);
            let stat = match rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Deleted or rotated since the folder was read.
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot examine {}", entry_path.display()));
                }
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                self.below(folder, &entry_path, name, names)?;
                continue;
            }
            if kind == FileType::Symlink && entry_path.is_dir() {
                if self.is_wanted(names, &name) {
                    self.files.left.push((entry_path, "it is a link".into()));
                }
                continue;
            }
            let Some(server) = &server else {
                continue;
            };
            let Some(signal) = daemons_own(&name) else {
                left.push((
                    entry_path,
                    "its name is not one that the daemon writes".into(),
                ));
                continue;
            };
            is_servers = true;
            if self.signal.is_some_and(|wanted| wanted != signal) {
                continue;
            }
            if let Some(reason) = self.reason_to_leave(kind, &stat) {
                left.push((entry_path, reason.into()));
                continue;
            }
            if let Some(delete) = &self.delete {
                let overwritten = if delete.overwrite {
                    self.overwrite(folder, &name)
                } else {
                    Ok(())
                };
                let unlink = || rustix::fs::unlinkat(folder, &name, AtFlags::empty());
                match overwritten.and_then(|()| Ok(unlink()?)) {
                    Ok(()) => deleted = true,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        left.push((entry_path, format!("it cannot be deleted: {error}")));
                        self.files.failed = true;
                        continue;
                    }
                }
            }
            let count = self
                .files
                .found
                .entry((server.clone(), signal))
                .or_default();
            count.files += 1;
            count.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
        if is_servers {
            self.files.left.append(&mut left);
        }
        if deleted {
            // Without this, a power loss could bring the files back.
            rustix::fs::fsync(folder)
                .with_context(|| format!("cannot sync the folder {}", path.display()))?;
        }
        Ok(())
    }

    /// Looks through the folder `name` in `parent`.
    fn below(
        &mut self,
        parent: &OwnedFd,
        path: &Path,
        name: String,
        names: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        // No server has a name of more parts than bytes.
        if names.len() >= ServerName::BYTES_MAX {
            return Ok(());
        }
        let flags = folder_flags() | OFlags::NOFOLLOW;
        let folder = match rustix::fs::openat(parent, &name, flags, Mode::empty()) {
            Ok(folder) => folder,
            // Replaced by a file or a link since it was examined.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => {
                self.files
                    .left
                    .push((path.to_owned(), format!("it cannot be opened: {error}")));
                return Ok(());
            }
        };
        names.push(name);
        let outcome = self.folder(&folder, path, names);
        names.pop();
        outcome
    }

    /// Whether the folder `name` below `names` is that of a server looked for.
    fn is_wanted(&self, names: &[String], name: &str) -> bool {
        let names = [names, &[name.to_owned()]].concat();
        folders::server_of(&names).is_ok_and(|server| self.is_selected(&server))
    }

    fn is_selected(&self, server: &ServerName) -> bool {
        self.servers.is_empty() || self.servers.contains(server)
    }

    /// Overwrites a file with zeros.
    fn overwrite(&self, folder: &OwnedFd, name: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = fs::File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
        // Of the file that is open: another one may have been put in its place since it was examined.
        let stat = rustix::fs::fstat(&file)?;
        if let Some(reason) = self.reason_to_leave(FileType::from_raw_mode(stat.st_mode), &stat) {
            return Err(io::Error::other(reason));
        }
        let length = file.metadata()?.len();
        io::copy(&mut io::repeat(0).take(length), &mut file)?;
        file.sync_data()
    }

    fn reason_to_leave(&self, kind: FileType, stat: &Stat) -> Option<&'static str> {
        if kind == FileType::Symlink {
            Some("it is a link")
        } else if kind != FileType::RegularFile {
            Some("it is not a regular file")
        } else if stat.st_nlink > 1 {
            Some("it is a hard link, and its records would stay under its other name")
        } else if stat.st_uid != self.user {
            Some("it belongs to another user")
        } else {
            None
        }
    }
}

/// The signal of a file that the Go daemon writes, from its exact name.
fn daemons_own(name: &str) -> Option<Signal> {
    FileName::parse(name)
        .filter(FileName::is_go_daemons)
        .map(|name| name.signal)
}

/// The names in a folder that are UTF-8, sorted.
fn names_in(folder: impl AsFd) -> rustix::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        if let Ok(name) = entry?.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn cannot_read(folder: &Path) -> String {
    format!("cannot read the folder {}", folder.display())
}
