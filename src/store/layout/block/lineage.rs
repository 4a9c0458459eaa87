//! Lineage: what of the ids and times of a span follows from the spans of its trace before it, for
//! [`Codec::Spans`](super::Codec::Spans).
//!
//! Ids are random, and most of a block of spans. Stored one by one, a trace id is there again for each of its
//! spans, and the id of a span for each of its children. So ids are stored once, in the order in which they first
//! occur, and each place of one says where it was before. And a span begins soon after another one of its trace has
//! ended, or soon before its own children.
//!
//! All of this depends on what a span is: a tool call is the last of its trace, and its first child has a new id. So
//! there is a column for each *group* of records: those of a shape with at least [`GROUP_MIN`] records, and all
//! others, which are group 0. The columns of a group, all packed, see [`pack`]:
//!
//! ```text
//! column      for each record of the group
//! next shapes the shape of the record after it, 0 for the last
//! gaps        the nanoseconds between the record before it and it, 0 for the first
//! traces      0: a new trace id; n: the trace number n - 1 of the recent ones
//! parents     if its shape has a parent: 0: a new id; n: the id number n - 1 of the trace
//! spans       its own id, likewise
//! starts      the distance of its start from a base, zigzag
//! ```
//!
//! *Recent* traces come in the reverse order of their last span, those whose root has been there after all others. The
//! *ids of a trace* come in the reverse order of their last use. The *base* is one of four for all records of a
//! group: 0 its timestamp, 1 the end of the last span of the trace, 2 the earliest start in the trace, 3 the start of
//! the last span of the trace. The start is before 0 and 2, and after 1 and 3, by its distance. For the first span of a
//! trace, the base is its timestamp.

use super::{
    bytes::{Reader, Writer, unzigzag, zigzag},
    columns::{Decoded, Ints, Section},
    narrow, pack,
    sections::Sections,
    shapes::SHAPES_MAX,
};
use hashbrown::HashMap;
use std::{borrow::Cow, cell::OnceCell, rc::Rc};

/// The number of records from which a shape is a group. A column of fewer values is not compressed.
const GROUP_MIN: usize = pack::FEW;
/// The number of recent traces that are referred to.
const RECENT_MAX: usize = 254;
/// The number of ids of a trace that are referred to.
const IDS_MAX: usize = 8;
/// The number of bases.
const BASES: usize = 4;
/// The length of a trace id, in bytes.
pub(super) const TRACE_ID_BYTES: usize = 16;
/// The length of the id of a span, in bytes.
pub(super) const SPAN_ID_BYTES: usize = 8;

/// The columns that have a lineage.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpanColumns {
    pub(super) trace: usize,
    pub(super) span: usize,
    pub(super) parent: Option<usize>,
    pub(super) start: usize,
}

impl SpanColumns {
    /// The ids in a column of strings.
    pub(super) fn id_of(self, column: usize) -> Option<SpanId> {
        match column {
            _ if column == self.trace => Some(SpanId::Trace),
            _ if column == self.span => Some(SpanId::Own),
            _ if Some(column) == self.parent => Some(SpanId::Parent),
            _ => None,
        }
    }
}

/// The groups of the records of a block.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    of_shape: Vec<usize>,
    /// The number of records of each group.
    records: Vec<usize>,
}

impl Groups {
    /// The groups of shapes with these numbers of records.
    pub(super) fn new(records_of_shapes: &[usize]) -> Groups {
        let mut records = vec![0];
        let of_shape = records_of_shapes.iter().map(|of_shape| {
            if *of_shape >= GROUP_MIN {
                records.push(*of_shape);
                records.len() - 1
            } else {
                if let Some(rest) = records.first_mut() {
                    *rest += of_shape;
                }
                0
            }
        });
        Groups {
            of_shape: of_shape.collect(),
            records,
        }
    }

    fn of(&self, shape: usize) -> Option<usize> {
        self.of_shape.get(shape).copied()
    }

