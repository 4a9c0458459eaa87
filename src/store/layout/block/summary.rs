//! Summaries: what is known about the records of a block without reading it.
//!
//! A summary excludes blocks without a match for a filter. It never excludes one with a match, and a
//! block without a summary is read. So a summary that is missing, damaged or of another version changes
//! no answer.
//!
//! ```text
//! bytes  field
//!     1  version: 1
//!     8  checksum: XXH3-64 of what follows, seeded with the checksum of the block's header
//!     1  what is known: 1 severities and durations, 2 texts, 4 trace ids, 8 span ids, 16 entries
//!        logs, if known: varint number of severities, and for each, zigzag varint severity and varint
//!        number of records
//!        spans, if known: varint number of failed ones; varint longest duration in nanoseconds + 1, or 0
//!        if that is not known
//!        if entries are known: varint number of keys whose values are not known, and 4 bytes for each,
//!        the low half of the token
//!     1  number of probes of the token filter, 0 if there is none
//!        the bits of the filter, to the end
//! ```
//!
//! All integers are little-endian. What is known about texts, ids and entries is in the *token filter*, a
//! Bloom filter of [tokens](crate::filter::tokens). Probe number `i` of a token `t` is the bit
//! `(g * bits) >> 64`, where `g` is `t + i * (t rotated by 32 bits | 1)` modulo 2^64; bit 0 is the lowest
//! of the first byte.
//!
//! A Bloom filter and not a binary fuse filter: at the five to seven bits a token that fit a page for 4,096 records, the
//! latter would say "maybe" for about half as many absent tokens, and so spare a lookup in 1,220 blocks
//! some 30 of them. But it needs distinct tokens, and building one was measured to take 28 ns a record. With
//! this one, all of the summary costs a writer 4 % of its rate (`benches/query.rs`).

use super::{
    BlockHeader,
    bytes::{Reader, Writer, unzigzag, zigzag},
    columns::hex_byte,
    places::{ANY_BOOL, ANY_INT, Place},
    select::{number, places_of, value},
    shapes::{ColumnKind, DistinctStrings, Part, ShapedRecords},
};
use crate::{
    filter::{
        Condition, FieldCondition, FieldTest, Filter, IdKind, Number, any_string, enumeration,
        tokens::{
            Trigrams, key_token, span_id_token, trace_id_token, trigram_token, trigrams_of,
            value_token,
        },
    },
    record::{Level, Value},
    signal::Signal,
    store::layout::footprint,
};
use hashbrown::{HashMap, HashSet, hash_map::Entry};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The version of the layout of summaries.
const VERSION: u8 = 1;
/// The bytes before what is checked: version and checksum.
const HEAD_BYTES: usize = 1 + 8;

mod known {
    pub(super) const COUNTS: u8 = 1;
    pub(super) const TEXTS: u8 = 2;
    pub(super) const TRACE_IDS: u8 = 4;
    pub(super) const SPAN_IDS: u8 = 8;
    pub(super) const ENTRIES: u8 = 16;
}

/// The number of records from which a block gets a token filter. Smaller ones are soon merged. The
/// blocks of tests are small.
const FILTERED_RECORDS_MIN: u32 = if cfg!(test) { 4 } else { 256 };
/// The part of a block's size on the disk that its summary may have: 1/`PART`.
const PART: u64 = if cfg!(test) { 1 } else { 16 };
/// Maximum number of records whose ids fit a page. Blocks had no more when the summaries of the present
/// version were first written.
const RECORDS_OF_A_PAGE: u32 = 4096;
/// Maximum number of different severities.
const LEVELS_MAX: usize = 16;
/// Maximum number of keys, and of keys whose values are not known.
const KEYS_MAX: usize = 256;
const UNCOVERED_MAX: usize = 64;
/// Maximum number of different numbers of a column that are covered.
const NUMBERS_MAX: usize = 256;
/// The bits of the filter for each token: as many as are of use, ...
const TOKEN_BITS_MAX: usize = 12;
/// ... as many as there must be for the values of a column to be covered, ...
const TOKEN_BITS_FOR_VALUES: usize = 6;
/// ... and for texts and ids.
const TOKEN_BITS_MIN: usize = 4;

