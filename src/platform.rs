//! What differs between operating systems. Only this module names `rustix`, `std::os` and `/proc`.
//!
//! Linux has all of it, and is what the tests run on. macOS and other Unix systems lack some:
//!
//! | | Linux | macOS | consequence where it is missing |
//! |---|---|---|---|
//! | [`boot_id`] | yes | no | Any moment may follow a restart, so a system clock that jumps ahead by up to 32 days is trusted at once, not after a day |
//! | [`process_start`] | yes | no | While another process has the id of a killed writer, the ledger has no entry for what that writer lost |
//! | [`boot_nanos`] counts sleep | yes | yes | After more than 32 days of sleep, the system clock is trusted a day late |
//! | [`allocate`] | yes | yes, and may take more | No disk blocks are reserved for deleting on a full disk |
//! | files with holes | yes | on APFS | A database takes as many disk blocks as its file is long |
//! | [`Folder::sync`] | yes | yes, if the file system knows `F_FULLFSYNC` | A new database may be missing after a power loss |

#[cfg(not(unix))]
compile_error!(
    "gridctl-telemetry needs a Unix system: for this one, src/platform.rs has no private folders \
     and files, no lock on a folder, no reserved disk blocks and no clock that processes share"
);

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags},
    io::{Errno, retry_on_intr},
    process::Pid,
    time::{ClockId, clock_gettime},
};
use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
    sync::OnceLock,
};
use xxhash_rust::xxh3::xxh3_64;

/// Nanoseconds on a clock that all processes of this machine share, that never goes back, and that
/// nobody sets.
pub(crate) fn monotonic_nanos() -> u64 {
    nanos_of(ClockId::Monotonic)
}

/// Nanoseconds since the machine was started, those in which it slept included.
pub(crate) fn boot_nanos() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    nanos_of(clock)
}

fn nanos_of(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Tells this start of the machine from every other one; never 0. `None` where the system does not
/// say, which is everywhere but on Linux.
pub(crate) fn boot_id() -> Option<u64> {
    static BOOT_ID: OnceLock<Option<u64>> = OnceLock::new();
    *BOOT_ID.get_or_init(|| {
        let id = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        Some(xxh3_64(&id).max(1))
    })
}

/// Whether a process of this id is running, whoever's it is.
pub(crate) fn process_exists(pid: u32) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

/// When a process started, in ticks since the machine was. `None` where the system does not say,
/// which is everywhere but on Linux, or when there is no such process.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    // Field 22, see proc(5).
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold spaces and more of them.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// The user as whom this process creates files.
pub(crate) fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The disk blocks of a file, in bytes. POSIX counts `st_blocks` in units of 512 bytes, whatever
/// the file system's blocks are.
pub(crate) fn allocated_bytes(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// Whether two files are on the same file system.
pub(crate) fn same_disk(a: &Metadata, b: &Metadata) -> bool {
    a.dev() == b.dev()
}

/// Gives a file that is shorter than `bytes` this length, and disk blocks for all of it.
///
/// Fails when the disk is full, or when the file system cannot do it.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes))?;
    Ok(())
}

const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Whether a symbolic link as the last component of a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Refuse,
}

impl Links {
    fn flags(self) -> OFlags {
        match self {
            Links::Follow => OFlags::empty(),
            Links::Refuse => OFlags::NOFOLLOW,
        }
    }
}

/// An open folder, in which entries are reached by name: unlike a path, it cannot be replaced by
/// another folder between two steps.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// Creates a folder and the missing ones above it, each for this user alone.
    pub(crate) fn create_all(path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            // Not the bits of `FOLDER_MODE`: on macOS they are a `u16`, and this wants a `u32`.
            .mode(0o700)
            .create(path)
    }

    pub(crate) fn open(path: &Path) -> io::Result<Folder> {
        Ok(Folder(rustix::fs::open(
            path,
            folder_flags(),
            Mode::empty(),
        )?))
    }

    pub(crate) fn open_folder(&self, name: &str, links: Links) -> io::Result<Folder> {
        let flags = folder_flags() | links.flags();
        let folder = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        Ok(Folder(folder))
    }

    /// Creates a folder for this user alone.
    pub(crate) fn create_folder(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, name, FOLDER_MODE)?)
    }

    /// Opens a file for reading and writing. It may turn out to be no regular file.
    pub(crate) fn open_file(&self, name: &str, links: Links) -> io::Result<File> {
        let flags = file_flags() | links.flags();
        let file = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        Ok(File::from(file))
    }

    /// Opens a file for reading and writing, and creates it for this user alone if it is missing.
    pub(crate) fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = file_flags() | OFlags::CREATE | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.0, name, flags, FILE_MODE)?;
        Ok(File::from(file))
    }

    /// What stands under this name; a link is not followed.
    pub(crate) fn entry(&self, name: &str) -> io::Result<Entry> {
        let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Entry::new(&stat))
    }

    /// Waits until the names in this folder are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // There, `fsync` leaves the data in the drive's cache.
        #[cfg(target_vendor = "apple")]
        if rustix::fs::fcntl_fullfsync(&self.0).is_ok() {
            return Ok(());
        }
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// Waits until no other process holds this lock, and holds it as long as the folder is open.
    pub(crate) fn lock(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| {
            rustix::fs::flock(&self.0, FlockOperation::LockExclusive)
        })?)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// NONBLOCK: a FIFO planted under the file's name would otherwise hang the open.
fn file_flags() -> OFlags {
    OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK
}

/// What the file system says of a file, a folder or a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    file_type: FileType,
    mode: Mode,
    pub(crate) owner: u32,
}

impl Entry {
    /// That of an open file or folder.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Entry> {
        Ok(Entry::new(&rustix::fs::fstat(file)?))
    }

    fn new(stat: &rustix::fs::Stat) -> Entry {
        Entry {
            file_type: FileType::from_raw_mode(stat.st_mode),
            mode: Mode::from_raw_mode(stat.st_mode),
            owner: stat.st_uid,
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        self.file_type == FileType::RegularFile
    }

    pub(crate) fn is_link(&self) -> bool {
        self.file_type == FileType::Symlink
    }

    /// Takes every permission from others than the owner of an open file or folder, which this
    /// entry is of.
    pub(crate) fn make_private(&self, file: impl AsFd) -> io::Result<()> {
        let mode = if self.file_type == FileType::Directory {
            FOLDER_MODE
        } else {
            FILE_MODE
        };
        if self.mode != mode {
            rustix::fs::fchmod(file, mode)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_id_and_its_start() {
        let own = std::process::id();
        assert!(process_exists(own));
        assert!(process_exists(1), "it belongs to somebody else");
        for impossible in [0, u32::MAX, i32::MAX.cast_unsigned()] {
            assert!(!process_exists(impossible), "{impossible}");
            assert_eq!(process_start(impossible), None);
        }
        #[cfg(target_os = "linux")]
        {
            assert!(process_start(own).unwrap() >= process_start(1).unwrap());
            assert!(boot_id().is_some());
        }
    }

    #[test]
    fn allocated_bytes_are_disk_blocks() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let before = allocated_bytes(&file.metadata().unwrap());
        if allocate(&file, 2 << 20).is_ok() {
            let metadata = file.metadata().unwrap();
            assert_eq!(metadata.len(), 2 << 20);
            assert!(allocated_bytes(&metadata) >= 2 << 20);
            assert!(before <= 1 << 20);
            assert!(same_disk(&metadata, &metadata));
        }
    }
}
