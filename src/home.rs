//! Where databases live: `<home>/telemetry/<stack>/telemetry.redb`, and beside it the room that is
//! reserved for a full disk, `telemetry.reserve`.
//!
//! Telemetry is as private as what it was logged from, so every folder below `home` is 0700 and the
//! files 0600, whatever the umask was, and nothing that belongs to another user is opened: a
//! folder or link that somebody else planted would let them read or redirect what is stored.

use crate::error::{Error, Result};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    io,
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

const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

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
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
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
pub(crate) enum Missing {
    /// Folders and an empty file are created.
    Create,
    /// Nothing is created.
    Leave,
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
    /// component below `home`. `None` when it is missing and [`Missing::Leave`].
    pub(crate) fn open_file(&self, missing: Missing) -> Result<Option<File>> {
        if missing == Missing::Create {
            // Components of `home` itself are the user's affair; those that are created here must
            // not be wider than what stands below them.
            std::os::unix::fs::DirBuilderExt::mode(
                std::fs::DirBuilder::new().recursive(true),
                FOLDER_MODE.bits(),
            )
            .create(&self.home)
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

    /// Opens the file that reserves room; `None` when it is missing and [`Missing::Leave`]. Its
    /// content is nobody's, so no link is followed to where it might be somebody's.
    pub(crate) fn open_reserve(&self, missing: Missing) -> Result<Option<File>> {
        match self.open_folder(Missing::Leave)? {
            Some(folder) => {
                let path = self.reserve();
                open_file(&folder, RESERVE_FILE, &path, OFlags::NOFOLLOW, missing)
            }
            None => Ok(None),
        }
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.folder().join(RESERVE_FILE)
    }

    fn open_folder(&self, missing: Missing) -> Result<Option<OwnedFd>> {
        let mut path = self.home.clone();
        let mut folder = match fs::open(&path, folder_flags(), Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) if missing == Missing::Leave => return Ok(None),
            Err(error) => return Err(Error::io("open the folder", &path, error.into())),
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
    pub(crate) fn lock_creation(&self) -> Result<OwnedFd> {
        let path = self.folder();
        let failed = |error: Errno| Error::io("lock", &path, error.into());
        let folder = fs::open(&path, folder_flags(), Mode::empty()).map_err(failed)?;
        rustix::io::retry_on_intr(|| fs::flock(&folder, FlockOperation::LockExclusive))
            .map_err(failed)?;
        Ok(folder)
    }
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// Opens the folder `name` of `parent`, creating it when asked to.
fn open_folder(
    parent: &OwnedFd,
    name: &str,
    path: &Path,
    missing: Missing,
) -> Result<Option<OwnedFd>> {
    let failed = |action, error: Errno| Error::io(action, path, error.into());
    match fs::openat(
        parent,
        name,
        folder_flags() | own_link(parent, name, path)?,
        Mode::empty(),
    ) {
        Ok(folder) => {
            tighten(&folder, FOLDER_MODE, path)?;
            Ok(Some(folder))
        }
        Err(Errno::NOENT) if missing == Missing::Leave => Ok(None),
        Err(Errno::NOENT) => {
            match fs::mkdirat(parent, name, FOLDER_MODE) {
                // Another process that opens the same stack may have been first.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("create the folder", error)),
            }
            // Without this a power loss could leave a database whose folder never existed.
            fs::fsync(parent).map_err(|error| failed("sync the folder above", error))?;
            let folder = fs::openat(
                parent,
                name,
                folder_flags() | OFlags::NOFOLLOW,
                Mode::empty(),
            )
            .map_err(|error| failed("open the folder", error))?;
            tighten(&folder, FOLDER_MODE, path)?;
            Ok(Some(folder))
        }
        Err(error) => Err(failed("open the folder", error)),
    }
}

/// Opens the file `name` of `folder` for reading and writing, creating it when asked to.
fn open_file(
    folder: &OwnedFd,
    name: &str,
    path: &Path,
    links: OFlags,
    missing: Missing,
) -> Result<Option<File>> {
    let failed = |action, error: Errno| Error::io(action, path, error.into());
    // NONBLOCK: a FIFO planted under this name would otherwise hang the open.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | links;
    let (file, created) = match fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => (file, false),
        Err(Errno::NOENT) if missing == Missing::Leave => return Ok(None),
        Err(Errno::NOENT) => {
            let flags = flags | OFlags::CREATE | OFlags::NOFOLLOW;
            let file = fs::openat(folder, name, flags, FILE_MODE)
                .map_err(|error| failed("create the file", error))?;
            (file, true)
        }
        Err(Errno::ISDIR) => {
            return Err(Error::NotAFile {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(failed("open", error)),
    };
    let stat = fs::fstat(&file).map_err(|error| failed("examine", error))?;
    if fs::FileType::from_raw_mode(stat.st_mode) != fs::FileType::RegularFile {
        return Err(Error::NotAFile {
            path: path.to_owned(),
        });
    }
    tighten(&file, FILE_MODE, path)?;
    if created {
        fs::fsync(folder).map_err(|error| failed("sync the folder of", error))?;
    }
    Ok(Some(File::from(file)))
}

/// Refuses a symbolic link that belongs to another user; one of our own may be followed, for a user
/// may well keep telemetry on another disk. What it points at is checked once it is open.
fn own_link(parent: &OwnedFd, name: &str, path: &Path) -> Result<OFlags> {
    match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Symlink => {
            check_owner(stat.st_uid, path)?;
            Ok(OFlags::empty())
        }
        // Whatever replaces this component between the look and the open must not be a link.
        Ok(_) | Err(Errno::NOENT) => Ok(OFlags::NOFOLLOW),
        Err(error) => Err(Error::io("examine", path, error.into())),
    }
}

/// Checks that an open file or folder is ours, and takes every permission beyond `mode` from it.
fn tighten(file: impl AsFd, mode: Mode, path: &Path) -> Result<()> {
    let stat = fs::fstat(&file).map_err(|error| Error::io("examine", path, error.into()))?;
    check_owner(stat.st_uid, path)?;
    if Mode::from_raw_mode(stat.st_mode) != mode {
        fs::fchmod(&file, mode)
            .map_err(|error| Error::io("tighten the permissions of", path, error.into()))?;
    }
    Ok(())
}

fn check_owner(owner: u32, path: &Path) -> Result<()> {
    let user = rustix::process::geteuid().as_raw();
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
