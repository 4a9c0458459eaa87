//! Verification: every record is read, and everything that is stored about records is compared with
//! them.
//!
//! Damage does not end it. Each read is guarded, and where a table cannot be read any further, it is
//! read from its other end. What is wrong becomes a [`Finding`].

use crate::{
    record::Record,
    store::{
        engine::fault::{Fault, guarded},
        layout::{
            block::{self, BlockHeader, BlockRecord, RECORD_BYTES_MAX, Summary},
            footprint::{self, BlockSize},
            keys::{self, Position},
            row::{self, RowRecords},
            series::{self, SeriesState},
            tables::{
                BLOCK_CHUNKS, BLOCKS, BlockKey, LIMITS, MERGE_QUEUE, ROWS, RowKey, SERIES,
                SUMMARIES, StoredHeader, meta,
            },
        },
        ledger::{
            damage::{self, Finding},
            losses, totals,
            wipes::WipeMarks,
        },
        policy::limits::Limits,
        scan::inventory,
        tiers::{
            blocks,
            rows::{self, DamagedRow, RowTier},
            view::{SeriesEntry, View},
        },
    },
    time::{TimeRange, Timestamp},
};
use redb::{AccessGuard, Range, ReadableTableMetadata};

/// Is told of each finding.
pub(crate) type OnFinding<'a> = dyn FnMut(Finding) + 'a;
/// Is given each record that can be read.
pub(crate) type OnRecord<'a> = dyn FnMut(&SeriesEntry, Position, &[u8]) + 'a;

/// A series, and where its records are.
#[derive(Debug)]
pub(crate) struct SeriesIndex {
    pub(crate) entry: SeriesEntry,
    /// Its blocks, ordered by their first records.
    pub(crate) blocks: Vec<IndexedBlock>,
    /// The positions of the records in its rows, of a damaged one of its last.
    pub(crate) rows: Vec<Position>,
    /// The size of its rows.
    pub(crate) row_tier: RowTier,
}

/// A block, as its key and its header describe it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexedBlock {
    pub(crate) key: BlockKey,
    pub(crate) header: BlockHeader,
    pub(crate) size: BlockSize,
}

impl SeriesIndex {
    /// The number of its records.
    pub(crate) fn records(&self) -> u64 {
        let of_blocks: u64 = (self.blocks.iter())
            .map(|block| u64::from(block.header.count))
            .sum();
        of_blocks + self.row_tier.records
    }
}

/// Reads a range from the front, and from the back if that fails. Returns what was found in the order
/// of its keys, and why not all was found.
fn walk<K, V, T, U>(
    open: impl Fn() -> Result<Range<'static, K, V>, Fault>,
    read: impl Fn(AccessGuard<'_, K>, AccessGuard<'_, V>) -> (T, U),
) -> (Vec<(T, U)>, Option<String>)
where
    K: redb::Key + 'static,
    V: redb::Value + 'static,
    T: Ord,
{
    let mut found: Vec<(T, U)> = Vec::new();
    let mut rest: Vec<(T, U)> = Vec::new();
    let mut forward = match guarded(&open) {
        Ok(range) => range,
        Err(fault) => return (found, Some(fault.reason())),
    };
    let problem = loop {
        let next = guarded(|| {
            let next = forward.next().transpose()?;
            Ok(next.map(|(key, value)| read(key, value)))
        });
        match next {
            Ok(None) => return (found, None),
            // Otherwise pages that name each other would be read for ever.
            Ok(Some((key, _))) if found.last().is_some_and(|(last, _)| key <= *last) => {
                break "the keys do not ascend".to_owned();
            }
            Ok(Some(entry)) => found.push(entry),
            Err(fault) => break fault.reason(),
        }
    };
    if let Ok(mut backward) = guarded(&open) {
        loop {
            let next = guarded(|| {
                let next = backward.next_back().transpose()?;
                Ok(next.map(|(key, value)| read(key, value)))
            });
            match next {
                Ok(Some(entry))
                    if found.last().is_none_or(|(last, _)| entry.0 > *last)
                        && rest.last().is_none_or(|(last, _)| entry.0 < *last) =>
                {
                    rest.push(entry);
                }
                _ => break,
            }
        }
    }
    found.extend(rest.into_iter().rev());
    (found, Some(problem))
}

/// Compares everything that is stored about records without the records themselves, in one state of the
/// database. Returns the series.
pub(crate) fn check_index(view: &View, findings: &mut OnFinding<'_>) -> Vec<SeriesIndex> {
    check_ledger(view, findings);
    let mut series = Vec::new();
    let mut totals = Totals::default();
    for entry in all_series(view, findings, &mut totals) {
        series.push(check_series(view, entry, &mut totals, findings));
    }
    if totals.are_complete {
        let agreed = guarded(|| agree(view, &totals, findings));
        if let Err(fault) = agreed {
            findings(Finding::of_all(fault.reason()));
        }
    }
    series
}

