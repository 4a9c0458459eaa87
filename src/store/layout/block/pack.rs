//! Integers packed close to their entropy, for [`Codec::Packed`](super::Codec::Packed) and those after it.
//!
//! A column is transformed until its values are small: differences between neighbours or from the
//! timestamps of the records, less the smallest value, divided by what all have in common. Each of
//! these *residuals* is then split in two. Its *bucket*, which is its magnitude and the bits after the
//! highest one, is a byte, and a coder of the section learns how often each occurs. The bits below are
//! random in practice, and are stored as they are.
//!
//! ```text
//! part        content
//! parameters  u8 form + 8 * transform; varint first value of differences; varint lowest residual;
//!             varint divisor of forms 1 and 3; u8 bits of mantissa of form 3
//! coded       form 1: varints; 2: a byte for each residual; 3: a bucket for each
//! plain       form 3: for each run of 1,024 residuals after the first, u32 offset of its bits, in bits;
//!             then the bits below the buckets
//!
//! form       0 all residuals are 0   1 few of them   2 all below 256   3 any
//! transform  0 none   1 ascending differences   2 any differences   3 differences from timestamps
//! ```
//!
//! By hand, because `pco`, the crate for it, takes three to ten times as long for columns of the same size, and
//! brings `unsafe` code that would read what another process can write. Bytes a value in columns of 8,192
//! values as `benches/workload.rs` makes them:
//!
//! ```text
//!                          varints, zstd -1   buckets   pco, level 4   pco, level 8
//! timestamps                          3.466     2.978          3.007          2.983
//! indexes of 300 sessions             1.198     1.003          1.011          1.005
//! lengths of bodies                   2.003     1.742          1.778          1.750
//! durations                           1.056     0.976          1.002          0.984
//! floats                              8.150     6.901          6.786          6.764
//! indexes of 24 tools                 0.586     0.585          0.578          0.579
//! ```
//!
//! On a busy machine, a value took 4 to 40 ns to write in buckets, 60 to 110 with `pco` at level 4, and 80 to
//! 500 at level 8.

use super::{
    bytes::{Reader, Writer, unzigzag, zigzag},
    columns::Section,
    frequencies::counts_of,
    sections::Sections,
};
use std::ops::Range;

/// Columns with fewer values are varints: a table of frequencies would not pay.
pub(super) const FEW: usize = 64;
/// The number of residuals that can be read without those before them.
pub(super) const RUN: usize = 1024;
/// The number of values from which the transform of a column is chosen.
const SAMPLE: usize = 1024;
/// The number of bits after the highest one that a bucket may have.
const MANTISSA_MAX: u32 = 7;
/// About the number of bits that a bucket takes in a table of frequencies.
const TABLE_BITS: f64 = 8.0;

mod form {
    pub(super) const CONSTANT: u8 = 0;
    pub(super) const VARINTS: u8 = 1;
    pub(super) const BYTES: u8 = 2;
    pub(super) const BUCKETS: u8 = 3;
}

mod transform {
    pub(super) const NONE: u8 = 0;
    pub(super) const ASCENDING: u8 = 1;
    pub(super) const DIFFERENCES: u8 = 2;
    pub(super) const FROM_TIMESTAMPS: u8 = 3;
}

/// The bucket of a residual, and the number of its bits below the bucket.
#[inline]
fn bucket_of(residual: u64, mantissa: u32) -> (u64, u32) {
    let highest = (residual | 1).ilog2();
    let low = highest.saturating_sub(mantissa);
    ((u64::from(low) << mantissa) + (residual >> low), low)
}

/// The lowest residual of a bucket, and the number of bits below. The inverse of [`bucket_of`]; for a
/// bucket that it does not return, any number.
#[inline]
fn start_of(bucket: u8, mantissa: u32) -> (u64, u32) {
    let low = (u32::from(bucket) >> mantissa).saturating_sub(1).min(63);
    let head = u64::from(bucket).wrapping_sub(u64::from(low) << mantissa);
    (head << low, low)
}

