//! The spill of a writer: two small files beside the database that belong to one writer.
//!
//! While the writer runs, its files are locked (`flock`), and the system releases the locks when the
//! process ends, however it ends. So a writer runs if its first file is locked, also when its process
//! is a zombie, when another process has its id, and when it runs in another PID namespace.
//!
//! Each file starts with a header of [`HEADER_BYTES`]. It is written once when the file is created,
//! so that it has a disk block, and in place afterwards: a writer can then say why it cannot store,
//! also on a full disk.
//!
//! ```text
//! magic 8 | checksum of the rest of the header 8 | length 2 | MessagePack of SpillHeader | zeros
//! ```
//!
//! After the header come records that the writer has collected and not committed, so that they
//! survive when the process is killed:
//!
//! ```text
//! length of the body 4 | checksum of the body 8 | body:
//!     number of a batch 8 | timestamp 8 | time of emission 8 | signal 1 | length of the server 1 |
//!     server | payload
//! ```
//!
//! They are appended by one plain write to one of the files, and cut off after the commit. Records
//! arrive during a commit, too: so a commit begins by turning to the other file, if that is empty,
//! and ends by cutting off the one that it turned away from.
//!
//! The number of a record's batch is greater than that of every batch that is committed before the
//! record, and not greater than that of the batch that has the record. So if the process is killed
//! between a commit and the cut, the last committed number says which records are committed. The next
//! process that opens the database to write stores the others of a writer that has ended, in the
//! order of their numbers, in a transaction that also removes the writer's entry, and then removes
//! the files. A record that is cut off or damaged is lost, and counted in the ledger.
//!
//! Integers are little-endian. Nothing is synced: the files must survive the end of the process, not
//! a power failure.

use crate::{
    error::{Error, Result},
    home::{SpillFile, StackPath},
    platform,
    record::ServerName,
    signal::Signal,
    store::{
        engine::disk::{DiskHook, DiskOperation},
        layout::{block::RECORD_BYTES_MAX, series, values},
    },
};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    fmt,
    fs::{File, TryLockError},
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};
use xxhash_rust::xxh3::xxh3_64;

#[cfg(feature = "simulation")]
pub(crate) mod fuzz;

/// The length of the header, in bytes.
const HEADER_BYTES: usize = 512;
const MAGIC: &[u8; 8] = b"gcspill1";
/// The start of the part of the header that its checksum covers.
const CHECKED_FROM: usize = 16;
/// Maximum length of an error in the header, in bytes.
const ERROR_BYTES_MAX: usize = 400;

/// What a writer says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct SpillHeader {
    /// See [`platform::boot_id`]; 0 where there is none.
    pub(crate) boot: u64,
    /// The number of wipes when the writer started.
    pub(crate) wipe_generation: u64,
    /// Since when the writer cannot store, in nanoseconds since the epoch, and its last error.
    pub(crate) failure: Option<(i64, String)>,
    /// Whether the writer ended properly, and left records because it could not commit them.
    pub(crate) is_closed: bool,
    /// The identity of the writer's database; 0 when an earlier version of this crate wrote it.
    #[serde(default)]
    pub(crate) database: u64,
}

/// A record in a spill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpilledRecord<'a> {
    /// See the head of this module, and [`BatchId`](super::writers::BatchId).
    pub(crate) batch: u64,
    pub(crate) server: Cow<'a, ServerName>,
    pub(crate) signal: Signal,
    pub(crate) timestamp: i64,
    /// When it was emitted, see [`platform::monotonic_nanos`].
    pub(crate) emitted: u64,
    pub(crate) payload: Cow<'a, [u8]>,
}

/// The length of the length and the checksum before a body.
const HEAD_BYTES: usize = 4 + 8;
/// The length of a body without server and payload.
const BODY_BYTES_MIN: usize = 8 + 8 + 8 + 1 + 1;
const BODY_BYTES_MAX: usize = BODY_BYTES_MIN + ServerName::BYTES_MAX + RECORD_BYTES_MAX;