/// What the records of a block say, collected while it is encoded.
pub(super) struct Contents {
    counts: Option<Counts>,
    trace_ids: Vec<u64>,
    span_ids: Vec<u64>,
    trigrams: Trigrams,
    keys: HashSet<u64>,
    nulls: HashSet<u64>,
    /// The keys and the values of the columns that can be covered.
    values: Vec<(u64, Vec<u64>)>,
    /// The keys of all others.
    uncovered: HashSet<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Counts {
    /// The severities that occur.
    Logs(Vec<(i32, u64)>),
    Spans {
        failed: u64,
        longest: Option<u64>,
    },
}

impl Contents {
    /// What `records` say; `None` when they are not understood.
    pub(super) fn of(signal: Signal, records: &ShapedRecords<'_>) -> Option<Contents> {
        let mut contents = Contents {
            counts: None,
            trace_ids: Vec::new(),
            span_ids: Vec::new(),
            trigrams: Trigrams::new(),
            keys: HashSet::new(),
            nulls: HashSet::new(),
            values: Vec::new(),
            uncovered: HashSet::new(),
        };
        let mut columns: HashMap<(ColumnKind, usize), (Part, Place)> = HashMap::new();
        for shape in records.shapes() {
            let places = places_of(signal, shape.literals(), &mut shape.parts())?;
            for null in &places.nulls {
                let key = key_token(null);
                contents.keys.insert(key);
                contents.nulls.insert(value_token(key, b"null"));
            }
            contents
                .keys
                .extend(places.objects.iter().map(|it| key_token(it)));
            for (place, (part, column)) in places.leaves.into_iter().zip(shape.leaves()) {
                let known = columns.entry((part.column_kind()?, column));
                match known {
                    Entry::Occupied(known) if known.get().1 != place => return None,
                    Entry::Occupied(_) => {}
                    Entry::Vacant(vacant) => _ = vacant.insert((part, place)),
                }
            }
        }
        // Only a filter needs the values.
        let filtered = columns
            .iter()
            .filter(|_| records.len() >= FILTERED_RECORDS_MIN as usize);
        for ((kind, column), (part, place)) in filtered {
            match kind {
                ColumnKind::Ints => contents.add_numbers(*part, place, records.ints(*column)?),
                ColumnKind::Bytes => {
                    contents.add_strings(*part, place, records.strings(*column)?)?;
                }
            }
        }
        let of_place = |wanted: &Place| {
            let of_place = columns.iter().filter(|(_, (_, place))| place == wanted);
            of_place
                .map(|((_, column), _)| records.ints(*column))
                .collect::<Option<Vec<&[u64]>>>()
        };
        contents.counts = match signal {
            Signal::Logs => {
                let levels = levels(&of_place(&Place::Level)?)?;
                (!levels.is_empty()).then_some(Counts::Logs(levels))
            }
            Signal::Metrics => None,
            Signal::Traces => {
                let error = StatusCode::Error as i32;
                let statuses = of_place(&Place::Status)?;
                let failed = statuses.iter().flat_map(|column| *column);
                Some(Counts::Spans {
                    failed: failed.filter(|it| enumeration(**it) == error).count() as u64,
                    longest: longest(
                        records.len(),
                        &of_place(&Place::Start)?,
                        &of_place(&Place::End)?,
                    ),
                })
            }
        };
        Some(contents)
    }

    fn add_numbers(&mut self, part: Part, place: &Place, values: &[u64]) {
        let Place::Entry(entry) = place else { return };
        let key = key_token(&entry.path);
        self.keys.insert(key);
        // A float equals numbers that are written in other ways.
        let is_covered = matches!(part, Part::Int | Part::UInt | Part::Bool)
            || matches!(entry.tag, Some(ANY_INT | ANY_BOOL));
        let distinct = is_covered.then(|| distinct_numbers(values)).flatten();
        let tokens = distinct.and_then(|distinct| {
            let token = |value: &u64| match number(part, entry, *value)? {
                Value::Int(value) => Some(value_token(
                    key,
                    itoa::Buffer::new().format(value).as_bytes(),
                )),
                Value::UInt(value) => Some(value_token(
                    key,
                    itoa::Buffer::new().format(value).as_bytes(),
                )),
                Value::Bool(true) => Some(value_token(key, b"true")),
                Value::Bool(false) => Some(value_token(key, b"false")),
                _ => None,
            };
            distinct.iter().map(token).collect::<Option<Vec<u64>>>()
        });
        match tokens {
            Some(tokens) => self.values.push((key, tokens)),
            None => _ = self.uncovered.insert(key),
        }
    }