/// For each bucket of mantissa `finest`, the bucket of a smaller mantissa that its residuals are in, and the number of
/// bits below that one.
fn coarser_buckets(finest: u32, mantissa: u32) -> [(u8, u32); 256] {
    std::array::from_fn(|bucket| {
        let (start, _) = start_of(bucket.to_le_bytes()[0], finest);
        let (coarse, low) = bucket_of(start, mantissa);
        (coarse.to_le_bytes()[0], low)
    })
}

/// The mantissa, at most `finest`, that makes residuals in these buckets of mantissa `finest` shortest. Most numbers
/// are spread evenly within a magnitude, and then more buckets only have a longer table of frequencies.
fn best_mantissa(buckets: &[u8], finest: u32) -> u32 {
    let counts = counts_of(buckets);
    // The information in the buckets of a count, when one of `n` takes the logarithm of `n`.
    let information = |count: f64| count * count.max(1.0).log2();
    let all: u32 = counts.iter().sum();
    // Of numbers that are near to each other, zstd shortens what is in buckets and not what is below.
    let pairs = buckets.iter().zip(buckets.iter().skip(1));
    let repeated = pairs.filter(|(before, bucket)| before == bucket).count() as u64;
    let squares: u64 = counts.iter().map(|it| u64::from(*it).pow(2)).sum();
    let by_chance = squares / u64::from(all.max(1));
    if repeated > 2 * by_chance + u64::from(all) / 16 {
        return finest;
    }
    let starts = (0u8..=u8::MAX).map(|bucket| start_of(bucket, finest).0);
    let used: Vec<(u64, u32)> = starts.zip(counts).filter(|(_, count)| *count > 0).collect();
    let bits = |mantissa: u32| {
        let mut bits = information(f64::from(all));
        // The number of residuals in the last bucket, of which there may be several finer ones.
        let mut last = (0, 0);
        for (start, count) in &used {
            let (bucket, low) = bucket_of(*start, mantissa);
            bits += f64::from(*count) * f64::from(low);
            if bucket != last.0 {
                bits -= information(f64::from(last.1)) - TABLE_BITS;
                last = (bucket, 0);
            }
            last.1 += count;
        }
        bits - information(f64::from(last.1)) + TABLE_BITS
    };
    let mut best = (bits(finest), finest);
    for mantissa in (0..finest).rev() {
        let bits = bits(mantissa);
        if bits > best.0 {
            break;
        }
        best = (bits, mantissa);
    }
    best.1
}

/// The number of bits up to the highest one.
fn bit_length(value: u64) -> u64 {
    u64::from(u64::BITS - value.leading_zeros())
}

