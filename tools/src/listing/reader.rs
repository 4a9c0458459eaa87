//! Reading the records of a list, with those around them, in pages.

use super::render::Renderer;
use crate::damage::{Damaged, describe, skipped};
use gridctl_telemetry::{
    Error, Query, Snapshot,
    query::{Cursor, Direction, RawRecord, Scan, StoredRecord},
};
use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// The memory for decoded blocks, in bytes. A scan of many servers that has less than one block of each
/// decodes blocks again for every few records. A list with context has up to three scans at a time.
const SCAN_BYTES: usize = 32 << 20;
const SCAN_BYTES_OF_GROUPS: usize = 16 << 20;
/// The text of a page, in bytes.
const PAGE_BYTES: usize = 64 << 10;
/// A page is shown after this time, if it has a record.
const PAGE_TIME: Duration = Duration::from_millis(250);
/// A snapshot is kept for this time at most, because the space of what is deleted meanwhile cannot be used
/// again. A new one costs little against this time.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(20);
/// The text of last records that is held while they are read backward, in bytes. Longer text is read again
/// forward.
const HELD_BYTES_MAX: usize = 4 << 20;
/// The number of records that are read on the way to the next match, before it is looked for directly.
const READ_ON_MAX: usize = 4096;

/// A part of the records to list: those that arrived with these sequences, after a position in the order of
/// the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) since_sequence: u64,
    /// The first sequence that does not belong to it.
    pub(super) end_sequence: u64,
    /// The last record that was found, or the one before the first to look at.
    pub(super) found: Option<Cursor>,
    /// The last record that was read, found or around a found one. At the end of a page, the last printed.
    pub(super) read: Option<Cursor>,
}

impl Stretch {
    pub(super) fn between(since_sequence: u64, end_sequence: u64) -> Stretch {
        Stretch {
            since_sequence,
            end_sequence,
            found: None,
            read: None,
        }
    }

    pub(super) fn until(end_sequence: u64) -> Stretch {
        Stretch::between(0, end_sequence)
    }

    /// Without records: everything before `sequence` is printed.
    pub(super) fn after(sequence: u64) -> Stretch {
        Stretch::between(sequence, sequence)
    }

    fn includes(&self, record: &RawRecord<'_>) -> bool {
        record.sequence < self.end_sequence
    }
}

/// How a list ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With the last record.
    Complete,
    /// With the last record that was asked for; there are more.
    Cut,
    Interrupted,
}

/// The last records, read backward.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    /// Whether there are more records before them.
    pub(super) is_cut: bool,
    /// Whether their text is complete. Otherwise the stretch begins with the first of them.
    pub(super) is_printed: bool,
}

/// The scans of a stretch, of one snapshot.
pub(super) struct Scans {
    snapshot: Snapshot,
    opened: Instant,
    matches: Scan,
    /// With records around matches: the next match, the scan of all records, and how many were read on the
    /// way to the match.
    target: Option<Cursor>,
    around: Option<Scan>,
    read_on: usize,
}

impl Scans {
    /// Whether the snapshot was kept for so long that a new one should be taken.
    pub(super) fn is_old(&self) -> bool {
        self.opened.elapsed() > SNAPSHOT_AGE_MAX
    }
}

/// Reads and shows records.
pub(super) struct Reader<'a> {
    shown: Shown<'a>,
    matching: Query,
    /// The same records without the filters.
    unfiltered: Query,
    direction: Direction,
    groups: Option<Groups>,
    printed: u64,
}

/// Shows records, and notes what cannot be read.
struct Shown<'a> {
    renderer: Renderer<'a>,
    damage: BTreeSet<Damaged>,
    /// The part of the damage that has not been said.
    unsaid: Vec<Damaged>,
}

/// Records with others around them.
#[derive(Debug)]
struct Groups {
    /// The number of records before and after a match, in the order of the list.
    before: usize,
    after: usize,
    /// The last records that were read and not printed.
    held: VecDeque<StoredRecord>,
    /// How many records are still to be printed after a match.
    left: usize,
    /// Whether a record was left out since the last printed one.
    has_gap: bool,
    has_printed: bool,
}

