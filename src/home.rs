//! Where databases live: `<home>/telemetry/<stack>/telemetry.redb`, and beside it the room that is
//! reserved for a full disk, `telemetry.reserve`.
//!
//! Telemetry is as private as what it was logged from, so every folder below `home` is 0700 and the
//! files 0600, whatever the umask was, and nothing that belongs to another user is opened: a
//! folder or link that somebody else planted would let them read or redirect what is stored.

use crate::{
    error::{Error, Result},
    platform::{self, Entry, Folder, Links},
};
use std::{
    fs::File,
    io::ErrorKind,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

/// The name of the database in a stack's folder.
const DATABASE_FILE: &str = "telemetry.redb";
/// The name of the file beside it that takes room, for when there is no other.
const RESERVE_FILE: &str = "telemetry.reserve";
/// The folder of `home` that holds a folder for each stack.
const TELEMETRY_FOLDER: &str = "telemetry";
/// The longest file name that common file systems hold, in bytes.
const FILE_NAME_BYTES_MAX: usize = 255;

/// The folder that databases live under when none is named: `$GRIDCTL_HOME`, else `~/.gridctl`.
///
/// Fails with [`Error::NoHome`] when neither `GRIDCTL_HOME` nor `HOME` is set.
pub fn default_home() -> Result<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("GRIDCTL_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".gridctl")))
        .ok_or(Error::NoHome)
}

/// The names of the stacks that have a database below `home`, sorted.
///
/// A missing `home` has none. Fails with [`Error::Io`] when a folder cannot be read.
pub fn list_stacks(home: &Path) -> Result<Vec<String>> {
    let folder = home.join(TELEMETRY_FOLDER);
    let failed = |error| Error::io("read the folder", &folder, error);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut stacks = Vec::new();
    for entry in entries {
        // A name that is not UTF-8 is no stack's: `StackPath` takes UTF-8 names only.
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
            && folder.join(&name).join(DATABASE_FILE).exists()
        {
            stacks.push(name);
        }
    }
    stacks.sort_unstable();
    Ok(stacks)
}

/// The place of one stack's database. Making one touches no disk.
#[derive(Debug, Clone)]
pub(crate) struct StackPath {
    home: PathBuf,
    stack: String,
}

/// Whether a missing database is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Folders and an empty file are created.
    Create,
    /// Nothing is created.
    Skip,
}

impl StackPath {
    /// Fails with [`Error::InvalidStackName`] unless `stack` is one plain path component.
    pub(crate) fn new(home: &Path, stack: &str) -> Result<StackPath> {
        let invalid = |reason| Error::InvalidStackName {
            name: stack.to_owned(),
            reason,
        };
        if stack.is_empty() {
            return Err(invalid("it is empty"));
        }
        if stack == "." || stack == ".." {
            return Err(invalid("it names a folder relative to another"));
        }
        if stack.contains(['/', '\0']) {
            return Err(invalid("it contains a slash or a NUL"));
        }
        if stack.len() > FILE_NAME_BYTES_MAX {
            return Err(invalid("it is longer than 255 bytes"));
        }
        Ok(StackPath {
            home: home.to_owned(),
            stack: stack.to_owned(),
        })
    }

    pub(crate) fn stack(&self) -> &str {
        &self.stack
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder().join(DATABASE_FILE)
    }

    fn folder(&self) -> PathBuf {
        self.home.join(TELEMETRY_FOLDER).join(&self.stack)
    }

    /// Opens the database's file for reading and writing, after checking and tightening every
    /// component below `home`. `None` when it is missing and [`IfMissing::Skip`].
    pub(crate) fn open_file(&self, missing: IfMissing) -> Result<Option<File>> {
        if missing == IfMissing::Create {
            // Components of `home` itself are the user's affair; those that are created here must
            // not be wider than what stands below them.
            Folder::create_all(&self.home)
                .map_err(|error| Error::io("create the folder", &self.home, error))?;
        }
        match self.open_folder(missing)? {
            Some(folder) => {
                let path = self.database();
                let links = own_link(&folder, DATABASE_FILE, &path)?;
                open_file(&folder, DATABASE_FILE, &path, links, missing)
            }
            None => Ok(None),
        }
    }

    /// Opens the file that reserves room; `None` when it is missing and [`IfMissing::Skip`]. Its
    /// content is nobody's, so no link is followed to where it might be somebody's.
    pub(crate) fn open_reserve(&self, missing: IfMissing) -> Result<Option<File>> {
        match self.open_folder(IfMissing::Skip)? {
            Some(folder) => {
                let path = self.reserve();
                open_file(&folder, RESERVE_FILE, &path, Links::Refuse, missing)
            }
            None => Ok(None),
        }
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.folder().join(RESERVE_FILE)
    }

