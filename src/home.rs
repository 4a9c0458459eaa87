//! The location of databases: `<home>/telemetry/<stack>/telemetry.redb`, with the disk blocks
//! reserved for a full disk in `telemetry.reserve` beside it, and `telemetry.<writer>.spill` and
//! `telemetry.<writer>.spill2` for each running writer. A file that cannot be opened as a database is
//! set aside as `telemetry.redb.damaged-<UTC>`, such as `telemetry.redb.damaged-20260508T140312Z`: see
//! [`StoreOptions::set_aside_damaged`](crate::StoreOptions::set_aside_damaged).
//!
//! `<home>` is what the functions of this crate take as `home`: the folder `.gridctl` in the home of
//! the user, or in the folder that `GRIDCTL_HOME` or `--home` names in its place. [`default_home`] and
//! [`home_in`] return it.
//!
//! Telemetry is as private as the traffic it describes. Every folder below `home` is created with mode 0700
//! and every file with 0600, independent of the umask; of those that are there, the permissions of other
//! users are removed and none is added. And no file or folder of another user is opened: a
//! folder or link planted by another user would let that user read or redirect the records.

use crate::{
    error::{Error, Result},
    platform::{self, Entry, FileId, Folder, Links},
    time::Timestamp,
};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io::ErrorKind,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

/// The name of the database file in a stack's folder.
const DATABASE_FILE: &str = "telemetry.redb";
/// The name of the file that reserves disk blocks for deleting on a full disk.
const RESERVE_FILE: &str = "telemetry.reserve";
/// The start of the names of files that were set aside.
const SET_ASIDE_START: &str = "telemetry.redb.damaged-";
/// Maximum number of files that are set aside beside a database.
const SET_ASIDE_MAX: usize = 8;
/// The start of the names of the files of spills.
const SPILL_FILE_START: &str = "telemetry.";
/// The folder below `home` that holds one folder for each stack.
const TELEMETRY_FOLDER: &str = "telemetry";
/// The longest file name of common file systems, in bytes.
const FILE_NAME_BYTES_MAX: usize = 255;

/// The folder of all of gridctl's files in the home of the user.
const GRIDCTL_FOLDER: &str = ".gridctl";

/// The default folder for databases: `$GRIDCTL_HOME/.gridctl`, else `~/.gridctl`.
///
/// `GRIDCTL_HOME` replaces the home of the user, as it does for the rest of gridctl. Empty variables
/// count as unset.
///
/// Fails with [`Error::RelativeHome`] when `GRIDCTL_HOME` is a relative path, and with
/// [`Error::NoHome`] when neither `GRIDCTL_HOME` nor `HOME` is set.
pub fn default_home() -> Result<PathBuf> {
    home_of(std::env::var_os("GRIDCTL_HOME"), std::env::var_os("HOME"))
}

/// The folder for databases when `user_home` replaces the home of the user: `<user_home>/.gridctl`.
/// A program with an option `--home DIR` passes the option's value.
///
/// Fails with [`Error::RelativeHome`] when `user_home` is a relative path.
pub fn home_in(user_home: &Path) -> Result<PathBuf> {
    if user_home.is_absolute() {
        Ok(user_home.join(GRIDCTL_FOLDER))
    } else {
        Err(Error::RelativeHome {
            path: user_home.to_owned(),
        })
    }
}

fn home_of(gridctl_home: Option<OsString>, user_home: Option<OsString>) -> Result<PathBuf> {
    let set = |value: Option<OsString>| value.filter(|value| !value.is_empty()).map(PathBuf::from);
    match (set(gridctl_home), set(user_home)) {
        (Some(home), _) => home_in(&home),
        (None, Some(home)) => Ok(home.join(GRIDCTL_FOLDER)),
        (None, None) => Err(Error::NoHome),
    }
}

/// The names of the stacks that have a database below `home`, sorted.
///
/// A missing `home` has no stacks. Fails with [`Error::Io`] when a folder cannot be read.
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
        // A name that is not UTF-8 cannot be a stack: `StackPath` takes UTF-8 names only.
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
            && folder.join(&name).join(DATABASE_FILE).exists()
        {
            stacks.push(name);
        }
    }
    stacks.sort_unstable();
    Ok(stacks)
}