/// Packs `values`: the parameters into `small`, and the other parts into `sections`. `timestamps` are those
/// of the records of the values, if they may be the values' neighbours.
pub(super) fn write(
    values: &[u64],
    timestamps: Option<&[u64]>,
    small: &mut Vec<u8>,
    sections: &mut Sections,
) {
    let (transform, first, mut residuals) = transformed(values, timestamps);
    let lowest = lowest(&residuals);
    let mut all = 0;
    let mut highest = 0;
    for residual in &mut residuals {
        *residual = residual.wrapping_sub(lowest);
        all |= *residual;
        highest = highest.max(*residual);
    }
    let form = match highest {
        0 => form::CONSTANT,
        _ if residuals.len() < FEW => form::VARINTS,
        1..256 => form::BYTES,
        _ => form::BUCKETS,
    };
    let divisor = match form {
        form::VARINTS | form::BUCKETS => divisor(&residuals, all),
        _ => 1,
    };
    // The magnitudes of numbers are often about as frequent as each other. Those of differences from the lowest one
    // are not, unless many are next to it.
    let is_next = |residual: &&u64| **residual < lowest / 8;
    let is_spread = sections.codes()
        && form == form::BUCKETS
        && lowest <= highest / 8
        && residuals.iter().filter(is_next).count() <= residuals.len() / 8;
    let base = if is_spread { lowest % divisor } else { lowest };
    let offset = (lowest - base) / divisor;
    if divisor > 1 || offset > 0 {
        highest = highest / divisor + offset;
        for residual in &mut residuals {
            *residual = *residual / divisor + offset;
        }
    }
    small.push(form | transform << 3);
    if matches!(transform, transform::ASCENDING | transform::DIFFERENCES) {
        small.varint(zigzag(first));
    }
    small.varint(zigzag(base));
    if matches!(form, form::VARINTS | form::BUCKETS) {
        small.varint(divisor);
    }
    match form {
        form::VARINTS => residuals
            .iter()
            .for_each(|residual| small.varint(*residual)),
        form::BYTES => {
            let bytes = residuals.iter().map(|residual| residual.to_le_bytes()[0]);
            sections.push_symbols(bytes.collect());
        }
        form::BUCKETS => {
            let exponent = bit_length(highest).saturating_sub(1);
            let fits = |mantissa: &u32| {
                (exponent.saturating_sub(u64::from(*mantissa)) + 2) << mantissa <= 256
            };
            let finest = (0..=MANTISSA_MAX).rev().find(fits).unwrap_or(0);
            let bucket = |residual: &u64| bucket_of(*residual, finest).0.to_le_bytes()[0];
            let mut buckets: Vec<u8> = residuals.iter().map(bucket).collect();
            // zstd takes more for a few buckets than for many.
            let mantissa = if sections.codes() {
                best_mantissa(&buckets, finest)
            } else {
                finest
            };
            small.push(mantissa.to_le_bytes()[0]);
            let coarser = coarser_buckets(finest, mantissa);
            let mut bits = BitWriter::new(residuals.len());
            for (run, buckets) in residuals.chunks(RUN).zip(buckets.chunks_mut(RUN)) {
                bits.start_run();
                for (residual, bucket) in run.iter().zip(buckets) {
                    let (coarse, low) = coarser
                        .get(usize::from(*bucket))
                        .copied()
                        .unwrap_or_default();
                    *bucket = coarse;
                    bits.push(*residual, low);
                }
            }
            sections.push_symbols(buckets);
            sections.push_plain(bits.finish());
        }
        _ => {}
    }
}

/// The transform that makes `values` smallest, the first value if it is not among the residuals, and the
/// residuals.
fn transformed(values: &[u64], timestamps: Option<&[u64]>) -> (u8, u64, Vec<u64>) {
    let Some((first, _)) = values.split_first() else {
        return (transform::NONE, 0, Vec::new());
    };
    let differences = || {
        let pairs = values.iter().zip(values.iter().skip(1));
        pairs.map(|(before, value)| value.wrapping_sub(*before))
    };
    let second = values.get(1).unwrap_or(first);
    let step = second.wrapping_sub(*first);
    let is_counter = values.len() > 1 && differences().all(|difference| difference == step);
    if is_counter && step != 0 {
        return (transform::ASCENDING, *first, vec![step; values.len() - 1]);
    }
    if range(values) < 256 {
        return (transform::NONE, 0, values.to_vec());
    }
    // The first values say what the others are like.
    let sample = values.get(..SAMPLE).unwrap_or(values);
    let base = lowest(sample);
    let plain_bits: u64 = sample
        .iter()
        .map(|value| bit_length(value.wrapping_sub(base)))
        .sum();
    let difference_bits: u64 = differences()
        .take(sample.len())
        .map(|it| bit_length(zigzag(it)))
        .sum();
    let count = sample.len() as u64;
    if let Some(timestamps) = timestamps {
        let from_timestamps = || {
            let pairs = values.iter().zip(timestamps);
            pairs.map(|(value, timestamp)| zigzag(value.wrapping_sub(*timestamp)))
        };
        let bits: u64 = from_timestamps().take(sample.len()).map(bit_length).sum();
        if bits + count < plain_bits.min(difference_bits) {
            return (transform::FROM_TIMESTAMPS, 0, from_timestamps().collect());
        }
    }
    if difference_bits + count >= plain_bits {
        return (transform::NONE, 0, values.to_vec());
    }
    if differences().all(|difference| difference.cast_signed() >= 0) {
        (transform::ASCENDING, *first, differences().collect())
    } else {
        let residuals = differences().map(zigzag).collect();
        (transform::DIFFERENCES, *first, residuals)
    }
}