    fn len(&self) -> usize {
        self.records.len()
    }

    /// Reads a column of each group.
    fn read<'a>(
        &self,
        small: &mut Reader<'a>,
        sections: &mut impl Iterator<Item = Section<'a>>,
    ) -> Option<Vec<Ints<'a>>> {
        let counts = self.records.iter();
        let mut read = |count| Ints::read_packed(small, sections, count, Decoded::default());
        counts.map(|count| read(*count)).collect()
    }
}

/// All values of a column of each group.
fn decode<'s>(columns: &'s [Ints<'_>]) -> Option<Vec<Decoded<'s>>> {
    columns.iter().map(Ints::decoded).collect()
}

/// Writes a column of each group.
fn write_columns(columns: &[Vec<u64>], small: &mut Vec<u8>, sections: &mut Sections) {
    for column in columns {
        pack::write(column, None, small, sections);
    }
}

/// Adds `value` to the column of a group.
fn push(columns: &mut [Vec<u64>], group: usize, value: u64) {
    if let Some(column) = columns.get_mut(group) {
        column.push(value);
    }
}

/// The number of records of each of `count` shapes.
fn count_shapes(shapes: &[u64], count: usize) -> Vec<usize> {
    let mut counts = vec![0; count];
    for shape in shapes {
        if let Some(count) = usize::try_from(*shape)
            .ok()
            .and_then(|shape| counts.get_mut(shape))
        {
            *count += 1;
        }
    }
    counts
}

/// Writes the shape and the timestamp of each record, and returns their groups.
pub(super) fn write_keys(
    shapes: &[u64],
    count: usize,
    timestamps: &[u64],
    small: &mut Vec<u8>,
    sections: &mut Sections,
) -> Groups {
    let counts = count_shapes(shapes, count);
    let groups = Groups::new(&counts);
    small.varint(count as u64);
    for count in &counts {
        small.varint(*count as u64);
    }
    small.varint(shapes.first().copied().unwrap_or_default());
    let mut next = vec![Vec::new(); groups.len()];
    let mut gaps = vec![Vec::new(); groups.len()];
    let after = shapes.iter().skip(1).copied().chain([0]);
    let mut before = timestamps.first().copied().unwrap_or_default();
    for ((shape, after), timestamp) in shapes.iter().zip(after).zip(timestamps) {
        let group = usize::try_from(*shape).ok().and_then(|it| groups.of(it));
        let group = group.unwrap_or_default();
        push(&mut next, group, after);
        push(&mut gaps, group, timestamp.wrapping_sub(before));
        before = *timestamp;
    }
    write_columns(&next, small, sections);
    write_columns(&gaps, small, sections);
    groups
}

/// The shapes and the timestamps of the records, which are not decoded yet.
pub(super) struct Keys<'a> {
    count: usize,
    first_shape: usize,
    pub(super) groups: Groups,
    next: Vec<Ints<'a>>,
    gaps: Vec<Ints<'a>>,
}

/// The shape of each record, and its timestamp.
type DecodedKeys = (Rc<[u16]>, Vec<u64>);