impl SpilledRecord<'_> {
    /// Appends the record to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let server = self.server.as_bytes();
        let mut body = Vec::with_capacity(BODY_BYTES_MIN + server.len() + self.payload.len());
        body.extend(self.batch.to_le_bytes());
        body.extend(self.timestamp.to_le_bytes());
        body.extend(self.emitted.to_le_bytes());
        body.push(self.signal as u8);
        // A server name has at most 255 bytes.
        body.push(u8::try_from(server.len()).unwrap_or(u8::MAX));
        body.extend(server);
        body.extend(&*self.payload);
        // A longer payload is refused before.
        out.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(xxh3_64(&body).to_le_bytes());
        out.append(&mut body);
    }

    fn decode(body: &[u8]) -> Option<SpilledRecord<'static>> {
        let (batch, rest) = body.split_first_chunk()?;
        let (timestamp, rest) = rest.split_first_chunk()?;
        let (emitted, rest) = rest.split_first_chunk()?;
        let ([signal, server_bytes], rest) = rest.split_first_chunk()?;
        let (server, payload) = rest.split_at_checked((*server_bytes).into())?;
        let server = ServerName::new(std::str::from_utf8(server).ok()?).ok()?;
        Some(SpilledRecord {
            batch: u64::from_le_bytes(*batch),
            server: Cow::Owned(server),
            signal: series::signal_of(*signal).ok()?,
            timestamp: i64::from_le_bytes(*timestamp),
            emitted: u64::from_le_bytes(*emitted),
            payload: Cow::Owned(payload.to_vec()),
        })
    }
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spill")
            .field("writer", &self.writer)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// The spill of a running writer. It stays locked while this value lives.
pub(crate) struct Spill {
    /// The file that records are appended to.
    current: Part,
    /// Once a commit has ended, all its records are committed, see [`Spill::turn`].
    other: Part,
    place: StackPath,
    writer: u64,
    header: SpillHeader,
    hook: Option<DiskHook>,
}

/// A file of a spill.
struct Part {
    file: File,
    /// The length of the file, in bytes.
    bytes: u64,
}

impl Part {
    fn create(place: &StackPath, writer: u64, file: SpillFile) -> Result<Part> {
        let created = place.create_spill(writer, file)?;
        match created.try_lock() {
            Ok(()) => Ok(Part {
                file: created,
                bytes: HEADER_BYTES as u64,
            }),
            Err(error) => Err(Error::io("lock", &place.spill(writer, file), error.into())),
        }
    }

    fn has_records(&self) -> bool {
        self.bytes > HEADER_BYTES as u64
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.has_records() {
            self.file.set_len(HEADER_BYTES as u64)?;
            self.bytes = HEADER_BYTES as u64;
        }
        Ok(())
    }
}

impl Spill {
    /// Creates and locks the spill of `writer`, in a database whose newest wipe is `wipe_generation`. Fails when the file system has no place or no locks.
    pub(crate) fn create(
        place: &StackPath,
        writer: u64,
        (database, wipe_generation): (u64, u64),
        hook: Option<DiskHook>,
    ) -> Result<Spill> {
        let create = || {
            let spill = Spill {
                current: Part::create(place, writer, SpillFile::First)?,
                other: Part::create(place, writer, SpillFile::Second)?,
                place: place.clone(),
                writer,
                header: SpillHeader {
                    boot: platform::boot_id().unwrap_or(0),
                    wipe_generation,
                    failure: None,
                    is_closed: false,
                    database,
                },
                hook,
            };
            let path = place.spill(writer, SpillFile::First);
            (spill.write_header()).map_err(|error| Error::io("write to", &path, error))?;
            Ok(spill)
        };
        let created = create();
        if created.is_err() {
            // An unlocked file would say that its writer is dead.
            place.remove_spill(writer)?;
        }
        created
    }

    /// Says since when the writer cannot store, and why; `None` when it can.
    pub(crate) fn set_failure(&mut self, failure: Option<(i64, &str)>) -> io::Result<()> {
        self.header.failure = failure.map(|(since, error)| {
            let fits = |(at, next): &(usize, char)| at + next.len_utf8() <= ERROR_BYTES_MAX;
            let error = error.char_indices().take_while(fits);
            (since, error.map(|(_, next)| next).collect())
        });
        self.write_header()
    }

    /// Whether it holds records.
    pub(crate) fn has_records(&self) -> bool {
        self.current.has_records() || self.other.has_records()
    }