    /// Adds a column of strings. `None` when one is not what its place says.
    fn add_strings(
        &mut self,
        part: Part,
        place: &Place,
        strings: DistinctStrings<'_, '_>,
    ) -> Option<()> {
        match place {
            Place::Id(IdKind::Trace) => {
                let tokens = strings.values.iter().map(|id| trace_id_token(id));
                self.trace_ids.extend(tokens);
            }
            Place::Id(IdKind::Span) => {
                let tokens = strings.values.iter().map(|id| span_id_token(id));
                self.span_ids.extend(tokens);
            }
            Place::Message | Place::Text { .. } => self.add_texts(&strings)?,
            Place::Entry(entry) => {
                let key = key_token(&entry.path);
                self.keys.insert(key);
                if !entry.is_text(part) {
                    for bytes in strings.values {
                        any_string(&value(entry, bytes)?, &mut |text| {
                            self.trigrams.add(text.as_bytes());
                            false
                        });
                    }
                    self.uncovered.insert(key);
                    return Some(());
                }
                self.add_texts(&strings)?;
                match entry.path.as_str() {
                    "trace_id" if entry.is_top => {
                        add_ids(&strings, 32, trace_id_token, &mut self.trace_ids);
                    }
                    "span_id" if entry.is_top => {
                        add_ids(&strings, 16, span_id_token, &mut self.span_ids);
                    }
                    _ => {}
                }
                if strings.are_distinct {
                    let tokens = strings.values.iter().map(|text| value_token(key, text));
                    self.values.push((key, tokens.collect()));
                } else {
                    self.uncovered.insert(key);
                }
            }
            Place::Level | Place::Kind | Place::Status | Place::Start | Place::End => return None,
            Place::Id(IdKind::Parent) | Place::Other => {}
        }
        Some(())
    }

    fn add_texts(&mut self, strings: &DistinctStrings<'_, '_>) -> Option<()> {
        // Hex digits have no trigrams that are kept.
        let are_known = strings.are_hex || strings.texts.iter().all(|text| self.trigrams.add(text));
        are_known.then_some(())
    }