/// A file that was set aside because it could not be opened as a database.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SetAside {
    /// Its present path, whose end says when it was set aside.
    pub path: PathBuf,
    /// Its disk blocks, in bytes.
    pub size_bytes: u64,
}

/// The files that were set aside beside the database of `stack` below `home`, oldest first.
///
/// No program deletes them, and at most eight are kept: with these, a ninth file that cannot be opened
/// is refused. `gridctl-telemetry verify FILE --salvage DIR` writes what can be read of one to files that
/// `import-jsonl` reads.
///
/// Fails with [`Error::InvalidStackName`], and with [`Error::Io`] when the folder cannot be read.
pub fn list_set_aside(home: &Path, stack: &str) -> Result<Vec<SetAside>> {
    StackPath::new(home, stack)?.list_set_aside()
}

/// The path of one stack's database. Creating the value does no I/O.
#[derive(Debug, Clone)]
pub(crate) struct StackPath {
    home: PathBuf,
    stack: String,
    /// The name of the database file in the stack's folder.
    file: String,
}

fn not_set_aside(path: &Path) -> Error {
    Error::NotADatabase {
        path: path.to_owned(),
        reason: format!("expected a file named STACK/{SET_ASIDE_START}… that was set aside"),
    }
}

/// What opening does when the database is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Create the folders and an empty file.
    Create,
    /// Create nothing.
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
            return Err(invalid("it is a relative path"));
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
            file: DATABASE_FILE.to_owned(),
        })
    }

    /// The path of a file that was set aside. Fails with [`Error::NotADatabase`] when its name says that
    /// it is no such file.
    pub(crate) fn of_set_aside(path: &Path) -> Result<StackPath> {
        let absolute = std::path::absolute(path).map_err(|error| Error::io("find", path, error))?;
        let name = absolute.file_name().and_then(|name| name.to_str());
        let folder = absolute.parent();
        let stack = folder
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        let telemetry = folder.and_then(Path::parent);
        let (Some(name), Some(stack), Some(telemetry)) = (name, stack, telemetry) else {
            return Err(not_set_aside(path));
        };
        match telemetry.parent() {
            Some(home)
                if telemetry
                    .file_name()
                    .is_some_and(|name| name == TELEMETRY_FOLDER)
                    && name.starts_with(SET_ASIDE_START) =>
            {
                let mut place = StackPath::new(home, stack)?;
                name.clone_into(&mut place.file);
                Ok(place)
            }
            _ => Err(not_set_aside(path)),
        }
    }

    pub(crate) fn stack(&self) -> &str {
        &self.stack
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder().join(&self.file)
    }

    /// See [`list_set_aside`].
    pub(crate) fn list_set_aside(&self) -> Result<Vec<SetAside>> {
        let folder = self.folder();
        let failed = |error| Error::io("read the folder", &folder, error);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let is_set_aside =
                (entry.file_name().to_str()).is_some_and(|name| name.starts_with(SET_ASIDE_START));
            // Another program may be moving it away.
            if is_set_aside && let Ok(metadata) = entry.metadata() {
                found.push(SetAside {
                    path: entry.path(),
                    size_bytes: platform::allocated_bytes(&metadata),
                });
            }
        }
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Renames the database file, if it is still `file`, to a name with the time `now`. The caller holds
    /// the lock of [`StackPath::lock_creation`]. Returns the new path; `None` when it is another file.
    ///
    /// Fails with [`Error::TooManySetAside`], which has `reason`, when the maximum number of files was
    /// set aside before.
    pub(crate) fn set_aside(
        &self,
        file: FileId,
        now: Timestamp,
        reason: &str,
    ) -> Result<Option<PathBuf>> {
        let path = self.database();
        let failed = |error| Error::io("set aside", &path, error);
        match std::fs::metadata(&path) {
            Ok(metadata) if platform::file_id(&metadata) == file => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let others = self.list_set_aside()?;
        if others.len() >= SET_ASIDE_MAX {
            return Err(Error::TooManySetAside {
                path,
                reason: reason.to_owned(),
                count: others.len(),
            });
        }
        let Some(folder) = self.open_folder(IfMissing::Skip)? else {
            return Ok(None);
        };
        // 2026-05-08T14:03:12.… becomes 20260508T140312Z.
        let written = now.to_string();
        let seconds = written.chars().take("2026-05-08T14:03:12".len());
        let time: String = seconds.filter(|c| !['-', ':'].contains(c)).collect();
        let base = format!("{SET_ASIDE_START}{time}Z");
        let mut names = std::iter::once(base.clone()).chain((2..).map(|n| format!("{base}-{n}")));
        let is_free = |name: &String| match folder.entry(name) {
            Err(error) => error.kind() == ErrorKind::NotFound,
            Ok(_) => false,
        };
        // At most as many names are taken as files are kept.
        let Some(name) = names.by_ref().take(2 * SET_ASIDE_MAX).find(is_free) else {
            return Err(failed(ErrorKind::AlreadyExists.into()));
        };
        folder.rename(DATABASE_FILE, &name).map_err(failed)?;
        folder.sync().map_err(failed)?;
        Ok(Some(self.folder().join(name)))
    }

    fn folder(&self) -> PathBuf {
        self.home.join(TELEMETRY_FOLDER).join(&self.stack)
    }

    /// Opens the database file for reading and writing, after checking the owner and tightening the
    /// permissions of every component below `home`. Returns `None` when the file is missing and
    /// `missing` is [`IfMissing::Skip`].
    pub(crate) fn open_file(&self, missing: IfMissing) -> Result<Option<File>> {
        if missing == IfMissing::Create {
            self.create_folders()?;
        }
        match self.open_folder(missing)? {
            Some(folder) => {
                let path = self.database();
                let links = own_link(&folder, &self.file, &path)?;
                open_file(&folder, &self.file, &path, links, missing)
            }
            None => Ok(None),
        }
    }

    /// Creates the folders of the database that are missing.
    pub(crate) fn create_folders(&self) -> Result<()> {
        // The permissions of `home` are the user's choice. Components created here must not be
        // accessible to more users than the folders below them.
        Folder::create_all(&self.home)
            .map_err(|error| Error::io("create the folder", &self.home, error))?;
        self.open_folder(IfMissing::Create)?;
        Ok(())
    }

    /// Removes the file that reserves disk blocks, if [`StackPath::open_reserve`] would open it.
    pub(crate) fn remove_reserve(&self) -> Result<()> {
        if self.open_reserve(IfMissing::Skip)?.is_none() {
            return Ok(());
        }
        match self.open_folder(IfMissing::Skip)? {
            Some(folder) => match folder.remove_file(RESERVE_FILE) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(Error::io("remove", &self.reserve(), error))
                }
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Opens the file that reserves disk blocks. `None` when it is missing and `missing` is
    /// [`IfMissing::Skip`], and when the entry of its name is not a file of this user with one name:
    /// releasing the reserve would truncate the file that a link leads to.
    pub(crate) fn open_reserve(&self, missing: IfMissing) -> Result<Option<File>> {
        let Some(folder) = self.open_folder(IfMissing::Skip)? else {
            return Ok(None);
        };
        let path = self.reserve();
        match folder.entry(RESERVE_FILE) {
            Err(error) if error.kind() == ErrorKind::NotFound => match missing {
                IfMissing::Skip => Ok(None),
                IfMissing::Create => {
                    open_file(&folder, RESERVE_FILE, &path, Links::Refuse, missing)
                }
            },
            _ => open_own(&folder, RESERVE_FILE, &path),
        }
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.folder().join(RESERVE_FILE)
    }

    pub(crate) fn spill(&self, writer: u64, file: SpillFile) -> PathBuf {
        self.folder().join(spill_name(writer, file))
    }

    /// Creates a file of the spill of a writer. An entry of its name is left from another database or
    /// another program, and is removed.
    pub(crate) fn create_spill(&self, writer: u64, file: SpillFile) -> Result<File> {
        let path = self.spill(writer, file);
        let failed = |error| Error::io("create the file", &path, error);
        self.remove_spill_file(writer, file)?;
        let folder = (self.open_folder(IfMissing::Skip)?)
            .ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
        let created = folder
            .create_new_file(&spill_name(writer, file))
            .map_err(failed)?;
        open_up(&created, examine(&created, &path)?, &path)?;
        Ok(created)
    }

    /// Opens a file of the spill of a writer. `None` when it is missing, and when the entry of this
    /// name is not a file of this user with one name: only another program can have put that there.
    pub(crate) fn open_spill(&self, writer: u64, file: SpillFile) -> Result<Option<File>> {
        match self.open_folder(IfMissing::Skip)? {
            Some(folder) => {
                let path = self.spill(writer, file);
                open_own(&folder, &spill_name(writer, file), &path)
            }
            None => Ok(None),
        }
    }

    /// Removes the files of the spill of a writer that there are.
    pub(crate) fn remove_spill(&self, writer: u64) -> Result<()> {
        // The first file last: it has the lock, and without it the second would say nothing.
        (SpillFile::BOTH.into_iter().rev())
            .try_for_each(|file| self.remove_spill_file(writer, file))
    }

    fn remove_spill_file(&self, writer: u64, file: SpillFile) -> Result<()> {
        let Some(folder) = self.open_folder(IfMissing::Skip)? else {
            return Ok(());
        };
        match folder.remove_file(&spill_name(writer, file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", &self.spill(writer, file), error))
            }
            _ => Ok(()),
        }
    }

    /// The numbers of the writers that have a file of a spill.
    pub(crate) fn spills(&self) -> Result<BTreeSet<u64>> {
        let folder = self.folder();
        let failed = |error| Error::io("read the folder", &folder, error);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut writers = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            writers.extend(name.to_str().and_then(spill_writer));
        }
        Ok(writers)
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

    /// Waits until no other process is creating this database, and keeps others from doing so while
    /// the returned lock is alive. The folder must exist.
    pub(crate) fn lock_creation(&self) -> Result<Folder> {
        let path = self.folder();
        let failed = |error| Error::io("lock", &path, error);
        let folder = Folder::open(&path).map_err(failed)?;
        folder.lock().map_err(failed)?;
        Ok(folder)
    }
}

/// One of the two files of a writer's spill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpillFile {
    First,
    Second,
}