/// The lowest value as a signed number: negative ones are common, and those above `i64::MAX` are rare.
fn lowest(values: &[u64]) -> u64 {
    let lowest = values.iter().map(|value| value.cast_signed()).min();
    lowest.unwrap_or(0).cast_unsigned()
}

/// The difference of the highest and the lowest value.
pub(super) fn range(values: &[u64]) -> u64 {
    let base = lowest(values);
    let differences = values.iter().map(|value| value.wrapping_sub(base));
    differences.max().unwrap_or(0)
}

/// The largest number that divides all residuals, of which `all` has every bit.
fn divisor(residuals: &[u64], all: u64) -> u64 {
    let mut divisor = 0;
    for residual in residuals {
        if divisor == 1 {
            return 1;
        }
        if divisor == 0 || residual % divisor != 0 {
            let (mut a, mut b) = (*residual, divisor);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            divisor = a;
        }
    }
    if all == 0 { 1 } else { divisor.max(1) }
}

/// Writes numbers of any number of bits, lowest bit first.
struct BitWriter {
    /// The offsets of all runs but the first.
    runs: Vec<u8>,
    is_in_run: bool,
    bytes: Vec<u8>,
    waiting: u128,
    waiting_bits: u32,
}

impl BitWriter {
    /// A writer of `count` numbers.
    fn new(count: usize) -> BitWriter {
        BitWriter {
            runs: Vec::with_capacity(count / RUN * 4),
            is_in_run: false,
            bytes: Vec::with_capacity(count * 4),
            waiting: 0,
            waiting_bits: 0,
        }
    }

    fn start_run(&mut self) {
        if std::mem::replace(&mut self.is_in_run, true) {
            let bits = self.bytes.len() * 8 + self.waiting_bits as usize;
            let bits = u32::try_from(bits).unwrap_or(u32::MAX);
            self.runs.extend_from_slice(&bits.to_le_bytes());
        }
    }

    /// Appends the lowest `bits` bits of `value`, at most 63.
    #[inline]
    fn push(&mut self, value: u64, bits: u32) {
        self.waiting |= u128::from(value & ((1 << bits) - 1)) << self.waiting_bits;
        self.waiting_bits += bits;
        if self.waiting_bits >= 64 {
            if let Some(front) = self.waiting.to_le_bytes().first_chunk::<8>() {
                self.bytes.extend_from_slice(front);
            }
            self.waiting >>= 64;
            self.waiting_bits -= 64;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let rest = self.waiting_bits.div_ceil(8) as usize;
        let waiting = self.waiting.to_le_bytes();
        self.bytes
            .extend_from_slice(waiting.get(..rest).unwrap_or_default());
        self.runs.extend_from_slice(&self.bytes);
        self.runs
    }
}

/// A packed column of integers in a body.
pub(super) struct PackedInts<'a> {
    count: usize,
    form: u8,
    transform: u8,
    first: u64,
    base: u64,
    divisor: u64,
    mantissa: u32,
    few: Vec<u64>,
    coded: Option<Section<'a>>,
    plain: Option<Section<'a>>,
}