impl<'a> Reader<'a> {
    /// Shows the records of `matching`, with `around` records of `unfiltered` before and after each.
    pub(super) fn new(
        renderer: Renderer<'a>,
        matching: Query,
        unfiltered: Query,
        around: (usize, usize),
        is_reversed: bool,
    ) -> Reader<'a> {
        let direction = if is_reversed {
            Direction::Backward
        } else {
            Direction::Forward
        };
        let (before, after) = if is_reversed {
            (around.1, around.0)
        } else {
            around
        };
        let memory_bytes = if around == (0, 0) {
            SCAN_BYTES
        } else {
            SCAN_BYTES_OF_GROUPS
        };
        let prepare = |query: Query| {
            let query = query.direction(direction).memory_bytes(memory_bytes);
            query.skip_damaged()
        };
        Reader {
            shown: Shown {
                renderer,
                damage: BTreeSet::new(),
                unsaid: Vec::new(),
            },
            matching: prepare(matching),
            unfiltered: prepare(unfiltered),
            direction,
            groups: (around != (0, 0)).then(|| Groups {
                before,
                after,
                held: VecDeque::new(),
                left: 0,
                has_gap: false,
                has_printed: false,
            }),
            printed: 0,
        }
    }

    pub(super) fn is_reversed(&self) -> bool {
        self.direction == Direction::Backward
    }

    /// The number of records that were found.
    pub(super) fn printed(&self) -> u64 {
        self.printed
    }

    /// Whether a part of the store could not be read.
    pub(super) fn is_damaged(&self) -> bool {
        !self.shown.damage.is_empty()
    }

    /// What is to be said about parts of the store that could not be read, each once.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        describe(std::mem::take(&mut self.shown.unsaid))
    }

    /// The records that come belong to another database.
    pub(super) fn forget(&mut self) {
        if let Some(groups) = &mut self.groups {
            groups.held.clear();
            groups.left = 0;
            groups.has_gap = true;
        }
    }

    /// Reads the last `count` records of a stretch backward. Their text is complete if it is short;
    /// otherwise the stretch begins with them. So neither many records nor long ones fill the memory.
    pub(super) fn last(
        &mut self,
        snapshot: &Snapshot,
        stretch: &mut Stretch,
        count: u64,
        text: &mut Vec<u8>,
    ) -> anyhow::Result<Last> {
        let query = self.matching.clone().direction(Direction::Backward);
        let mut scan = snapshot.scan(&query)?;
        let can_hold = self.groups.is_none() && self.shown.renderer.can_go_backward();
        let mut held = can_hold.then(Vec::new);
        let (mut seen, mut bytes, mut newest) = (0, 0, None);
        let mut is_cut = false;
        while let Some(record) = scan.next()? {
            let cursor = record.cursor();
            if seen == count {
                is_cut = true;
                stretch.found = Some(cursor);
                break;
            }
            seen += 1;
            newest.get_or_insert(cursor);
            if let Some(lines) = &mut held {
                let mut line = Vec::new();
                self.shown.show(&record, &mut line)?;
                bytes += line.len() + size_of::<Vec<u8>>();
                lines.push(line);
                if bytes > HELD_BYTES_MAX {
                    held = None;
                }
            }
        }
        self.shown.note_damage(&scan);
        let Some(lines) = held else {
            return Ok(Last {
                is_cut,
                is_printed: seen == 0,
            });
        };
        lines
            .iter()
            .rev()
            .for_each(|line| text.extend_from_slice(line));
        self.printed += seen;
        (stretch.found, stretch.read) = (newest, newest);
        Ok(Last {
            is_cut,
            is_printed: true,
        })
    }

    /// Opens the scans of a stretch, which continue after what was read of it.
    pub(super) fn open(&self, snapshot: Snapshot, stretch: &Stretch) -> anyhow::Result<Scans> {
        let mut matches = snapshot.scan(&within(&self.matching, stretch, stretch.found))?;
        let target = match self.groups {
            Some(_) => next_in(&mut matches, stretch)?,
            None => None,
        };
        Ok(Scans {
            snapshot,
            opened: Instant::now(),
            matches,
            target,
            around: None,
            read_on: 0,
        })
    }

    /// Appends the next page of a stretch, with at most `left` found records. Returns how the stretch ended,
    /// if it did.
    pub(super) fn page(
        &mut self,
        scans: &mut Scans,
        stretch: &mut Stretch,
        left: &mut Option<u64>,
        text: &mut Vec<u8>,
    ) -> anyhow::Result<Option<Ended>> {
        let until = Instant::now() + PAGE_TIME;
        let ended = loop {
            let ended = if self.groups.is_some() {
                self.step_of_groups(scans, stretch, left, text)?
            } else {
                self.step(&mut scans.matches, stretch, left, text)?
            };
            let is_full = text.len() >= PAGE_BYTES || !text.is_empty() && Instant::now() >= until;
            if ended.is_some() || is_full {
                break ended;
            }
        };
        self.shown.note_damage(&scans.matches);
        if let Some(scan) = &scans.around {
            self.shown.note_damage(scan);
        }
        Ok(ended)
    }

    /// Shows the next record. Returns how the stretch ended, if it did.
    fn step(
        &mut self,
        scan: &mut Scan,
        stretch: &mut Stretch,
        left: &mut Option<u64>,
        text: &mut Vec<u8>,
    ) -> anyhow::Result<Option<Ended>> {
        let Some(record) = scan.next()? else {
            return Ok(Some(Ended::Complete));
        };
        if !stretch.includes(&record) {
            return Ok(None);
        }
        if *left == Some(0) {
            return Ok(Some(Ended::Cut));
        }
        self.shown.show(&record, text)?;
        (stretch.found, stretch.read) = (Some(record.cursor()), Some(record.cursor()));
        self.printed += 1;
        *left = left.map(|left| left - 1);
        Ok(None)
    }
}