/// Checks that everything can be read that belongs to no series.
fn check_ledger(view: &View, findings: &mut OnFinding<'_>) {
    let transaction = view.transaction();
    let read = |it: &dyn Fn() -> Result<(), Fault>| guarded(it).err().map(Fault::reason);
    let checks = [
        (
            "the limits",
            read(&|| Limits::check(&transaction.open_table(LIMITS)?)),
        ),
        ("the counters", read(&|| view.meta().map(drop))),
        (
            "the known damage",
            read(&|| damage::read(transaction).map(drop)),
        ),
        (
            "the ledger",
            read(&|| losses::read(transaction, TimeRange::from(..)).map(drop)),
        ),
        (
            "the totals of counters",
            read(&|| totals::read(transaction).map(drop)),
        ),
        ("the wipes", read(&|| WipeMarks::check(transaction))),
    ];
    for (what, error) in checks {
        if let Some(error) = error {
            findings(Finding::of_all(format!("cannot read {what}: {error}")));
        }
    }
}

fn all_series(view: &View, findings: &mut OnFinding<'_>, totals: &mut Totals) -> Vec<SeriesEntry> {
    let (found, problem) = walk(
        || {
            Ok(view
                .transaction()
                .open_table(SERIES)?
                .range::<(&str, u8)>(..)?)
        },
        |key, value| {
            let (server, code) = key.value();
            ((server.to_owned(), code), value.value().to_vec())
        },
    );
    totals.are_complete = problem.is_none();
    if let Some(problem) = problem {
        let what = format!("cannot read the list of all servers: {problem}");
        findings(Finding::of_all(what).losing(None));
    }
    let mut series = Vec::new();
    for ((server, code), state) in found {
        match series::read_entry((&server, code), &state) {
            Ok((server, signal, state)) => series.push(SeriesEntry {
                server,
                signal,
                state,
            }),
            Err(fault) => {
                totals.are_complete = false;
                findings(Finding::of_all(fault.reason()).losing(None));
            }
        }
    }
    series
}

fn check_series(
    view: &View,
    entry: SeriesEntry,
    totals: &mut Totals,
    findings: &mut OnFinding<'_>,
) -> SeriesIndex {
    let id = entry.state.id;
    let (headers, problem) = walk(
        || {
            let range = keys::block_range(id);
            let table = view.transaction().open_table(BLOCKS)?;
            Ok(table.range::<&BlockKey>(range.start()..=range.end())?)
        },
        |key, value| (*key.value(), *value.value()),
    );
    let mut is_complete = problem.is_none();
    if let Some(problem) = problem {
        let what = format!("cannot list all blocks: {problem}");
        findings(Finding::of(&entry.server, entry.signal, what).losing(None));
    }
    let mut blocks = Vec::new();
    let mut counted = SeriesState::new(id);
    let mut bounds = Bounds::default();
    for (key, bytes) in headers {
        let (last, _) = keys::block_position(&key);
        match guarded(|| check_header(view, &key, &bytes, &mut counted, totals)) {
            Ok(block) => {
                bounds.extend(block.header.first, last);
                blocks.push(block);
            }
            Err(fault) => {
                is_complete = false;
                findings(
                    Finding::of(&entry.server, entry.signal, fault.reason())
                        .between(last, last)
                        .losing(None),
                );
            }
        }
    }
    let (rows, problem) = walk(
        || rows_of(view, &entry),
        |key, value| (*key.value(), value.value().to_vec()),
    );
    if let Some(problem) = problem {
        is_complete = false;
        let what = format!("cannot read all rows: {problem}");
        findings(Finding::of(&entry.server, entry.signal, what).losing(None));
    }
    let mut row_tier = RowTier::default();
    let mut positions = Vec::new();
    for (key, value) in &rows {
        let extent = row::extent(key, value);
        bounds.extend(extent.first, extent.last);
        row_tier.add_row(key, value);
        // How many records it had is not known, so their number cannot be compared.
        is_complete &= extent.count.is_some();
        match RowRecords::read(key, value) {
            Some(records) => positions.extend(records.map(|(position, _)| position)),
            None => positions.push(keys::row_position(key)),
        }
    }
    positions.sort_unstable();
    totals.rows += rows.len() as u64;
    counted.rows = row_tier.records;
    totals.are_complete &= is_complete;
    // If not all was found, the difference says nothing new.
    if is_complete {
        if counted != entry.state {
            let state = &entry.state;
            let what =
                format!("its entry says {state:?}, but its rows and blocks add up to {counted:?}");
            findings(Finding::of(&entry.server, entry.signal, what));
        }
        let records = counted.block_records + counted.rows;
        let expected = bounds.0.map(|(first, last)| (records, first, last));
        let listed = guarded(|| inventory::inventory_record(view, entry.clone(), None));
        let listed = listed.map(|listed| {
            listed.map(|it| {
                let (first, last) = (it.oldest_time.unix_nanos(), it.newest_time.unix_nanos());
                (it.record_count, first, last)
            })
        });
        match listed {
            Ok(listed) if listed == expected => {}
            Ok(listed) => {
                let what = format!(
                    "the inventory lists (records, oldest, newest) {listed:?}, but there are {expected:?}"
                );
                findings(Finding::of(&entry.server, entry.signal, what));
            }
            Err(fault) => {
                let what = format!("cannot list its inventory: {}", fault.reason());
                findings(Finding::of(&entry.server, entry.signal, what));
            }
        }
    }
    blocks.sort_unstable_by_key(|block| (block.header.first, block.key));
    SeriesIndex {
        blocks,
        rows: positions,
        row_tier,
        entry,
    }
}