impl<'a> PackedInts<'a> {
    /// Opens a column of `count` values, which is not read yet. The caller must have bounded `count`.
    pub(super) fn read(
        small: &mut Reader<'a>,
        sections: &mut impl Iterator<Item = Section<'a>>,
        count: usize,
    ) -> Option<PackedInts<'a>> {
        let head = small.u8()?;
        let (form, transform) = (head & 7, head >> 3);
        let is_from_first = matches!(transform, transform::ASCENDING | transform::DIFFERENCES);
        let first = if is_from_first {
            unzigzag(small.varint()?)
        } else {
            0
        };
        let mut column = PackedInts {
            count,
            form,
            transform,
            first,
            base: unzigzag(small.varint()?),
            divisor: 1,
            mantissa: 0,
            few: Vec::new(),
            coded: None,
            plain: None,
        };
        if matches!(form, form::VARINTS | form::BUCKETS) {
            column.divisor = small.varint()?;
        }
        match form {
            form::CONSTANT => {}
            form::VARINTS => {
                let few = (0..column.residuals()).map(|_| small.varint());
                column.few = few.collect::<Option<_>>()?;
            }
            form::BYTES => column.coded = Some(sections.next()?),
            form::BUCKETS => {
                column.mantissa = u32::from(small.u8()?);
                if column.mantissa > MANTISSA_MAX {
                    return None;
                }
                column.coded = Some(sections.next()?);
                column.plain = Some(sections.next()?);
            }
            _ => return None,
        }
        (transform <= transform::FROM_TIMESTAMPS).then_some(column)
    }

    fn residuals(&self) -> usize {
        match self.transform {
            transform::ASCENDING | transform::DIFFERENCES => self.count.saturating_sub(1),
            _ => self.count,
        }
    }

    /// Decodes the values in `range` and some around them, and returns the index of the first one decoded.
    /// `last` is the last value of all, if it is known; `timestamp` returns the timestamp of the record of a
    /// value.
    pub(super) fn decode(
        &self,
        range: Range<usize>,
        last: Option<u64>,
        timestamp: impl Fn(usize) -> Option<u64>,
    ) -> Option<(usize, Vec<u64>)> {
        let start = range.start.min(self.count) / RUN * RUN;
        let end = range.end.min(self.count).max(start);
        if matches!(
            self.transform,
            transform::ASCENDING | transform::DIFFERENCES
        ) {
            return self.add_up(start, end, last);
        }
        let mut values = self.undone(start..end)?;
        if self.transform == transform::FROM_TIMESTAMPS {
            for (value, index) in values.iter_mut().zip(start..) {
                *value = timestamp(index)?.wrapping_add(unzigzag(*value));
            }
        }
        Some((start, values))
    }

    /// The values from `start` to `end` of a column of differences, and perhaps those after them.
    fn add_up(&self, start: usize, end: usize, last: Option<u64>) -> Option<(usize, Vec<u64>)> {
        if start >= end {
            return Some((start, Vec::new()));
        }
        let is_zigzag = self.transform == transform::DIFFERENCES;
        let step = |residual: u64| {
            if is_zigzag {
                unzigzag(residual)
            } else {
                residual
            }
        };
        let sum = |residuals: &[u64]| -> u64 {
            let steps = residuals.iter().map(|residual| step(*residual));
            steps.fold(0, u64::wrapping_add)
        };
        // The first value that is wanted follows from the last one of all, or from those before it.
        let (mut value, mut values) = match last {
            Some(last) if start > 0 => {
                let residuals = self.undone(start..self.residuals())?;
                (last.wrapping_sub(sum(&residuals)), residuals)
            }
            _ if start > 0 && self.form == form::BYTES => {
                let bytes = self.coded_bytes()?.get(..start)?.iter();
                let steps = bytes.map(|byte| step(self.base.wrapping_add(u64::from(*byte))));
                let before = steps.fold(self.first, u64::wrapping_add);
                (before, self.undone(start..end - 1)?)
            }
            _ => {
                let mut residuals = self.undone(0..end - 1)?;
                let rest = residuals.split_off(start);
                (self.first.wrapping_add(sum(&residuals)), rest)
            }
        };
        for residual in &mut values {
            let next = value.wrapping_add(step(*residual));
            *residual = std::mem::replace(&mut value, next);
        }
        values.push(value);
        Some((start, values))
    }

    /// The lowest value, and all values less it, if they are stored as bytes.
    pub(super) fn bytes_above_base(&self) -> Option<(u64, &'a [u8])> {
        if self.form != form::BYTES || self.transform != transform::NONE {
            return None;
        }
        Some((self.base, self.coded_bytes()?))
    }

    /// The byte of each residual, which is all of it in form 2. A section of another length is not even inflated.
    fn coded_bytes(&self) -> Option<&'a [u8]> {
        let coded = self.coded?;
        (coded.length()? == self.residuals()).then_some(())?;
        coded.get()
    }

    /// The residuals in `range`, which begins at a run, with base and divisor undone.
    fn undone(&self, range: Range<usize>) -> Option<Vec<u64>> {
        Some(match self.form {
            form::CONSTANT => vec![self.base; range.len()],
            form::VARINTS => {
                let few = self.few.get(range)?.iter();
                few.map(|residual| self.undivided(*residual)).collect()
            }
            form::BYTES => {
                let bytes = self.coded_bytes()?.get(range)?.iter();
                bytes
                    .map(|byte| self.base.wrapping_add(u64::from(*byte)))
                    .collect()
            }
            _ => self.unpack(range)?,
        })
    }

    fn undivided(&self, residual: u64) -> u64 {
        self.base.wrapping_add(residual.wrapping_mul(self.divisor))
    }

    /// The residuals in `range`, which begins at a run, with base and divisor undone.
    fn unpack(&self, range: Range<usize>) -> Option<Vec<u64>> {
        if range.is_empty() {
            return Some(Vec::new());
        }
        let buckets = self.coded_bytes()?;
        let plain = self.plain?.get()?;
        let runs = buckets.len().div_ceil(RUN).saturating_sub(1);
        let (offsets, bits) = plain.split_at_checked(runs * 4)?;
        let mut at = match (range.start / RUN).checked_sub(1) {
            None => 0,
            Some(run) => Reader::new(offsets.get(run * 4..)?).u32()? as usize,
        };
        let starts: [(u64, u32); 256] =
            std::array::from_fn(|bucket| start_of(bucket.to_le_bytes()[0], self.mantissa));
        let buckets = buckets.get(range)?;
        let mut values = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            let (start, low) = *starts.get(usize::from(*bucket))?;
            let residual = start.wrapping_add(bits_at(bits, at, low)?);
            at += low as usize;
            values.push(self.undivided(residual));
        }
        Some(values)
    }
}