/// A query within a stretch, after a position.
fn within(query: &Query, stretch: &Stretch, after: Option<Cursor>) -> Query {
    let query = query.clone().since_sequence(stretch.since_sequence);
    match after {
        Some(cursor) => query.after(cursor),
        None => query,
    }
}

impl Shown<'_> {
    /// Appends a record that was found.
    fn show(&mut self, record: &RawRecord<'_>, text: &mut Vec<u8>) -> anyhow::Result<()> {
        let outcome = self.renderer.show(record, text);
        self.readable(record, outcome)?;
        Ok(())
    }

    /// The outcome of decoding a record; `None` if it cannot be decoded, which is counted.
    fn readable<T>(
        &mut self,
        record: &RawRecord<'_>,
        outcome: gridctl_telemetry::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error @ Error::InvalidRecord { .. }) => {
                let (server, time) = (record.server, record.timestamp);
                self.note((format!("{server}: the record of {time}: {error}"), Some(1)));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Notes what a scan has skipped.
    fn note_damage(&mut self, scan: &Scan) {
        for damage in &scan.damage() {
            self.note(skipped(damage));
        }
    }

    fn note(&mut self, damaged: Damaged) {
        if self.damage.insert(damaged.clone()) {
            self.unsaid.push(damaged);
        }
    }
}