impl SpillFile {
    pub(crate) const BOTH: [SpillFile; 2] = [SpillFile::First, SpillFile::Second];
}

fn spill_name(writer: u64, file: SpillFile) -> String {
    let end = match file {
        SpillFile::First => "spill",
        SpillFile::Second => "spill2",
    };
    format!("{SPILL_FILE_START}{writer}.{end}")
}

/// The number of the writer that has a spill with a file of this name.
fn spill_writer(name: &str) -> Option<u64> {
    let (number, _) = name.strip_prefix(SPILL_FILE_START)?.split_once('.')?;
    let writer = number.parse().ok()?;
    // `+7` and `007` are numbers, too, but no writer names its file so.
    (SpillFile::BOTH.into_iter())
        .any(|file| spill_name(writer, file) == name)
        .then_some(writer)
}

/// Opens the folder `name` in `parent`, and creates it if `missing` says so.
fn open_folder(
    parent: &Folder,
    name: &str,
    path: &Path,
    missing: IfMissing,
) -> Result<Option<Folder>> {
    let failed = |action, error| Error::io(action, path, error);
    let (folder, created) = match parent.open_folder(name, own_link(parent, name, path)?) {
        Ok(folder) => (folder, false),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if missing == IfMissing::Skip {
                return Ok(None);
            }
            match parent.create_folder(name) {
                Ok(()) => {}
                // Another process that opens the same stack may have created it first.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("create the folder", error)),
            }
            // Without this, a power loss could leave a database whose folder is missing.
            parent
                .sync()
                .map_err(|error| failed("sync the folder above", error))?;
            let folder = parent
                .open_folder(name, Links::Refuse)
                .map_err(|error| failed("open the folder", error))?;
            (folder, true)
        }
        Err(error) => return Err(failed("open the folder", error)),
    };
    let entry = examine(&folder, path)?;
    if created {
        open_up(&folder, entry, path)?;
    } else {
        tighten(&folder, entry, path)?;
    }
    Ok(Some(folder))
}