impl<'a> Keys<'a> {
    /// Opens the keys of `count` records.
    pub(super) fn read(
        small: &mut Reader<'a>,
        sections: &mut impl Iterator<Item = Section<'a>>,
        count: usize,
    ) -> Option<Keys<'a>> {
        let shapes = small.length().filter(|shapes| *shapes <= SHAPES_MAX)?;
        let counts = (0..shapes)
            .map(|_| small.length().filter(|records| *records <= count))
            .collect::<Option<Vec<usize>>>()?;
        (counts.iter().sum::<usize>() == count).then_some(())?;
        let groups = Groups::new(&counts);
        Some(Keys {
            count,
            first_shape: small.length()?,
            next: groups.read(small, sections)?,
            gaps: groups.read(small, sections)?,
            groups,
        })
    }

    /// The keys of all records, of which the first is at `first`.
    pub(super) fn decode(&self, first: u64) -> Option<DecodedKeys> {
        let (next, gaps) = (decode(&self.next)?, decode(&self.gaps)?);
        let mut used = vec![0usize; self.groups.len()];
        let mut shapes = Vec::with_capacity(self.count);
        let mut timestamps = Vec::with_capacity(self.count);
        let (mut shape, mut timestamp) = (self.first_shape, first);
        for _ in 0..self.count {
            shapes.push(u16::try_from(shape).ok()?);
            let group = self.groups.of(shape)?;
            let used = used.get_mut(group)?;
            timestamp = timestamp.wrapping_add(gaps.get(group)?.get(*used)?);
            timestamps.push(timestamp);
            shape = usize::try_from(next.get(group)?.get(*used)?).ok()?;
            *used += 1;
        }
        Some((shapes.into(), timestamps))
    }
}

/// The traces of the last spans.
#[derive(Debug, Default)]
struct Recent {
    /// The last one at the end. Those whose root has been there come first.
    traces: Vec<u32>,
    ended: usize,
}

impl Recent {
    /// The number of traces after `trace`, if it is recent.
    fn rank(&self, trace: u32) -> Option<usize> {
        let mut recent = self.traces.iter().rev().take(RECENT_MAX);
        recent.position(|recent| *recent == trace)
    }

    fn remove(&mut self, rank: usize) -> Option<u32> {
        let at = self.traces.len().checked_sub(rank.checked_add(1)?)?;
        if at < self.ended {
            self.ended -= 1;
        }
        Some(self.traces.remove(at))
    }

    /// Adds the trace of a span, which is its root if `is_ended`.
    fn add(&mut self, trace: u32, is_ended: bool) {
        if is_ended {
            self.traces.insert(self.ended, trace);
            self.ended += 1;
        } else {
            self.traces.push(trace);
        }
        // The front is removed in large parts, because the rest is moved each time.
        if self.traces.len() == 4 * RECENT_MAX {
            let surplus = self.traces.len() - RECENT_MAX;
            self.traces.drain(..surplus);
            self.ended = self.ended.saturating_sub(surplus);
        }
    }
}

/// What is known of a trace before one of its spans.
#[derive(Debug, Default)]
struct Trace {
    /// The ids that were last used, as their numbers, the last one first.
    ids: [u32; IDS_MAX],
    ids_known: usize,
    /// The end of the last span, and its start.
    end: u64,
    last_start: u64,
    earliest: u64,
}

impl Trace {
    /// The number of the id that `reference` stands for, which `ids` is the number of if it is new.
    #[inline]
    fn resolve(&mut self, reference: u64, ids: &mut u32) -> Option<u32> {
        if let Some(at) = reference.checked_sub(1) {
            let at = usize::try_from(at).ok().filter(|at| *at < self.ids_known)?;
            self.ids.get_mut(..=at)?.rotate_right(1);
        } else {
            self.ids.rotate_right(1);
            *self.ids.first_mut()? = *ids;
            *ids = ids.checked_add(1)?;
            self.ids_known = IDS_MAX.min(self.ids_known + 1);
        }
        self.ids.first().copied()
    }

    /// How far a span that ends at `timestamp` starts from each base.
    #[inline]
    fn distances(&self, timestamp: u64, start: u64) -> [u64; BASES] {
        let duration = timestamp.wrapping_sub(start);
        if self.ids_known == 0 {
            return [duration; BASES];
        }
        [
            duration,
            start.wrapping_sub(self.end),
            self.earliest.wrapping_sub(start),
            start.wrapping_sub(self.last_start),
        ]
    }