/// The earliest and the latest timestamp.
#[derive(Debug, Default)]
struct Bounds(Option<(i64, i64)>);

impl Bounds {
    fn extend(&mut self, first: i64, last: i64) {
        let (oldest, newest) = self.0.unwrap_or((first, last));
        self.0 = Some((oldest.min(first), newest.max(last)));
    }
}

/// The entries that were found in each table.
#[derive(Debug, Default)]
struct Totals {
    /// Whether nothing was passed over.
    are_complete: bool,
    rows: u64,
    blocks: u64,
    chunks: u64,
    summaries: u64,
    queued: u64,
    disk_bytes: u64,
}

/// Checks the header of a block against its key and the merge queue, and counts it.
fn check_header(
    view: &View,
    key: &BlockKey,
    bytes: &StoredHeader,
    counted: &mut SeriesState,
    totals: &mut Totals,
) -> Result<IndexedBlock, Fault> {
    let header = blocks::read_header(key, bytes)?;
    let wrong = |what: &str| {
        let (last, _) = keys::block_position(key);
        let last = Timestamp::from_unix_nanos(last);
        Fault::Corrupt(format!("the block that ends at {last}: {what}"))
    };
    let (last, sequence) = keys::block_position(key);
    let expected = keys::block_key(counted.id, header.span_class(), (header.last, sequence));
    if *key != expected || header.first > header.last {
        return Err(wrong("its key and its header name different times"));
    }
    if !(header.sequence_min..=header.sequence_max).contains(&sequence) || last != header.last {
        return Err(wrong("its key and its header name different records"));
    }
    let transaction = view.transaction();
    let size = blocks::size(&transaction.open_table(SUMMARIES)?, key, &header)?;
    if let Some(level) = header.merge_level() {
        let queue = transaction.open_table(MERGE_QUEUE)?;
        if queue.get(&keys::merge_key(key, level))?.is_none() {
            return Err(wrong("it is missing in the merge queue"));
        }
        totals.queued += 1;
    }
    counted.add_block(&header, size);
    totals.blocks += 1;
    totals.chunks += footprint::chunk_count(header.body_bytes as usize);
    totals.summaries += u64::from(transaction.open_table(SUMMARIES)?.get(key)?.is_some());
    totals.disk_bytes += size.disk_bytes;
    Ok(IndexedBlock {
        key: *key,
        header,
        size,
    })
}

/// Compares the length of each table with the entries that belong to a series.
fn agree(view: &View, totals: &Totals, findings: &mut OnFinding<'_>) -> Result<(), Fault> {
    let transaction = view.transaction();
    // If the counters are damaged, that is a finding of its own.
    let disk_bytes = match view.meta() {
        Ok(meta) => meta.get(meta::BLOCK_DISK_BYTES)?.map_or(0, |it| it.value()),
        Err(_) => totals.disk_bytes,
    };
    for (what, stored, found) in [
        ("rows", transaction.open_table(ROWS)?.len()?, totals.rows),
        (
            "blocks",
            transaction.open_table(BLOCKS)?.len()?,
            totals.blocks,
        ),
        (
            "chunks of blocks",
            transaction.open_table(BLOCK_CHUNKS)?.len()?,
            totals.chunks,
        ),
        (
            "summaries of blocks",
            transaction.open_table(SUMMARIES)?.len()?,
            totals.summaries,
        ),
        (
            "entries of the merge queue",
            transaction.open_table(MERGE_QUEUE)?.len()?,
            totals.queued,
        ),
        ("bytes of blocks on the disk", disk_bytes, totals.disk_bytes),
    ] {
        if stored != found {
            let what = format!("{stored} {what} are stored, and {found} belong to a server");
            findings(Finding::of_all(what));
        }
    }
    Ok(())
}

