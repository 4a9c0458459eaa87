//! The differences between operating systems. Only this module uses `rustix`, `std::os` and
//! `/proc`.
//!
//! Linux provides everything below, and is where the tests run. macOS and other Unix systems lack
//! some of it:
//!
//! | | Linux | macOS | consequence where it is missing |
//! |---|---|---|---|
//! | [`boot_id`] | yes | no | Any reading of the clock may be the first after a restart, so a system clock that jumps ahead by up to 32 days is trusted at once instead of after a day |
//! | [`process_start`] | yes | no | While another process runs under the id of a killed writer, the ledger has no entry for the records that this writer lost |
//! | [`boot_nanos`] counts sleep | yes | yes | After more than 32 days of sleep, the system clock is trusted a day late |
//! | [`allocate`] | yes | yes, and may take more | No disk blocks are reserved for deleting on a full disk |
//! | files with holes | yes | on APFS | A database takes as many disk blocks as its file is long |
//! | [`Folder::sync`] | yes | yes, if the file system supports `F_FULLFSYNC` | A new database may be missing after a power loss |

#[cfg(not(unix))]
compile_error!(
    "gridctl-telemetry needs a Unix system: for this one, src/platform.rs lacks private folders \
     and files, a lock on a folder, reserved disk blocks and a clock that processes share"
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
/// cannot be set.
pub(crate) fn monotonic_nanos() -> u64 {
    nanos_of(ClockId::Monotonic)
}

/// Nanoseconds since the machine started, including time spent asleep.
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

/// A number that is different after every start of the machine, and never 0. `None` on systems
/// other than Linux, which do not provide one.
pub(crate) fn boot_id() -> Option<u64> {
    static BOOT_ID: OnceLock<Option<u64>> = OnceLock::new();
    *BOOT_ID.get_or_init(|| {
        let id = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        Some(xxh3_64(&id).max(1))
    })
}

/// Whether a process with this id is running, under any user. A zombie, which has ended and whose
/// parent has not asked for its exit status yet, is not; where [`process_start`] is missing, it
/// counts as running.
pub(crate) fn process_runs(pid: u32) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
        && !process_stat(pid).is_some_and(|stat| stat.has_ended)
}

/// The start time of a process, in clock ticks after the machine started. `None` when the process
/// does not exist, and on systems other than Linux, which do not provide it.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    process_stat(pid).map(|stat| stat.started)
}

/// What `/proc/<pid>/stat` says about a process.
struct ProcessStat {
    /// Whether all threads of the process have ended.
    has_ended: bool,
    /// In clock ticks after the machine started.
    started: u64,
}

fn process_stat(pid: u32) -> Option<ProcessStat> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and the name may itself contain spaces
    // and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    // Fields 3, 20 and 22 of proc(5): state, number of threads, start time.
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(ProcessStat {
        // The state is the main thread's. If only that has ended, the others may still write.
        has_ended: matches!(state, "Z" | "X") && threads <= 1,
        started,
    })
}

/// The name of this machine; empty if it has none.
pub(crate) fn host_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// The effective user id of this process, which owns the files that it creates.
pub(crate) fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The size of a file's disk blocks, in bytes. POSIX counts `st_blocks` in units of 512 bytes,
/// independent of the block size of the file system.
pub(crate) fn allocated_bytes(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// The size of the file system of a file or folder, and how much of it this user may still fill, in
/// bytes.
pub(crate) fn file_system_bytes(path: &Path) -> io::Result<(u64, u64)> {
    let stat = retry_on_intr(|| rustix::fs::statvfs(path))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_blocks), bytes(stat.f_bavail)))
}

/// The identity of a file: its device and inode. It is unique while the file is open.
pub(crate) type FileId = (u64, u64);

/// The identity of the file that `metadata` is of.
pub(crate) fn file_id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// Whether two files are on the same file system.
pub(crate) fn same_disk(a: &Metadata, b: &Metadata) -> bool {
    a.dev() == b.dev()
}