    /// The length of both files, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.current.bytes + self.other.bytes
    }

    /// Appends encoded records. When this fails, the file is as before.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let Part { file, bytes } = &mut self.current;
        let operation = DiskOperation::Spill {
            bytes: records.len(),
        };
        let appended = (self.hook.as_ref())
            .map_or(Ok(()), |hook| hook(operation))
            .and_then(|()| file.write_all_at(records, *bytes));
        match appended {
            Ok(()) => *bytes += records.len() as u64,
            // A part of the records may be there, and would count as lost.
            Err(_) => _ = file.set_len(*bytes),
        }
        appended
    }

    /// To be called when a commit begins. Records that are appended from here on are not cut off when
    /// it ends.
    pub(crate) fn turn(&mut self) {
        // Otherwise the last commit failed. What it was to cut off, this one does.
        if !self.other.has_records() {
            std::mem::swap(&mut self.current, &mut self.other);
        }
    }

    /// To be called when a commit of all records has succeeded that were there when it began: cuts
    /// them off, except those appended after a commit that failed, which the next one cuts off.
    pub(crate) fn clear_committed(&mut self) -> io::Result<()> {
        self.other.clear()
    }

    /// Keeps the files for the next writer, and releases the locks.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        self.header.is_closed = true;
        self.write_header()
    }

    fn write_header(&self) -> io::Result<()> {
        let header = values::encode(&self.header).map_err(io::Error::other)?;
        let length = u16::try_from(header.len()).map_err(io::Error::other)?;
        let mut checked = length.to_le_bytes().to_vec();
        checked.extend(header);
        checked.resize(HEADER_BYTES - CHECKED_FROM, 0);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(xxh3_64(&checked).to_le_bytes());
        bytes.extend(checked);
        self.current.file.write_all_at(&bytes, 0)?;
        self.other.file.write_all_at(&bytes, 0)
    }

    /// Removes the files, which releases the locks.
    pub(crate) fn remove(self) -> Result<()> {
        self.place.remove_spill(self.writer)
    }
}

/// The lock of a writer that has no spill, because there is no room for its header. It is released when
/// this value is dropped.
#[derive(Debug)]
pub(crate) struct SpillLock {
    _file: File,
}

impl SpillLock {
    /// Creates and locks the first file of the spill of `writer`, without contents; `None` when the file
    /// system has no place for a file, or no locks.
    pub(crate) fn hold(place: &StackPath, writer: u64) -> Option<SpillLock> {
        let file = place.create_spill(writer, SpillFile::First).ok()?;
        if file.try_lock().is_ok() {
            return Some(SpillLock { _file: file });
        }
        // An unlocked file would say that its writer is dead.
        let _ = place.remove_spill(writer);
        None
    }
}

/// What the first file of a spill says about its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// The writer runs.
    Held,
    /// The writer has ended.
    Free,
    /// The file is missing, or its file system has no locks.
    Unknown,
}

/// Whether the spill of `writer` is locked.
pub(crate) fn lock_of(place: &StackPath, writer: u64) -> Lock {
    let Ok(Some(file)) = place.open_spill(writer, SpillFile::First) else {
        return Lock::Unknown;
    };
    // Shared, so that processes that look at the same time do not take each other for the writer.
    match file.try_lock_shared() {
        Ok(()) => Lock::Free,
        Err(TryLockError::WouldBlock) => Lock::Held,
        Err(TryLockError::Error(_)) => Lock::Unknown,
    }
}

/// The header of the spill of `writer`; `None` when it is missing or damaged.
pub(crate) fn header_of(place: &StackPath, writer: u64) -> Option<SpillHeader> {
    (SpillFile::BOTH.into_iter())
        .find_map(|file| read_header(&place.open_spill(writer, file).ok()??))
}

/// What a writer left in its spill.
#[derive(Debug)]
pub(crate) struct Spilled {
    pub(crate) header: SpillHeader,
    /// The whole records that are not committed, in the order in which the writer took them.
    pub(crate) records: Vec<SpilledRecord<'static>>,
    /// The number of records that are cut off or damaged, as far as it is known.
    pub(crate) lost: u64,
}

impl Spilled {
    /// Whether it left nothing that is not committed.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.lost == 0
    }
}

/// What `writer`, whose last commit was of the batch `last_batch`, left in its spill; `None` when it
/// has none, or its headers are damaged.
pub(crate) fn read(place: &StackPath, writer: u64, last_batch: u64) -> Option<Spilled> {
    let header = header_of(place, writer)?;
    let mut records = Vec::new();
    let mut lost = 0;
    for file in SpillFile::BOTH {
        let Ok(Some(file)) = place.open_spill(writer, file) else {
            continue;
        };
        let mut input = BufReader::new(file);
        if input.seek(SeekFrom::Start(HEADER_BYTES as u64)).is_err() {
            continue;
        }
        loop {
            match read_record(&mut input) {
                Next::Record(record) if record.batch > last_batch => records.push(record),
                Next::Record(_) => {}
                Next::Lost { batch, is_last } => {
                    lost += u64::from(batch.is_none_or(|batch| batch > last_batch));
                    if is_last {
                        break;
                    }
                }
                Next::End => break,
            }
        }
    }
    // A stable sort: records with equal numbers are in one file, in the right order.
    records.sort_by_key(|record| record.batch);
    Some(Spilled {
        header,
        records,
        lost,
    })
}