fn rows_of(
    view: &View,
    entry: &SeriesEntry,
) -> Result<Range<'static, &'static RowKey, &'static [u8]>, Fault> {
    let range = keys::row_range(entry.state.id);
    let table = view.transaction().open_table(ROWS)?;
    Ok(table.range::<&RowKey>(range.start()..=range.end())?)
}

/// Reads and checks a block. One that was deleted or merged since it was listed is passed over.
pub(crate) fn check_block(
    view: &View,
    entry: &SeriesEntry,
    key: &BlockKey,
    records: u64,
    findings: &mut OnFinding<'_>,
    each: &mut OnRecord<'_>,
) {
    let (last, _) = keys::block_position(key);
    let mut first = last;
    let read = guarded(|| {
        let transaction = view.transaction();
        let Some(header) = transaction.open_table(BLOCKS)?.get(key)? else {
            return Ok(None);
        };
        let header = blocks::read_header(key, header.value())?;
        first = header.first;
        let block = blocks::load(&transaction.open_table(BLOCK_CHUNKS)?, key, &header)?;
        let summary = transaction.open_table(SUMMARIES)?.get(key)?;
        Ok(Some((header, block, summary.map(|it| it.value().to_vec()))))
    });
    let (header, block, summary) = match read {
        Ok(Some(read)) => read,
        Ok(None) => return,
        Err(fault) => {
            let finding =
                Finding::of(&entry.server, entry.signal, fault.reason()).between(first, last);
            return findings(finding.losing(Some(records)));
        }
    };
    let mut wrong = |what: &str| {
        let last = Timestamp::from_unix_nanos(last);
        let what = format!("the block that ends at {last}: {what}");
        findings(Finding::of(&entry.server, entry.signal, what).between(header.first, header.last));
    };
    let positions: Vec<Position> = block
        .records()
        .map(|it| (it.timestamp, it.sequence))
        .collect();
    let sequences = || positions.iter().map(|(_, sequence)| *sequence);
    if !positions.is_sorted_by(|a, b| a < b) {
        wrong("its records are not in order");
    }
    if positions.first().map(|it| it.0) != Some(header.first)
        || positions.last() != Some(&keys::block_position(key))
        || sequences().min() != Some(header.sequence_min)
        || sequences().max() != Some(header.sequence_max)
    {
        wrong("its header names other records than it has");
    }
    if let Some(summary) = summary {
        let made = guarded(|| Ok(block::summarize(entry.signal, &header, &block)));
        let is_read = Summary::read(entry.signal, &header, &summary).is_some();
        if !is_read || made.ok().flatten().as_ref() != Some(&summary) {
            wrong("its summary does not agree with its records");
        }
    }
    for record in block.records() {
        check_record(entry, &record, findings, each);
    }
}

/// Reads and checks the rows of a series.
pub(crate) fn check_rows(
    view: &View,
    entry: &SeriesEntry,
    findings: &mut OnFinding<'_>,
    each: &mut OnRecord<'_>,
) {
    // What is passed over was found when the index was checked.
    let (rows, _) = walk(
        || rows_of(view, entry),
        |key, value| (*key.value(), value.value().to_vec()),
    );
    for (key, value) in rows {
        match rows::records(&key, &value) {
            Ok(records) => {
                for (position, payload) in records {
                    let record = BlockRecord::new(position, payload);
                    check_record(entry, &record, findings, each);
                }
            }
            Err(fault) => {
                let row = DamagedRow::new(&key, &value, fault);
                findings(row.finding(&entry.server, entry.signal));
            }
        }
    }
}

fn check_record(
    entry: &SeriesEntry,
    record: &BlockRecord<'_>,
    findings: &mut OnFinding<'_>,
    each: &mut OnRecord<'_>,
) {
    let BlockRecord {
        timestamp,
        sequence,
        payload,
    } = *record;
    let time = Timestamp::from_unix_nanos(timestamp);
    let error = if payload.len() > RECORD_BYTES_MAX {
        Some(format!("it has {} bytes", payload.len()))
    } else {
        let decoded = Record::decode_payload(entry.signal, time, payload);
        decoded.err().map(|error| error.to_string())
    };
    match error {
        None => each(entry, (timestamp, sequence), payload),
        Some(error) => {
            let what = format!("cannot read the record of {time}: {error}");
            let finding =
                Finding::of(&entry.server, entry.signal, what).between(timestamp, timestamp);
            findings(finding.losing(Some(1)));
        }
    }
}