    /// The summary of the block with this header.
    pub(super) fn summarize(mut self, header: &BlockHeader) -> Vec<u8> {
        let mut known = 0;
        let mut fixed = Vec::new();
        match &self.counts {
            None => {}
            Some(Counts::Logs(levels)) => {
                known |= known::COUNTS;
                fixed.varint(levels.len() as u64);
                for (level, records) in levels {
                    fixed.varint(zigzag(i64::from(*level).cast_unsigned()));
                    fixed.varint(*records);
                }
            }
            Some(Counts::Spans { failed, longest }) => {
                known |= known::COUNTS;
                fixed.varint(*failed);
                fixed.varint(longest.map_or(0, |longest| longest.saturating_add(1)));
            }
        }
        let mut tokens = Vec::new();
        let mut uncovered: Vec<u64> = Vec::new();
        let bytes_max = bytes_max(header);
        let taken = HEAD_BYTES + 1 + fixed.len() + 2 + UNCOVERED_MAX * 4 + 1;
        let bits_max = bytes_max.saturating_sub(taken) * 8;
        if header.count >= FILTERED_RECORDS_MIN {
            let fits = |tokens: usize, bits| tokens * bits <= bits_max;
            let trigrams: Vec<u64> = self.trigrams.iter().map(trigram_token).collect();
            let keys_known = self.keys.len() <= KEYS_MAX;
            let keys: Vec<u64> = self.keys.iter().chain(&self.nulls).copied().collect();
            for (part, is_known, class) in [
                (&self.trace_ids, true, known::TRACE_IDS),
                (&trigrams, true, known::TEXTS),
                (&keys, keys_known, known::ENTRIES),
                (&self.span_ids, true, known::SPAN_IDS),
            ] {
                if is_known && fits(tokens.len() + part.len(), TOKEN_BITS_MIN) {
                    known |= class;
                    tokens.extend_from_slice(part);
                }
            }
            // Blocks of the same records have the same summary, whatever the order of hash tables.
            self.values
                .iter_mut()
                .for_each(|(_, it)| it.sort_unstable());
            self.values.sort_unstable_by(|a, b| {
                let by_length = a.1.len().cmp(&b.1.len());
                by_length.then_with(|| a.cmp(b))
            });
            for (key, values) in &self.values {
                if fits(tokens.len() + values.len(), TOKEN_BITS_FOR_VALUES) {
                    tokens.extend_from_slice(values);
                } else {
                    self.uncovered.insert(*key);
                }
            }
            uncovered.extend(&self.uncovered);
            uncovered.sort_unstable();
            if uncovered.len() > UNCOVERED_MAX {
                known &= !known::ENTRIES;
            }
        }
        let mut out = vec![VERSION];
        out.extend_from_slice(&[0; 8]);
        out.push(known);
        out.extend_from_slice(&fixed);
        if known & known::ENTRIES != 0 {
            out.varint(uncovered.len() as u64);
            for key in &uncovered {
                out.extend_from_slice(&low_half(*key).to_le_bytes());
            }
        }
        let filter = TokenFilter::of(&tokens, bits_max);
        out.push(filter.probes);
        out.extend_from_slice(&filter.bytes);
        put_checksum(&mut out, header);
        out
    }
}

/// Writes the checksum of a summary of the block with this header into it.
pub(super) fn put_checksum(summary: &mut [u8], header: &BlockHeader) {
    let checksum = checksum_of(summary, header).unwrap_or_default();
    for (to, byte) in summary.iter_mut().skip(1).zip(checksum.to_le_bytes()) {
        *to = byte;
    }
}

/// The number of records of each severity, none when there are too many severities; `None` when one is
/// not a severity.
fn levels(columns: &[&[u64]]) -> Option<Vec<(i32, u64)>> {
    let mut levels: Vec<(i32, u64)> = Vec::new();
    for level in columns.iter().flat_map(|column| *column) {
        let level = i32::try_from(level.cast_signed()).ok()?;
        if let Some((_, records)) = levels.iter_mut().find(|(other, _)| *other == level) {
            *records += 1;
        } else if levels.len() == LEVELS_MAX {
            return Some(Vec::new());
        } else {
            levels.push((level, 1));
        }
    }
    levels.sort_unstable();
    Some(levels)
}

/// The longest duration of spans, if each has a start and an end.
fn longest(records: usize, starts: &[&[u64]], ends: &[&[u64]]) -> Option<u64> {
    let ([starts], [ends]) = (starts, ends) else {
        return None;
    };
    let are_whole = starts.len() == records && ends.len() == records;
    let spans = starts.iter().zip(*ends);
    let known = spans.filter(|(start, end)| **start != 0 && **end != 0);
    let longest = known.map(|(start, end)| end.saturating_sub(*start)).max();
    longest.filter(|_| are_whole)
}

/// The different numbers of a column, in no order; `None` when there are too many.
fn distinct_numbers(values: &[u64]) -> Option<HashSet<u64>> {
    let mut distinct = HashSet::new();
    // Most numbers were seen shortly before.
    let mut lately = [None; 64];
    for value in values {
        let slot = lately.get_mut((value % 64) as usize)?;
        if *slot != Some(*value) {
            *slot = Some(*value);
            distinct.insert(*value);
            if distinct.len() > NUMBERS_MAX {
                return None;
            }
        }
    }
    Some(distinct)
}

/// Adds the ids among the values of an attribute: those of `digits` hex digits.
fn add_ids(
    strings: &DistinctStrings<'_, '_>,
    digits: usize,
    token: fn(&[u8]) -> u64,
    tokens: &mut Vec<u64>,
) {
    for text in strings.values {
        if text.len() != digits {
            continue;
        }
        if strings.are_hex {
            tokens.push(token(text));
        } else if text.iter().all(u8::is_ascii_hexdigit) {
            tokens.push(token(&text.to_ascii_lowercase()));
        }
    }
}

/// Maximum length of the summary of a block, chosen so that it fits a page of the database, or two if the
/// block has many records, and takes at most a certain part of the block's size.
fn bytes_max(header: &BlockHeader) -> usize {
    let budget = footprint::block_disk_bytes(header) / PART;
    let pages = if header.count > RECORDS_OF_A_PAGE {
        2
    } else {
        1
    };
    for pages in (1..=pages).rev() {
        let bytes_max = footprint::summary_bytes(pages);
        if budget >= footprint::summary_disk_bytes(bytes_max) {
            return bytes_max;
        }
    }
    // Below half a page, several summaries share one.
    let shared = usize::try_from(budget * 2 / 3).unwrap_or(0);
    shared
        .saturating_sub(footprint::SUMMARY_OVERHEAD_BYTES)
        .min(footprint::summary_bytes(1) / 2 - footprint::SUMMARY_OVERHEAD_BYTES)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "half of a hash is enough to tell a few keys apart"
)]
fn low_half(token: u64) -> u32 {
    token as u32
}

/// The checksum in a summary of the block with this header.
fn checksum_of(summary: &[u8], header: &BlockHeader) -> Option<u64> {
    Some(xxh3_64_with_seed(
        summary.get(HEAD_BYTES..)?,
        header.checksum,
    ))
}