/// The number of `count` bits, at most 63, that begins at bit `at`.
#[inline]
fn bits_at(bytes: &[u8], at: usize, count: u32) -> Option<u64> {
    let rest = bytes.get(at / 8..)?;
    let window = if let Some(window) = rest.first_chunk::<16>() {
        *window
    } else {
        if rest.len() * 8 < at % 8 + count as usize {
            return None;
        }
        let mut window = [0; 16];
        window
            .iter_mut()
            .zip(rest)
            .for_each(|(to, byte)| *to = *byte);
        window
    };
    let number = (u128::from_le_bytes(window) >> (at % 8)) & ((1 << count) - 1);
    u64::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::{super::sections::PackedSections, *};
    use proptest::prelude::*;

    /// Packs `values` into a body with the parameters in its first section.
    fn pack(values: &[u64], timestamps: Option<&[u64]>, codes: bool) -> Vec<u8> {
        let mut sections = Sections::new();
        sections.clear(codes);
        let first = sections.reserve();
        let mut small = Vec::new();
        write(values, timestamps, &mut small, &mut sections);
        sections.fill(first, small);
        sections.pack()
    }

    fn unpack(
        body: &[u8],
        count: usize,
        timestamps: &[u64],
        range: Range<usize>,
        last: Option<u64>,
    ) -> Option<(usize, Vec<u64>)> {
        let sections = PackedSections::open(body)?;
        let mut rest = Section::all_from(&sections, 1);
        let column = PackedInts::read(&mut Reader::new(sections.get(0)?), &mut rest, count)?;
        column.decode(range, last, |at| timestamps.get(at).copied())
    }

    fn columns() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
        let value = prop_oneof![
            Just(0u64..1),
            Just(7..200),
            Just(1000..5000),
            Just(0..1 << 40),
            Just(0..u64::MAX),
        ];
        let count = prop_oneof![0usize..FEW, FEW..300, 2 * RUN..3 * RUN];
        (
            value,
            count,
            0u8..5,
            prop_oneof![Just(1), 2u64..2_000_000],
            any::<u64>(),
        )
            .prop_flat_map(|(range, count, kind, factor, origin)| {
                let drawn = prop::collection::vec(range, count);
                let timestamps = prop::collection::vec(0u64..1 << 42, count);
                (drawn, timestamps).prop_map(move |(drawn, mut timestamps)| {
                    let values = drawn.iter().map(|it| it.wrapping_mul(factor));
                    timestamps.sort_unstable();
                    let mut sum = origin;
                    let values: Vec<u64> = match kind {
                        0 => values.collect(),
                        1 => values.map(|it| it.wrapping_add(origin)).collect(),
                        // Ascending, and in both directions.
                        2 | 3 => values
                            .map(|it| {
                                let is_down = kind == 3 && it % 3 == 0;
                                let step = if is_down { it.wrapping_neg() } else { it };
                                sum = sum.wrapping_add(step);
                                sum
                            })
                            .collect(),
                        _ => values
                            .zip(&timestamps)
                            .map(|(it, timestamp)| timestamp.wrapping_sub(it))
                            .collect(),
                    };
                    (values, timestamps)
                })
            })
    }

    proptest! {
        #[test]
        fn values_come_back(
            (values, timestamps) in columns(),
            with_timestamps: bool,
            codes: bool,
            start: prop::sample::Index,
            end: prop::sample::Index,
        ) {
            let body = pack(&values, with_timestamps.then_some(&timestamps), codes);
            let whole = unpack(&body, values.len(), &timestamps, 0..values.len(), None);
            prop_assert_eq!(whole, Some((0, values.clone())));
            // A part has at least what is asked for.
            let start = start.index(values.len() + 1);
            let end = start + end.index(values.len() + 1 - start);
            for last in [None, values.last().copied()] {
                let found = unpack(&body, values.len(), &timestamps, start..end, last);
                let (first, part) = found.unwrap();
                prop_assert!(first <= start && first + part.len() >= end);
                prop_assert_eq!(&part, &values[first..first + part.len()]);
            }
        }

        #[test]
        fn no_body_makes_reading_panic(
            (values, timestamps) in columns(),
            at: prop::sample::Index,
            byte: u8,
            count in 0usize..5000,
            codes: bool,
        ) {
            let mut body = pack(&values, Some(&timestamps), codes);
            let at = at.index(body.len());
            body[at] = byte;
            for count in [count, values.len()] {
                if let Some((start, values)) = unpack(&body, count, &timestamps, 0..count, None) {
                    prop_assert_eq!((start, values.len()), (0, count));
                }
                for last in [None, Some(7)] {
                    unpack(&body, count, &timestamps, count / 3..count / 2, last);
                }
            }
        }

        #[test]
        fn buckets_come_back(value: u64, shift in 0u32..64, mantissa in 0..=MANTISSA_MAX) {
            let value = value >> shift;
            let (bucket, low) = bucket_of(value, mantissa);
            if let Ok(bucket) = u8::try_from(bucket) {
                prop_assert_eq!(start_of(bucket, mantissa), (value >> low << low, low));
            }
        }
    }

    #[test]
    fn columns_take_what_their_values_say() {
        let bytes_of = |values: &[u64], timestamps| {
            let [plain, coded] = [false, true].map(|codes| pack(values, timestamps, codes).len());
            assert!(coded <= plain + 32, "{coded}, {plain}");
            plain
        };
        let mut random = 7u64;
        let mut below = |bound: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % bound
        };
        let timestamps: Vec<u64> = (0..8192)
            .scan(1_778_000_000_000_000_000, |time, _| {
                *time += 50_000 + below(1_950_000);
                Some(*time)
            })
            .collect();
        // A counter takes its first value and its step.
        for counter in [5_000..13_192, 0..200] {
            assert!(bytes_of(&counter.collect::<Vec<u64>>(), None) < 32);
        }
        // 20.9 bits of entropy each.
        assert!((8192 * 209 / 80..8192 * 213 / 80).contains(&bytes_of(&timestamps, None)));
        let micros: Vec<u64> = timestamps.iter().map(|time| time / 1000 * 1000).collect();
        assert!(
            bytes_of(&micros, None) < 8192 * 113 / 80,
            "the last three digits are zeros"
        );
        let ends: Vec<u64> = timestamps
            .iter()
            .map(|time| time + 5 * below(100))
            .collect();
        assert!(bytes_of(&ends, Some(&timestamps)) < 8192 * 70 / 80);
        assert!(bytes_of(&timestamps, Some(&timestamps)) < 32);
    }
}
