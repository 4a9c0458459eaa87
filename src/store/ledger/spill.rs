//! The spill of a writer: a small file beside the database that belongs to one writer.
//!
//! While the writer runs, the file is locked (`flock`), and the system releases the lock when the
//! process ends, however it ends. So a writer runs if its spill is locked, also when its process is a
//! zombie, when another process has its id, and when it runs in another PID namespace.
//!
//! The file starts with a header of [`HEADER_BYTES`]. It is written once when the file is created, so
//! that it has a disk block, and in place afterwards: a writer can then say why it cannot store, also
//! on a full disk.
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
//!     number of the batch 8 | timestamp 8 | time of emission 8 | signal 1 | length of the server 1 |
//!     server | payload
//! ```
//!
//! They are appended by one plain write, and cut off after the commit. If the process is killed in
//! between, the number of the batch says that they are committed. The first record that is cut off
//! or damaged ends the file. Whoever opens the database to write next stores the records of a writer
//! that has ended, in a transaction that also removes the writer's entry, and then removes the file.
//!
//! Integers are little-endian. Nothing is synced: the file must survive the end of the process, not
//! a power failure.

use crate::{
    error::{Error, Result},
    home::StackPath,
    platform,
    record::ServerName,
    signal::Signal,
    store::{
        engine::disk::{DiskHook, DiskOperation},
        layout::{block::RECORD_BYTES_MAX, series},
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
}

/// A record in a spill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpilledRecord<'a> {
    /// The number of the batch that commits it, see [`BatchId`](super::writers::BatchId).
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
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// The spill of a running writer. It stays locked while this value lives.
pub(crate) struct Spill {
    file: File,
    place: StackPath,
    writer: u64,
    header: SpillHeader,
    /// The length of the file, in bytes.
    bytes: u64,
    hook: Option<DiskHook>,
}

impl Spill {
    /// Creates and locks the spill of `writer`. Fails when the file system has no place or no locks.
    pub(crate) fn create(
        place: &StackPath,
        writer: u64,
        wipe_generation: u64,
        hook: Option<DiskHook>,
    ) -> Result<Spill> {
        let file = place.create_spill(writer)?;
        let spill = Spill {
            file,
            place: place.clone(),
            writer,
            header: SpillHeader {
                boot: platform::boot_id().unwrap_or(0),
                wipe_generation,
                failure: None,
                is_closed: false,
            },
            bytes: HEADER_BYTES as u64,
            hook,
        };
        let prepared =
            (spill.file.try_lock().map_err(io::Error::from)).and_then(|()| spill.write_header());
        if let Err(error) = prepared {
            // An unlocked file would say that its writer is dead.
            place.remove_spill(writer)?;
            return Err(Error::io("write to", &place.spill(writer), error));
        }
        Ok(spill)
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
        self.bytes > HEADER_BYTES as u64
    }

    /// The length of the file, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends encoded records. When this fails, the file is as before.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let appended = (self.hook.as_ref())
            .map_or(Ok(()), |hook| {
                hook(DiskOperation::Spill {
                    bytes: records.len(),
                })
            })
            .and_then(|()| self.file.write_all_at(records, self.bytes));
        match appended {
            Ok(()) => self.bytes += records.len() as u64,
            // A part of the records may be there. Without this they would still end the file, as they
            // are cut off.
            Err(_) => _ = self.file.set_len(self.bytes),
        }
        appended
    }

    /// Removes all records.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(HEADER_BYTES as u64)?;
        self.bytes = HEADER_BYTES as u64;
        Ok(())
    }

    /// Keeps the file for the next writer, and releases the lock.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        self.header.is_closed = true;
        self.write_header()
    }

    fn write_header(&self) -> io::Result<()> {
        let header = rmp_serde::to_vec(&self.header).map_err(io::Error::other)?;
        let length = u16::try_from(header.len()).map_err(io::Error::other)?;
        let mut checked = length.to_le_bytes().to_vec();
        checked.extend(header);
        checked.resize(HEADER_BYTES - CHECKED_FROM, 0);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(xxh3_64(&checked).to_le_bytes());
        bytes.extend(checked);
        self.file.write_all_at(&bytes, 0)
    }

    /// Removes the file, which releases the lock.
    pub(crate) fn remove(self) -> Result<()> {
        self.place.remove_spill(self.writer)
    }
}

/// What the file of a spill says about its writer.
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
    let Ok(Some(file)) = place.open_spill(writer) else {
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
    read_header(&place.open_spill(writer).ok()??)
}

/// The header of the spill of `writer`, and its records that are whole; `None` when the file is
/// missing or its header is damaged.
pub(crate) fn read(
    place: &StackPath,
    writer: u64,
) -> Option<(SpillHeader, Vec<SpilledRecord<'static>>)> {
    let file = place.open_spill(writer).ok()??;
    let header = read_header(&file)?;
    let mut records = Vec::new();
    let mut input = BufReader::new(file);
    input.seek(SeekFrom::Start(HEADER_BYTES as u64)).ok()?;
    while let Some(record) = read_record(&mut input) {
        records.push(record);
    }
    Some((header, records))
}

/// The next record; `None` at the end, and when it is cut off or damaged.
fn read_record(input: &mut impl Read) -> Option<SpilledRecord<'static>> {
    let mut head = [0; HEAD_BYTES];
    input.read_exact(&mut head).ok()?;
    let (length, checksum) = head.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if !(BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&length) {
        return None;
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    if u64::from_le_bytes(checksum.try_into().ok()?) != xxh3_64(&body) {
        return None;
    }
    SpilledRecord::decode(&body)
}

fn read_header(file: &File) -> Option<SpillHeader> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (magic, rest) = bytes.split_first_chunk()?;
    let (checksum, checked) = rest.split_first_chunk()?;
    if magic != MAGIC || u64::from_le_bytes(*checksum) != xxh3_64(checked) {
        return None;
    }
    let (length, header) = checked.split_first_chunk()?;
    let header = header.get(..u16::from_le_bytes(*length).into())?;
    rmp_serde::from_slice(header).ok()
}