/// Opens a file of this user with one name, for reading and writing. `None` when it is missing, and
/// when the entry of this name is anything else, which is left as it is.
fn open_own(folder: &Folder, name: &str, path: &Path) -> Result<Option<File>> {
    let Ok(file) = folder.open_file(name, Links::Refuse) else {
        return Ok(None);
    };
    let entry = examine(&file, path)?;
    let metadata = file
        .metadata()
        .map_err(|error| Error::io("examine", path, error))?;
    let is_own =
        entry.is_file() && entry.owner == platform::user_id() && platform::has_one_link(&metadata);
    if is_own {
        tighten(&file, entry, path)?;
    }
    Ok(is_own.then_some(file))
}

/// Opens the file `name` in `folder` for reading and writing, and creates it if `missing` says so.
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
    if created {
        open_up(&file, entry, path)?;
        folder
            .sync()
            .map_err(|error| failed("sync the folder of", error))?;
    } else {
        tighten(&file, entry, path)?;
    }
    Ok(Some(file))
}

/// Fails if the entry is a symbolic link of another user. A link of this user may be followed,
/// because telemetry may be kept on another disk; its target is checked once it is open.
fn own_link(parent: &Folder, name: &str, path: &Path) -> Result<Links> {
    match parent.entry(name) {
        Ok(entry) if entry.is_link() => {
            check_owner(entry.owner, path)?;
            Ok(Links::Follow)
        }
        // If this component is replaced by a link between the check and the open, the open must
        // fail.
        Ok(_) => Ok(Links::Refuse),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Links::Refuse),
        Err(error) => Err(Error::io("examine", path, error)),
    }
}