/// Whether the spill of `writer` holds records that were emitted before `emitted_before`, see
/// [`platform::monotonic_nanos`], committed ones included.
pub(crate) fn holds_older(place: &StackPath, writer: u64, emitted_before: u64) -> bool {
    SpillFile::BOTH.into_iter().any(|file| {
        let Ok(Some(file)) = place.open_spill(writer, file) else {
            return false;
        };
        let mut input = BufReader::new(file);
        if input.seek(SeekFrom::Start(HEADER_BYTES as u64)).is_err() {
            return false;
        }
        loop {
            match read_record(&mut input) {
                Next::Record(record) if record.emitted < emitted_before => return true,
                Next::Record(_) | Next::Lost { is_last: false, .. } => {}
                // Its writer is just appending it.
                Next::Lost { .. } | Next::End => return false,
            }
        }
    })
}

/// What comes next in a file.
enum Next {
    Record(SpilledRecord<'static>),
    /// A record that is cut off or damaged, with the number of its batch if that is there. It is the
    /// last one if it is cut off or its length is damaged.
    Lost {
        batch: Option<u64>,
        is_last: bool,
    },
    End,
}

fn read_record(input: &mut impl Read) -> Next {
    let mut read = |length: usize| {
        let mut bytes = Vec::new();
        // What cannot be read is as good as cut off.
        let _ = input.by_ref().take(length as u64).read_to_end(&mut bytes);
        bytes
    };
    let head = read(HEAD_BYTES);
    if head.is_empty() {
        return Next::End;
    }
    let length = head
        .first_chunk()
        .map_or(0, |length| u32::from_le_bytes(*length));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if head.len() < HEAD_BYTES || !(BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&length) {
        return Next::Lost {
            batch: None,
            is_last: true,
        };
    }
    let body = read(length);
    let is_whole = body.len() == length && head.ends_with(&xxh3_64(&body).to_le_bytes());
    match is_whole.then(|| SpilledRecord::decode(&body)).flatten() {
        Some(record) => Next::Record(record),
        None => Next::Lost {
            batch: body.first_chunk().map(|batch| u64::from_le_bytes(*batch)),
            is_last: body.len() < length,
        },
    }
}

fn read_header(file: &File) -> Option<SpillHeader> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).ok()?;
    decode_header(&bytes)
}

fn decode_header(bytes: &[u8; HEADER_BYTES]) -> Option<SpillHeader> {
    let (magic, rest) = bytes.split_first_chunk()?;
    let (checksum, checked) = rest.split_first_chunk()?;
    if magic != MAGIC || u64::from_le_bytes(*checksum) != xxh3_64(checked) {
        return None;
    }
    let (length, header) = checked.split_first_chunk()?;
    let header = header.get(..u16::from_le_bytes(*length).into())?;
    values::decode(header).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreOptions};

    #[test]
    fn the_longest_record_comes_back_and_no_longer_one_is_read() {
        let longest = SpilledRecord {
            batch: 7,
            server: Cow::Owned(ServerName::new("x".repeat(ServerName::BYTES_MAX)).unwrap()),
            signal: Signal::Logs,
            timestamp: 1,
            emitted: 2,
            payload: Cow::Owned(vec![7; RECORD_BYTES_MAX]),
        };
        let mut bytes = Vec::new();
        longest.encode(&mut bytes);
        let found = read_record(&mut bytes.as_slice());
        assert!(matches!(found, Next::Record(found) if found == longest));

        // A damaged length must not take memory.
        let (length, _) = bytes.split_first_chunk().unwrap();
        let longer = u32::from_le_bytes(*length) + 1;
        let head = [longer.to_le_bytes().as_slice(), &[0; 8]].concat();
        let mut input = head.as_slice().chain(std::io::repeat(0).take(1 << 30));
        assert!(matches!(
            read_record(&mut input),
            Next::Lost {
                batch: None,
                is_last: true
            }
        ));
        assert_eq!(input.into_inner().1.limit(), 1 << 30);
    }

    #[test]
    fn a_long_error_is_cut_between_two_characters() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), "stack", StoreOptions::default()).unwrap();
        let mut spill = Spill::create(store.place(), 7, (1, 0), None).unwrap();
        for (error, kept) in [
            ("x".repeat(ERROR_BYTES_MAX), ERROR_BYTES_MAX),
            ("x".repeat(ERROR_BYTES_MAX + 1), ERROR_BYTES_MAX),
            ("é".repeat(ERROR_BYTES_MAX / 2), ERROR_BYTES_MAX),
            (
                format!("x{}", "é".repeat(ERROR_BYTES_MAX)),
                ERROR_BYTES_MAX - 1,
            ),
        ] {
            spill.set_failure(Some((5, &error))).unwrap();
            let header = header_of(store.place(), 7).unwrap();
            assert_eq!(header.failure, Some((5, error[..kept].to_owned())));
        }
    }
}