    /// The start of a span that ends at `timestamp` and starts at this distance from a base.
    #[inline]
    fn start(&self, base: u8, timestamp: u64, distance: u64) -> Option<u64> {
        Some(match base {
            _ if self.ids_known == 0 => timestamp.wrapping_sub(distance),
            0 => timestamp.wrapping_sub(distance),
            1 => self.end.wrapping_add(distance),
            2 => self.earliest.wrapping_sub(distance),
            3 => self.last_start.wrapping_add(distance),
            _ => return None,
        })
    }

    /// Adds the times of a span.
    #[inline]
    fn add(&mut self, start: u64, end: u64, is_first: bool) {
        self.earliest = if is_first {
            start
        } else {
            self.earliest.min(start)
        };
        (self.last_start, self.end) = (start, end);
    }
}

/// The spans of a block.
pub(super) struct SpanValues<'r, 'a> {
    pub(super) shapes: &'r [u64],
    pub(super) groups: &'r Groups,
    /// Whether the records of a shape have a parent.
    pub(super) have_parent: Vec<bool>,
    pub(super) timestamps: &'r [u64],
    /// The ids and the start of each record, and the parents of those that have one.
    pub(super) traces: &'r [&'a [u8]],
    /// A number for each trace id, if there are some.
    pub(super) trace_labels: Option<&'r [u64]>,
    pub(super) own_ids: &'r [&'a [u8]],
    pub(super) parents: &'r [&'a [u8]],
    pub(super) starts: &'r [u64],
}

impl<'a> SpanValues<'_, 'a> {
    /// Writes the ids and the starts.
    pub(super) fn write(&self, small: &mut Vec<u8>, sections: &mut Sections) {
        let columns = || vec![Vec::new(); self.groups.len()];
        let (mut traces, mut parents, mut spans) = (columns(), columns(), columns());
        let mut starts: [Vec<Vec<u64>>; BASES] = std::array::from_fn(|_| columns());
        let mut recent = Recent::default();
        let labels = self
            .trace_labels
            .map_or_else(|| label(self.traces), Cow::Borrowed);
        let mut numbers: Vec<Option<u32>> = Vec::new();
        let mut known: Vec<Trace> = Vec::new();
        let mut trace_ids = Vec::new();
        let mut ids: Vec<&'a [u8]> = Vec::new();
        let mut parents_left = self.parents.iter();
        let records = self.shapes.iter().zip(self.timestamps).zip(self.starts);
        let records = records.zip(self.traces.iter().zip(labels.iter()).zip(self.own_ids));
        for (((shape, timestamp), start), ((trace_id, label), span_id)) in records {
            let shape = usize::try_from(*shape).unwrap_or_default();
            let group = self.groups.of(shape).unwrap_or_default();
            let label = usize::try_from(*label).unwrap_or_default();
            if label >= numbers.len() {
                numbers.resize(label + 1, None);
            }
            let Some(place) = numbers.get_mut(label) else {
                continue;
            };
            let found = place.and_then(|number| Some((number, recent.rank(number)?)));
            let number = if let Some((number, rank)) = found {
                recent.remove(rank);
                push(&mut traces, group, rank as u64 + 1);
                number
            } else {
                let number = narrow(known.len());
                *place = Some(number);
                known.push(Trace::default());
                trace_ids.extend_from_slice(trace_id);
                push(&mut traces, group, 0);
                number
            };
            let has_parent = self.have_parent.get(shape) == Some(&true);
            recent.add(number, !has_parent);
            let Some(trace) = known.get_mut(number as usize) else {
                continue;
            };
            let distances = trace.distances(*timestamp, *start);
            for (starts, distance) in starts.iter_mut().zip(distances) {
                push(starts, group, zigzag(distance));
            }
            trace.add(*start, *timestamp, found.is_none());
            let mut refer = |id: &'a [u8]| {
                let mut of_trace = trace.ids.iter().take(trace.ids_known);
                let at = of_trace.position(|number| ids.get(*number as usize) == Some(&id));
                let reference = at.map_or(0, |at| at as u64 + 1);
                trace.resolve(reference, &mut narrow(ids.len()));
                if at.is_none() {
                    ids.push(id);
                }
                reference
            };
            if has_parent && let Some(parent) = parents_left.next() {
                let reference = refer(parent);
                push(&mut parents, group, reference);
            }
            let reference = refer(span_id);
            push(&mut spans, group, reference);
        }
        for column in [&traces, &parents, &spans] {
            write_columns(column, small, sections);
        }
        let mut best = Vec::new();
        for group in 0..self.groups.len() {
            let of_group = starts.iter_mut().filter_map(|starts| starts.get_mut(group));
            let sized = of_group.map(|starts| (bits(starts), starts)).zip(0u8..);
            if let Some(((_, starts), base)) = sized.min_by_key(|((bits, _), _)| *bits) {
                small.push(base);
                best.push(std::mem::take(starts));
            }
        }
        write_columns(&best, small, sections);
        sections.push_plain(trace_ids);
        sections.push_plain(ids.concat());
    }
}