/// A Bloom filter of tokens.
struct TokenFilter {
    probes: u8,
    bytes: Vec<u8>,
}

impl TokenFilter {
    fn of(tokens: &[u64], bits_max: usize) -> TokenFilter {
        let bytes = (tokens.len() * TOKEN_BITS_MAX).min(bits_max) / 8;
        let mut filter = TokenFilter {
            probes: 0,
            bytes: vec![0; bytes],
        };
        if tokens.is_empty() || bytes == 0 {
            return filter;
        }
        // 0.7 times the bits for each token is the best number of probes.
        let probes = (bytes * 8 * 7 / 10).div_ceil(tokens.len()).clamp(1, 8);
        filter.probes = u8::try_from(probes).unwrap_or(1);
        for token in tokens {
            for bit in probes_of(*token, filter.probes, bytes) {
                if let Some(byte) = filter.bytes.get_mut(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        filter
    }
}

/// The bits of a token in a filter of this length.
#[inline]
fn probes_of(token: u64, probes: u8, bytes: usize) -> impl Iterator<Item = usize> {
    let step = token.rotate_left(32) | 1;
    let bits = bytes as u128 * 8;
    (0..u64::from(probes)).map(move |probe| {
        let at = token.wrapping_add(step.wrapping_mul(probe));
        usize::try_from((u128::from(at) * bits) >> 64).unwrap_or_default()
    })
}

/// What is known about the records of a block.
pub(crate) struct Summary<'a> {
    signal: Signal,
    records: u64,
    known: u8,
    counts: Option<Counts>,
    /// The low halves of the tokens of keys whose values are not known.
    uncovered: Vec<u32>,
    probes: u8,
    bits: &'a [u8],
}

impl<'a> Summary<'a> {
    /// Reads the summary of the block with this header; `None` when it is none, or damaged.
    pub(crate) fn read(
        signal: Signal,
        header: &BlockHeader,
        bytes: &'a [u8],
    ) -> Option<Summary<'a>> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION || reader.u64()? != checksum_of(bytes, header)? {
            return None;
        }
        let known = reader.u8()?;
        let counts = match signal {
            _ if known & known::COUNTS == 0 => None,
            Signal::Metrics => return None,
            Signal::Logs => {
                let count = reader.length().filter(|count| *count <= LEVELS_MAX)?;
                let level = |reader: &mut Reader<'_>| {
                    let level = unzigzag(reader.varint()?).cast_signed();
                    Some((i32::try_from(level).ok()?, reader.varint()?))
                };
                let levels = (0..count).map(|_| level(&mut reader));
                Some(Counts::Logs(levels.collect::<Option<_>>()?))
            }
            Signal::Traces => Some(Counts::Spans {
                failed: reader.varint()?,
                longest: reader.varint()?.checked_sub(1),
            }),
        };
        let mut uncovered = Vec::new();
        if known & known::ENTRIES != 0 {
            let count = reader.length().filter(|count| *count <= UNCOVERED_MAX)?;
            for _ in 0..count {
                uncovered.push(reader.u32()?);
            }
        }
        Some(Summary {
            signal,
            records: header.count.into(),
            known,
            counts,
            uncovered,
            probes: reader.u8()?,
            bits: reader.rest(),
        })
    }

    /// The number of records of each severity, lowest first: of failed spans and of others for spans;
    /// `None` when it is not known.
    pub(crate) fn levels(&self) -> Option<Vec<(Level, u64)>> {
        Some(match self.counts.as_ref()? {
            Counts::Logs(levels) => {
                let levels = levels
                    .iter()
                    .map(|(level, records)| (Level(*level), *records));
                levels.collect()
            }
            Counts::Spans { failed, .. } => {
                let others = self.records.saturating_sub(*failed);
                let levels = [(Level::INFO, others), (Level::ERROR, *failed)];
                levels
                    .into_iter()
                    .filter(|(_, records)| *records > 0)
                    .collect()
            }
        })
    }

    /// Whether a record of the block may match `filter`.
    pub(crate) fn may_match(&self, filter: &Filter) -> bool {
        self.may(filter, false)
    }

    /// Whether a record may match `filter`, or its negation.
    fn may(&self, filter: &Filter, is_negated: bool) -> bool {
        let any_level = |wanted: &dyn Fn(Level) -> bool| {
            let levels = self.levels();
            levels.is_none_or(|levels| levels.iter().any(|(level, _)| wanted(*level) != is_negated))
        };
        match filter.condition() {
            Condition::Not(filter) => self.may(filter, !is_negated),
            Condition::All(filters) if is_negated => filters.iter().any(|it| self.may(it, true)),
            Condition::Any(filters) if !is_negated => filters.iter().any(|it| self.may(it, false)),
            Condition::All(filters) | Condition::Any(filters) => {
                filters.iter().all(|it| self.may(it, is_negated))
            }
            Condition::Level { min, max } => any_level(&|level| (*min..=*max).contains(&level)),
            Condition::Kind(_) | Condition::Status(_) | Condition::Duration { .. }
                if self.signal != Signal::Traces =>
            {
                is_negated
            }
            Condition::Status(status) if *status == StatusCode::Error as i32 => {
                any_level(&|level| level == Level::ERROR)
            }
            _ if is_negated => true,
            Condition::Kind(_) | Condition::Status(_) => true,
            Condition::Duration { min, .. } => match self.counts {
                Some(Counts::Spans {
                    longest: Some(longest),
                    ..
                }) => longest >= *min,
                _ => true,
            },
            Condition::Id(id) => match id.kind {
                IdKind::Parent => self.signal != Signal::Logs,
                _ if !id.is_whole() => true,
                IdKind::Trace => self.may_have_id(known::TRACE_IDS, &id.digits, trace_id_token),
                IdKind::Span => self.may_have_id(known::SPAN_IDS, &id.digits, span_id_token),
            },
            Condition::Text(pattern) | Condition::Name(pattern) => {
                let trigrams = trigrams_of(pattern.fragments());
                let mut tokens = trigrams.into_iter().map(trigram_token);
                self.known & known::TEXTS == 0 || tokens.all(|token| self.may_have(token))
            }
            Condition::Field(field) => {
                self.known & known::ENTRIES == 0 || self.may_have_entry(field)
            }
        }
    }

    fn may_have_id(&self, class: u8, digits: &str, token: fn(&[u8]) -> u64) -> bool {
        if self.known & class == 0 {
            return true;
        }
        if self.signal == Signal::Logs {
            return self.may_have(token(digits.as_bytes()));
        }
        let bytes = digits.as_bytes().chunks(2).map(hex_byte);
        self.may_have(token(&bytes.collect::<Vec<u8>>()))
    }

    fn may_have_entry(&self, field: &FieldCondition) -> bool {
        let path = field.path.as_str();
        let is_covered = |path| !self.uncovered.contains(&low_half(key_token(path)));
        let mut above = path.match_indices('.').filter_map(|(at, _)| path.get(..at));
        if !above.all(is_covered) {
            return true;
        }
        let key = key_token(path);
        if !self.may_have(key) {
            return false;
        }
        let FieldTest::Equals(wanted) = &field.test else {
            return true;
        };
        if !is_covered(path) {
            return true;
        }
        let has = |text: &str| self.may_have(value_token(key, text.as_bytes()));
        has(&wanted.text)
            || match wanted.number {
                Some(Number::Integer(number)) => has(&number.to_string()),
                // It equals integers, too, however they are written.
                Some(Number::Float(_)) => true,
                None => false,
            }
    }

    /// Whether the token is in the filter, or there is none.
    fn may_have(&self, token: u64) -> bool {
        probes_of(token, self.probes, self.bits.len()).all(|bit| {
            let byte = self.bits.get(bit / 8);
            byte.is_none_or(|byte| byte >> (bit % 8) & 1 == 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter of any size excludes nearly as much as one of its size can.
    #[test]
    fn filters_exclude_what_their_size_allows() {
        let token = |number: u64| xxh3_64_with_seed(&number.to_le_bytes(), 7);
        let tokens: Vec<u64> = (0..10_000).map(token).collect();
        // The best filter of 4 bits for each token takes 15 % of what is not there for what is there.
        for (bits, maybe_max) in [
            (1, 6700),
            (2, 4300),
            (4, 1650),
            (6, 700),
            (12, 60),
            (99, 60),
        ] {
            let filter = TokenFilter::of(&tokens, tokens.len() * bits);
            let may_have = |token: &u64| {
                probes_of(*token, filter.probes, filter.bytes.len())
                    .all(|bit| filter.bytes[bit / 8] >> (bit % 8) & 1 == 1)
            };
            assert!(tokens.iter().all(may_have));
            let others = (10_000..20_000).map(token);
            let maybe = others.filter(may_have).count();
            assert!(maybe <= maybe_max, "{maybe} with {bits} bits");
        }
    }
}