/// Whether a file has one name only, so that changing it changes no file elsewhere.
pub(crate) fn has_one_link(metadata: &Metadata) -> bool {
    metadata.nlink() == 1
}

/// Extends a file shorter than `bytes` to that length, and allocates disk blocks for all of it.
///
/// Fails when the disk is full, or when the file system does not support it.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes))?;
    Ok(())
}

const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Whether opening follows a symbolic link in the last component of a path.
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

/// An open folder whose entries are opened by name. Unlike a path, it cannot be swapped for another
/// folder between two operations.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// Creates a folder and its missing parents, accessible to this user only.
    pub(crate) fn create_all(path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            // Not the bits of `FOLDER_MODE`: they are a `u16` on macOS, and `mode` takes a `u32`.
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

    /// Creates a folder accessible to this user only.
    pub(crate) fn create_folder(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, name, FOLDER_MODE)?)
    }

    /// Opens an entry for reading and writing. The entry may not be a regular file.
    pub(crate) fn open_file(&self, name: &str, links: Links) -> io::Result<File> {
        let flags = file_flags() | links.flags();
        let file = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        Ok(File::from(file))
    }

    /// Opens a file for reading and writing. Creates it if missing, accessible to this user only.
    pub(crate) fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = file_flags() | OFlags::CREATE | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.0, name, flags, FILE_MODE)?;
        Ok(File::from(file))
    }

    /// Creates a file for reading and writing, accessible to this user only. Fails when there is an
    /// entry of this name, also a link that leads nowhere.
    pub(crate) fn create_new_file(&self, name: &str) -> io::Result<File> {
        let flags = file_flags() | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.0, name, flags, FILE_MODE)?;
        Ok(File::from(file))
    }

    /// Removes the entry `name`, which is not a folder: of a link the link, not its target.
    pub(crate) fn remove_file(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Renames the entry `name`, which is not a folder: of a link the link, not its target.
    pub(crate) fn rename(&self, name: &str, new_name: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, name, &self.0, new_name)?)
    }

    /// The metadata of the entry `name`, without following a link.
    pub(crate) fn entry(&self, name: &str) -> io::Result<Entry> {
        let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Entry::new(&stat))
    }

    /// Waits until the entries of this folder are durable on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // On Apple systems `fsync` leaves the data in the cache of the drive.
        #[cfg(target_vendor = "apple")]
        if rustix::fs::fcntl_fullfsync(&self.0).is_ok() {
            return Ok(());
        }
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// Waits until no other process holds this lock, then holds it until the folder is closed.
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

/// NONBLOCK: without it, opening would hang if another program had planted a FIFO under this name.
fn file_flags() -> OFlags {
    OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK
}

/// The file system's metadata of a file, a folder or a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    file_type: FileType,
    mode: Mode,
    pub(crate) owner: u32,
}

impl Entry {
    /// The metadata of an open file or folder.
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

    /// Removes all permissions of users other than the owner. Those that the owner has taken from itself stay
    /// away. `file` is the open file or folder that this entry describes.
    pub(crate) fn make_private(&self, file: impl AsFd) -> io::Result<()> {
        self.set_mode(file, self.mode & self.private_mode())
    }

    /// Gives a file or folder that was just created exactly the permissions of its owner: the umask may have
    /// taken some of them.
    pub(crate) fn make_private_and_usable(&self, file: impl AsFd) -> io::Result<()> {
        self.set_mode(file, self.private_mode())
    }

    fn private_mode(&self) -> Mode {
        if self.file_type == FileType::Directory {
            FOLDER_MODE
        } else {
            FILE_MODE
        }
    }

    fn set_mode(&self, file: impl AsFd, mode: Mode) -> io::Result<()> {
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
        assert!(process_runs(own));
        assert!(process_runs(1), "it belongs to another user");
        for impossible in [0, u32::MAX, i32::MAX.cast_unsigned()] {
            assert!(!process_runs(impossible), "{impossible}");
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