/// A number for each id, the same for the same ones.
fn label<'r>(ids: &[&[u8]]) -> Cow<'r, [u64]> {
    let mut labels = HashMap::new();
    let label = |id| {
        let next = labels.len() as u64;
        *labels.entry(id).or_insert(next)
    };
    ids.iter().map(label).collect()
}

/// The number of bits of all of these numbers.
fn bits(numbers: &[u64]) -> u32 {
    let bits = numbers.iter().map(|it| u64::BITS - it.leading_zeros());
    bits.fold(0, u32::saturating_add)
}

/// The ids and starts of the spans of a body, found out when the first of them is read.
pub(super) struct Lineage<'a> {
    shapes: Rc<[u16]>,
    groups: Groups,
    have_parent: Vec<bool>,
    timestamps: Decoded<'a>,
    columns: [Vec<Ints<'a>>; 4],
    /// The base of each group.
    bases: Vec<u8>,
    trace_ids: Section<'a>,
    ids: Section<'a>,
    found: OnceCell<Option<Found>>,
}

/// The numbers of the ids of all records, and their starts.
struct Found {
    traces: Vec<u32>,
    spans: Vec<u32>,
    /// Of the records that have one.
    parents: Vec<u32>,
    starts: Vec<u64>,
}

/// Which ids of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SpanId {
    Trace = 0,
    Own = 1,
    Parent = 2,
}

impl SpanId {
    pub(super) fn from_code(code: u8) -> Option<SpanId> {
        let all = [SpanId::Trace, SpanId::Own, SpanId::Parent];
        all.into_iter().find(|id| *id as u8 == code)
    }
}

/// Ids of one length: different ones, and the number of each value among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids<'s> {
    bytes: &'s [u8],
    id_bytes: usize,
    numbers: &'s [u32],
}

impl<'s> Ids<'s> {
    /// Value `at`.
    #[inline]
    pub(super) fn get(self, at: usize) -> Option<&'s [u8]> {
        let start = (*self.numbers.get(at)? as usize).checked_mul(self.id_bytes)?;
        self.bytes.get(start..start.checked_add(self.id_bytes)?)
    }

    /// The length of each.
    pub(super) fn id_bytes(self) -> usize {
        self.id_bytes
    }

    /// The number of each value among [`Ids::distinct`].
    pub(super) fn numbers(self) -> &'s [u32] {
        self.numbers
    }

    /// The ids that occur.
    pub(super) fn distinct(self) -> impl Iterator<Item = &'s [u8]> {
        self.bytes.chunks_exact(self.id_bytes)
    }
}