fn examine(file: impl AsFd, path: &Path) -> Result<Entry> {
    Entry::of(file).map_err(|error| Error::io("examine", path, error))
}

/// Checks that an open file or folder belongs to this user, and removes all permissions of others.
fn tighten(file: impl AsFd, entry: Entry, path: &Path) -> Result<()> {
    check_owner(entry.owner, path)?;
    entry
        .make_private(file)
        .map_err(|error| Error::io("tighten the permissions of", path, error))
}

/// Checks that a file or folder that was just created belongs to this user, and gives it exactly the
/// permissions of its owner.
fn open_up(file: impl AsFd, entry: Entry, path: &Path) -> Result<()> {
    check_owner(entry.owner, path)?;
    entry
        .make_private_and_usable(file)
        .map_err(|error| Error::io("set the permissions of", path, error))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gridctl_home_replaces_the_home_of_the_user() {
        let home = |gridctl: &str, user: &str| {
            let set = |value: &str| Some(OsString::from(value));
            home_of(set(gridctl), set(user))
        };
        for (gridctl, user, expected) in [
            ("/srv/gw", "/home/me", "/srv/gw/.gridctl"),
            ("/srv/gw/.gridctl", "/home/me", "/srv/gw/.gridctl/.gridctl"),
            ("", "/home/me", "/home/me/.gridctl"),
            ("/srv/gw", "", "/srv/gw/.gridctl"),
        ] {
            assert_eq!(home(gridctl, user).unwrap(), Path::new(expected));
        }
        for relative in ["srv/gw", ".", "~/gw"] {
            match home(relative, "/home/me") {
                Err(Error::RelativeHome { path }) => assert_eq!(path, Path::new(relative)),
                other => panic!("{relative}: {other:?}"),
            }
        }
        assert!(matches!(home("", ""), Err(Error::NoHome)));
        assert!(matches!(home_of(None, None), Err(Error::NoHome)));
    }
}