/// Records around those that are found, as `grep -C` shows them.
impl Reader<'_> {
    /// Reads on to the next record that is shown, with those held before it. Returns how the stretch ended,
    /// if it did.
    fn step_of_groups(
        &mut self,
        scans: &mut Scans,
        stretch: &mut Stretch,
        left: &mut Option<u64>,
        text: &mut Vec<u8>,
    ) -> anyhow::Result<Option<Ended>> {
        let Some(groups) = &mut self.groups else {
            return Ok(Some(Ended::Complete));
        };
        loop {
            if groups.left == 0 {
                match scans.target {
                    None => return Ok(Some(Ended::Complete)),
                    Some(_) if *left == Some(0) => return Ok(Some(Ended::Cut)),
                    Some(_) => {}
                }
            }
            let scan = match &mut scans.around {
                Some(scan) => scan,
                none => {
                    if let Some(target) = scans.target.filter(|_| groups.left == 0) {
                        let query = within(&self.unfiltered, stretch, Some(target));
                        groups.skip_to(&scans.snapshot, stretch, query, self.direction)?;
                    }
                    let query = within(&self.unfiltered, stretch, stretch.read);
                    none.insert(scans.snapshot.scan(&query)?)
                }
            };
            let Some(record) = scan.next()? else {
                return Ok(Some(Ended::Complete));
            };
            if !stretch.includes(&record) {
                continue;
            }
            let cursor = record.cursor();
            let is_target = scans.target == Some(cursor);
            if is_target && *left == Some(0) {
                return Ok(Some(Ended::Cut));
            }
            stretch.read = Some(cursor);
            let stored = self.shown.readable(&record, record.to_stored())?;
            if is_target {
                groups.flush(&self.shown.renderer, text);
                if let Some(stored) = stored {
                    self.shown.renderer.text(&stored, true, text);
                }
                stretch.found = Some(cursor);
                self.printed += 1;
                *left = left.map(|left| left - 1);
                groups.left = groups.after;
                scans.target = next_in(&mut scans.matches, stretch)?;
                scans.read_on = 0;
                return Ok(None);
            }
            if groups.left > 0 {
                groups.left -= 1;
                if let Some(stored) = stored {
                    self.shown.renderer.text(&stored, false, text);
                }
                return Ok(None);
            }
            groups.hold(stored);
            scans.read_on += 1;
            if scans.read_on == READ_ON_MAX {
                self.shown.note_damage(scan);
                scans.around = None;
            }
        }
    }

    /// Holds the last records of a stretch that was read, because the first that arrives may be a match.
    pub(super) fn hold_last(
        &mut self,
        snapshot: &Snapshot,
        stretch: Stretch,
    ) -> anyhow::Result<()> {
        let Some(groups) = self.groups.as_mut().filter(|groups| groups.before > 0) else {
            return Ok(());
        };
        let query = within(&self.unfiltered, &stretch, None).direction(Direction::Backward);
        let mut scan = snapshot.scan(&query)?;
        let mut last = Vec::new();
        let mut has_gap = false;
        while let Some(record) = scan.next()? {
            if !stretch.includes(&record) {
                continue;
            }
            if !is_after(Direction::Forward, record.cursor(), stretch.read) {
                break;
            }
            if last.len() == groups.before {
                has_gap = true;
                break;
            }
            last.extend(self.shown.readable(&record, record.to_stored())?);
        }
        if has_gap {
            groups.held.clear();
            groups.has_gap = true;
        }
        for stored in last.into_iter().rev() {
            groups.hold(Some(stored));
        }
        Ok(())
    }
}

impl Groups {
    /// Moves a stretch on to the records before a match, if more than those are between. `query` has the
    /// records before or after the match.
    fn skip_to(
        &mut self,
        snapshot: &Snapshot,
        stretch: &mut Stretch,
        query: Query,
        direction: Direction,
    ) -> anyhow::Result<()> {
        let mut scan = snapshot.scan(&query.direction(opposite(direction)))?;
        let mut count = 0;
        while let Some(record) = scan.next()? {
            if !stretch.includes(&record) {
                continue;
            }
            let cursor = record.cursor();
            if !is_after(direction, cursor, stretch.read) {
                break;
            }
            if count == self.before {
                stretch.read = Some(cursor);
                self.held.clear();
                self.has_gap = true;
                break;
            }
            count += 1;
        }
        Ok(())
    }

    /// Holds a record that may be before a match.
    fn hold(&mut self, stored: Option<StoredRecord>) {
        self.held.extend(stored);
        if self.held.len() > self.before {
            self.held.pop_front();
            self.has_gap = true;
        }
    }

    /// Appends the held records, after a line that separates them from those above if any were left out.
    fn flush(&mut self, renderer: &Renderer<'_>, text: &mut Vec<u8>) {
        if self.has_gap && self.has_printed {
            text.extend_from_slice(b"--\n");
        }
        for stored in self.held.drain(..) {
            renderer.text(&stored, false, text);
        }
        (self.has_gap, self.has_printed) = (false, true);
    }
}

/// The position of the next record of a stretch.
fn next_in(scan: &mut Scan, stretch: &Stretch) -> anyhow::Result<Option<Cursor>> {
    while let Some(record) = scan.next()? {
        if stretch.includes(&record) {
            return Ok(Some(record.cursor()));
        }
    }
    Ok(None)
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Forward => Direction::Backward,
        Direction::Backward => Direction::Forward,
    }
}

/// Whether a position comes after another in this direction.
fn is_after(direction: Direction, cursor: Cursor, other: Option<Cursor>) -> bool {
    match (other, direction) {
        (None, _) => true,
        (Some(other), Direction::Forward) => cursor > other,
        (Some(other), Direction::Backward) => cursor < other,
    }
}