impl<'a> Lineage<'a> {
    /// Opens what [`SpanValues::write`] has written. The records of a shape that `have_parent` says have one.
    pub(super) fn read(
        small: &mut Reader<'a>,
        sections: &mut impl Iterator<Item = Section<'a>>,
        shapes: Rc<[u16]>,
        groups: Groups,
        have_parent: Vec<bool>,
        timestamps: Decoded<'a>,
    ) -> Option<Lineage<'a>> {
        let mut with_parents = Groups {
            records: vec![0; groups.len()],
            ..groups.clone()
        };
        for shape in shapes.iter().map(|shape| usize::from(*shape)) {
            if *have_parent.get(shape)? {
                *with_parents.records.get_mut(groups.of(shape)?)? += 1;
            }
        }
        let traces = groups.read(small, sections)?;
        let parents = with_parents.read(small, sections)?;
        let spans = groups.read(small, sections)?;
        let bases = groups.records.iter().map(|_| small.u8());
        let bases = bases.collect::<Option<_>>()?;
        let starts = groups.read(small, sections)?;
        Some(Lineage {
            bases,
            trace_ids: sections.next()?,
            ids: sections.next()?,
            shapes,
            groups,
            have_parent,
            timestamps,
            columns: [traces, parents, spans, starts],
            found: OnceCell::new(),
        })
    }

    fn found(&self) -> Option<&Found> {
        self.found.get_or_init(|| self.find()).as_ref()
    }

    /// The start of each record.
    pub(super) fn starts(&self) -> Option<&[u64]> {
        Some(&self.found()?.starts)
    }

    /// The ids of the records.
    pub(super) fn ids(&self, which: SpanId) -> Option<Ids<'_>> {
        let found = self.found()?;
        let (section, id_bytes, numbers) = match which {
            SpanId::Trace => (self.trace_ids, TRACE_ID_BYTES, &found.traces),
            SpanId::Own => (self.ids, SPAN_ID_BYTES, &found.spans),
            SpanId::Parent => (self.ids, SPAN_ID_BYTES, &found.parents),
        };
        Some(Ids {
            bytes: section.get()?,
            id_bytes,
            numbers,
        })
    }

    fn find(&self) -> Option<Found> {
        let [traces, parents, spans, starts] = &self.columns;
        let (traces, parents) = (decode(traces)?, decode(parents)?);
        let (spans, starts) = (decode(spans)?, decode(starts)?);
        let count = self.shapes.len();
        let mut found = Found {
            traces: Vec::with_capacity(count),
            spans: Vec::with_capacity(count),
            parents: Vec::with_capacity(count),
            starts: Vec::with_capacity(count),
        };
        // The number of values of each group so far, and of those of parents.
        let mut used = vec![(0usize, 0usize); self.groups.len()];
        let mut recent = Recent::default();
        let mut known: Vec<Trace> = Vec::new();
        let mut ids = 0;
        for (record, shape) in self.shapes.iter().enumerate() {
            let shape = usize::from(*shape);
            let group = self.groups.of(shape)?;
            let (at, at_parent) = used.get_mut(group)?;
            let reference = traces.get(group)?.get(*at)?;
            let number = if let Some(rank) = reference.checked_sub(1) {
                recent.remove(usize::try_from(rank).ok()?)?
            } else {
                known.push(Trace::default());
                narrow(known.len() - 1)
            };
            let has_parent = *self.have_parent.get(shape)?;
            recent.add(number, !has_parent);
            found.traces.push(number);
            let trace = known.get_mut(number as usize)?;
            let timestamp = self.timestamps.get(record)?;
            let base = *self.bases.get(group)?;
            let distance = unzigzag(starts.get(group)?.get(*at)?);
            let start = trace.start(base, timestamp, distance)?;
            trace.add(start, timestamp, reference == 0);
            found.starts.push(start);
            if has_parent {
                let reference = parents.get(group)?.get(*at_parent)?;
                found.parents.push(trace.resolve(reference, &mut ids)?);
                *at_parent += 1;
            }
            let reference = spans.get(group)?.get(*at)?;
            found.spans.push(trace.resolve(reference, &mut ids)?);
            *at += 1;
        }
        Some(found)
    }
}