    fn open_folder(&self, missing: IfMissing) -> Result<Option<Folder>> {
        let mut path = self.home.clone();
        let mut folder = match Folder::open(&path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == ErrorKind::NotFound && missing == IfMissing::Skip => {
                return Ok(None);
            }
            Err(error) => return Err(Error::io("open the folder", &path, error)),
        };
        for name in [TELEMETRY_FOLDER, self.stack.as_str()] {
            path.push(name);
            match open_folder(&folder, name, &path, missing)? {
                Some(next) => folder = next,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    /// Waits until no other process creates this database, and lets none do so while the lock
    /// lives. The folder must be there.
    pub(crate) fn lock_creation(&self) -> Result<Folder> {
        let path = self.folder();
        let failed = |error| Error::io("lock", &path, error);
        let folder = Folder::open(&path).map_err(failed)?;
        folder.lock().map_err(failed)?;
        Ok(folder)
    }
}

/// Opens the folder `name` of `parent`, creating it when asked to.
fn open_folder(
    parent: &Folder,
    name: &str,
    path: &Path,
    missing: IfMissing,
) -> Result<Option<Folder>> {
    let failed = |action, error| Error::io(action, path, error);
    let folder = match parent.open_folder(name, own_link(parent, name, path)?) {
        Ok(folder) => folder,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if missing == IfMissing::Skip {
                return Ok(None);
            }
            match parent.create_folder(name) {
                Ok(()) => {}
                // Another process that opens the same stack may have been first.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("create the folder", error)),
            }
            // Without this a power loss could leave a database whose folder never existed.
            parent
                .sync()
                .map_err(|error| failed("sync the folder above", error))?;
            parent
                .open_folder(name, Links::Refuse)
                .map_err(|error| failed("open the folder", error))?
        }
        Err(error) => return Err(failed("open the folder", error)),
    };
    tighten(&folder, examine(&folder, path)?, path)?;
    Ok(Some(folder))
}

/// Opens the file `name` of `folder` for reading and writing, creating it when asked to.
fn open_file(
    folder: &Folder,
    name: &str,
    path: &Path,
    links: Links,
    missing: IfMissing,
) -> Result<Option<File>> {
    let failed = |action, error| Error::io(action, path, error);
    let not_a_file = || Error::NotAFile {
        path: path.to_owned(),
    };
    let (file, created) = match folder.open_file(name, links) {
        Ok(file) => (file, false),
        Err(error) => match (error.kind(), missing) {
            (ErrorKind::NotFound, IfMissing::Skip) => return Ok(None),
            (ErrorKind::NotFound, IfMissing::Create) => {
                let file = folder
                    .create_file(name)
                    .map_err(|error| failed("create the file", error))?;
                (file, true)
            }
            (ErrorKind::IsADirectory, _) => return Err(not_a_file()),
            _ => return Err(failed("open", error)),
        },
    };
    let entry = examine(&file, path)?;
    if !entry.is_file() {
        return Err(not_a_file());
    }
    tighten(&file, entry, path)?;
    if created {
        folder
            .sync()
            .map_err(|error| failed("sync the folder of", error))?;
    }
    Ok(Some(file))
}

/// Refuses a symbolic link that belongs to another user; one of our own may be followed, for a user
/// may well keep telemetry on another disk. What it points at is checked once it is open.
fn own_link(parent: &Folder, name: &str, path: &Path) -> Result<Links> {
    match parent.entry(name) {
        Ok(entry) if entry.is_link() => {
            check_owner(entry.owner, path)?;
            Ok(Links::Follow)
        }
        // Whatever replaces this component between the look and the open must not be a link.
        Ok(_) => Ok(Links::Refuse),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Links::Refuse),
        Err(error) => Err(Error::io("examine", path, error)),
    }
}

fn examine(file: impl AsFd, path: &Path) -> Result<Entry> {
    Entry::of(file).map_err(|error| Error::io("examine", path, error))
}

/// Checks that an open file or folder is ours, and takes every permission from others.
fn tighten(file: impl AsFd, entry: Entry, path: &Path) -> Result<()> {
    check_owner(entry.owner, path)?;
    entry
        .make_private(file)
        .map_err(|error| Error::io("tighten the permissions of", path, error))
}

fn check_owner(owner: u32, path: &Path) -> Result<()> {
    let user = platform::user_id();
    if owner == user {
        Ok(())
    } else {
        Err(Error::ForeignOwner {
            path: path.to_owned(),
            owner,
            user,
        })
    }
}
