//! The batches of a signal, which are read and encoded on a thread that all signals share: what that takes of memory
//! does not add up, and the allocator keeps it once and not for each signal.

use crate::{error::ForwardError, lane::Lane, stats::ForwardEvent};
use gridctl_telemetry::{
    Error, Query, ServerName, Timestamp,
    ledger::LedgerEntry,
    query::{Cursor, Damage, Scan},
    send::OtlpBatch,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc::{Sender, channel, sync_channel},
    time::{Duration, Instant},
};

/// The size from which on a batch gets no more records, in bytes. A receiver of OTLP takes 20 MiB by default.
const BYTES_MAX: usize = 512 << 10;
/// The memory for decoded blocks, in bytes.
const SCAN_BYTES: usize = 4 << 20;
/// A snapshot is kept for this time at most.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(5);
/// How many records are read before it is looked whether forwarding is to end.
const LOOK_RECORDS: u32 = 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The thread that reads.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    jobs: Sender<Job>,
}

impl Reader {
    /// A reader, and what its thread does until the last copy of the reader is dropped.
    pub(crate) fn new() -> (Reader, impl FnOnce() + Send + 'static) {
        let (jobs, todo) = channel::<Job>();
        let read = move || {
            for job in todo {
                job();
            }
        };
        (Reader { jobs }, read)
    }

    /// Runs `job` there, and returns what it returns.
    ///
    /// Fails when the thread has ended, which only a panic makes it do.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ForwardError> {
        let (done, outcome) = sync_channel(1);
        let job = move || {
            // The caller waits for it below.
            let _ = done.send(job());
        };
        let sent = self.jobs.send(Box::new(job)).ok();
        sent.and_then(|()| outcome.recv().ok())
            .ok_or_else(|| ForwardError::Option("the thread that reads has ended".to_owned()))
    }
}

/// The rest of a stretch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) since_sequence: u64,
    pub(crate) end_sequence: u64,
    pub(crate) after: Option<Cursor>,
    /// The maximum number of records of a batch.
    pub(crate) records_max: usize,
}

/// A record of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The number of its server.
    pub(crate) server: usize,
    pub(crate) cursor: Cursor,
    pub(crate) at: Timestamp,
}

/// A batch, and where the next one is read.
pub(crate) struct Reading {
    pub(crate) batch: OtlpBatch,
    /// The servers of the batch, and its records.
    pub(crate) names: Vec<ServerName>,
    pub(crate) places: Vec<Place>,
    /// Whether the batch is the last one of its stretch.
    pub(crate) is_read: bool,
    /// What limits have evicted, if that was looked at.
    pub(crate) evicted: Vec<LedgerEntry>,
    scan: Option<(Scan, Instant)>,
    /// What cannot be read, each part once.
    damaged: BTreeSet<String>,
}

impl Reading {
    pub(crate) fn new(batch: OtlpBatch) -> Reading {
        Reading {
            batch,
            names: Vec::new(),
            places: Vec::new(),
            is_read: false,
            evicted: Vec::new(),
            scan: None,
            damaged: BTreeSet::new(),
        }
    }

    /// Reads the next batch. Returns whether there is one, which is not so at the end of the stretch.
    ///
    /// Fails when the store cannot be read.
    pub(crate) fn next(&mut self, lane: &Lane, stretch: &Stretch) -> Result<bool, Error> {
        let filled = self.fill(lane, stretch);
        if !lane.shared.is_only_one_busy() {
            // Each signal would keep decoded blocks while the others decode theirs.
            self.release(lane);
        }
        filled
    }

    /// Gives the snapshot back.
    pub(crate) fn release(&mut self, lane: &Lane) {
        if let Some((scan, _)) = self.scan.take() {
            self.note_damage(lane, &scan.damage());
        }
    }

    fn fill(&mut self, lane: &Lane, stretch: &Stretch) -> Result<bool, Error> {
        self.batch.clear();
        self.names.clear();
        self.places.clear();
        self.is_read = false;
        if !self.open(lane, stretch)? {
            return Ok(false);
        }
        let Some((mut scan, opened)) = self.scan.take() else {
            return Ok(false);
        };
        let mut numbers: BTreeMap<ServerName, usize> = BTreeMap::new();
        let mut unread = 0;
        while self.batch.len() < stretch.records_max && self.batch.bytes() < BYTES_MAX {
            unread += 1;
            if unread % LOOK_RECORDS == 0 && lane.shared.source.is_stopped() {
                break;
            }
            let Some(record) = scan.next()? else {
                self.note_damage(lane, &scan.damage());
                self.is_read = true;
                return Ok(!self.batch.is_empty());
            };
            if record.sequence >= stretch.end_sequence {
                continue;
            }
            if let Err(error) = self.batch.push(&record) {
                lane.count(|stats| stats.damaged += 1);
                lane.tell(ForwardEvent::Damaged {
                    signal: lane.signal,
                    records: Some(1),
                    what: error.to_string(),
                });
                continue;
            }
            let number = if let Some(number) = numbers.get(record.server) {
                *number
            } else {
                self.names.push(record.server.clone());
                numbers.insert(record.server.clone(), self.names.len() - 1);
                self.names.len() - 1
            };
            self.places.push(Place {
                server: number,
                cursor: record.cursor(),
                at: record.timestamp,
            });
        }
        self.scan = Some((scan, opened));
        Ok(!self.batch.is_empty())
    }

    /// Opens a scan of the rest of the stretch, and looks what limits have evicted. Returns whether there is one.
    fn open(&mut self, lane: &Lane, stretch: &Stretch) -> Result<bool, Error> {
        if let Some((_, opened)) = &self.scan
            && opened.elapsed() <= SNAPSHOT_AGE_MAX
        {
            return Ok(true);
        }
        self.release(lane);
        let Some(snapshot) = lane.shared.source.snapshot()? else {
            return Ok(false);
        };
        self.evicted = snapshot.evicted()?;
        let mut query = Query::new(lane.signal)
            .since_sequence(stretch.since_sequence)
            .memory_bytes(SCAN_BYTES)
            .skip_damaged();
        query = lane.servers.iter().cloned().fold(query, Query::server);
        if let Some(after) = stretch.after {
            query = query.after(after);
        }
        self.scan = Some((snapshot.scan(&query)?, Instant::now()));
        Ok(true)
    }

    fn note_damage(&mut self, lane: &Lane, damage: &[Damage]) {
        for damage in damage {
            if !self.damaged.insert(damage.what.clone()) {
                continue;
            }
            lane.count(|stats| stats.damaged += damage.records.unwrap_or_default());
            lane.tell(ForwardEvent::Damaged {
                signal: lane.signal,
                records: damage.records,
                what: damage.what.clone(),
            });
        }
    }
}
