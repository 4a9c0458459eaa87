//! Bytes coded by how often each occurs: the buckets of numbers, and indexes of few, in
//! [`Codec::Spans`](super::Codec::Spans).
//!
//! Such bytes follow each other at random, and zstd takes up to a third more for them than their entropy: with few
//! different ones it finds repetitions that do not pay, a byte takes it one bit at least, and a column of some
//! hundred bytes is not worth a frame. This is an asymmetric numeral system (rANS) whose states take turns, so that a
//! processor decodes several bytes at a time. It is by hand because the crates for it are unsafe or experiments. Logs do
//! without, because they would gain 0.6 % and take 6 % longer to read.
//!
//! ```text
//! bytes  content
//!     1  logarithm of the sum of all frequencies
//!     1  the lowest byte that occurs
//!     1  the highest byte that occurs, less the lowest
//!        the frequencies of these and of those between them, in bits, lowest bit first: 4 bits number of bits of the
//!        frequency, then those below its highest; for a frequency of 0, 4 bits number of further ones after it
//!  4 each the states before the first byte: four for 1,024 bytes or more, otherwise two
//!        words of 2 bytes, one after another, that the states take in
//! ```
//!
//! All integers are little-endian. A state `s` codes the byte whose share of the sum `s % sum` falls into, and
//! becomes `frequency * (s / sum) + s % sum - start of the share`. When it is below 65,536 then, a word becomes its
//! lower half.

use super::bytes::Reader;

/// The lowest state between two bytes.
const LOWEST: u32 = 1 << 16;
/// The greatest logarithm of the sum of the frequencies, and the least. With 12, a block is 0.03 % smaller, and each table
/// takes twice the time to build.
const LOG_MAX: u32 = 11;
const LOG_MIN: u32 = 6;
/// The number of bytes that are coded with four states in place of two.
const MANY: usize = 1024;

/// How often each byte occurs, in parts of a sum.
#[derive(Debug, Clone)]
pub(super) struct Frequencies {
    log: u32,
    of_bytes: [u32; 256],
}

/// How often each byte occurs.
pub(super) fn counts_of(bytes: &[u8]) -> [u32; 256] {
    let mut counts = [0; 256];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    counts
}

impl Frequencies {
    /// The frequencies of `bytes`, which are not empty, and about the number of bytes that [`Frequencies::encode`]
    /// makes of them.
    pub(super) fn of(bytes: &[u8]) -> (Frequencies, usize) {
        let counts = counts_of(bytes);
        let distinct = counts.iter().filter(|count| **count > 0).count();
        // More precise frequencies than the bytes themselves would only make the table longer.
        let log = bytes.len().max(distinct * 4).ilog2();
        let log = log.clamp(LOG_MIN, LOG_MAX);
        let sum = 1u64 << log;
        let all = bytes.len().max(1) as u64;
        let mut left = 1i64 << log;
        let of_bytes = counts.map(|count| {
            let share = (u64::from(count) * sum + all / 2) / all;
            let share = u32::try_from(share).unwrap_or(0).max(u32::from(count > 0));
            left -= i64::from(share);
            share
        });
        let mut frequencies = Frequencies { log, of_bytes };
        frequencies.settle(left);
        let bits: f64 = (counts.iter().zip(frequencies.of_bytes))
            .filter(|(count, _)| **count > 0)
            .map(|(count, share)| f64::from(*count) * (f64::from(log) - f64::from(share).log2()))
            .sum();
        let mut table = BitWriter::default();
        frequencies.write(&mut table);
        let states_bytes = if bytes.len() < MANY { 8 } else { 16 };
        let coded = table.finish().len() + states_bytes + rounded(bits / 8.0);
        (frequencies, coded)
    }

    /// Adds `left` to the greatest frequencies, of which each must stay positive, so that all have the right sum.
    fn settle(&mut self, mut left: i64) {
        while left != 0 {
            let Some(greatest) = self.of_bytes.iter_mut().max() else {
                return;
            };
            let change = left.max(-i64::from(*greatest / 2));
            if change == 0 {
                return;
            }
            *greatest = u32::try_from(i64::from(*greatest) + change).unwrap_or(1);
            left -= change;
        }
    }

    /// The bytes from the lowest to the highest that occur.
    fn range(&self) -> (usize, usize) {
        let first = self.of_bytes.iter().position(|it| *it > 0);
        let last = self.of_bytes.iter().rposition(|it| *it > 0);
        (first.unwrap_or(0), last.unwrap_or(0))
    }

    /// Writes all but the logarithm.
    fn write(&self, out: &mut BitWriter) {
        let (first, last) = self.range();
        out.push(u32::try_from(first).unwrap_or(0), 8);
        out.push(u32::try_from(last - first).unwrap_or(0), 8);
        let mut rest = self.of_bytes.get(first..=last).unwrap_or_default();
        while let Some((frequency, after)) = rest.split_first() {
            rest = after;
            let bits = u32::BITS - frequency.leading_zeros();
            out.push(bits, 4);
            if let Some(below) = bits.checked_sub(1) {
                out.push(frequency & ((1 << below) - 1), below);
                continue;
            }
            let zeros = rest.iter().take(15).take_while(|it| **it == 0).count();
            out.push(u32::try_from(zeros).unwrap_or(0), 4);
            rest = rest.get(zeros..).unwrap_or_default();
        }
    }

    fn read(log: u32, input: &mut BitReader<'_>) -> Option<Frequencies> {
        let first = input.take(8)? as usize;
        let last = first + input.take(8)? as usize;
        let mut of_bytes = [0; 256];
        let mut rest = of_bytes.get_mut(first..=last)?.iter_mut();
        let mut sum = 0u32;
        while let Some(frequency) = rest.next() {
            let bits = input.take(4)?;
            if let Some(below) = bits.checked_sub(1) {
                *frequency = 1 << below | input.take(below)?;
                sum += *frequency;
            } else {
                for _ in 0..input.take(4)? {
                    rest.next()?;
                }
            }
        }
        (sum == 1 << log).then_some(Frequencies { log, of_bytes })
    }

    /// Codes `bytes`, whose frequencies these are.
    pub(super) fn encode(&self, bytes: &[u8]) -> Vec<u8> {
        if bytes.len() < MANY {
            self.encode_with::<2>(bytes)
        } else {
            self.encode_with::<4>(bytes)
        }
    }

    fn encode_with<const STATES: usize>(&self, bytes: &[u8]) -> Vec<u8> {
        let mut shares = [(0u32, 0u32); 256];
        let mut start = 0;
        for (share, frequency) in shares.iter_mut().zip(self.of_bytes) {
            *share = (start, frequency);
            start += frequency;
        }
        let mut words = Vec::with_capacity(bytes.len() / 2);
        let mut states = [LOWEST; STATES];
        // From the end, because they are decoded in the reverse order of coding.
        for turn in bytes.chunks(STATES).rev() {
            for (byte, state) in turn.iter().zip(&mut states).rev() {
                let (start, frequency) =
                    shares.get(usize::from(*byte)).copied().unwrap_or_default();
                let frequency = frequency.max(1);
                if u64::from(*state) >= u64::from(frequency) << (32 - self.log) {
                    words.push(*state);
                    *state >>= 16;
                }
                *state = ((*state / frequency) << self.log) + *state % frequency + start;
            }
        }
        let mut out = BitWriter::default();
        out.push(self.log, 8);
        self.write(&mut out);
        let mut out = out.finish();
        for state in states {
            out.extend_from_slice(&state.to_le_bytes());
        }
        for word in words.iter().rev() {
            out.extend(word.to_le_bytes().into_iter().take(2));
        }
        out
    }
}

/// The number of bytes of a part of one.
fn rounded(bytes: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a length in memory"
    )]
    let rounded = bytes.ceil() as usize;
    rounded
}

/// The byte of a part of the sum, its frequency less 1, and how far the part is from the start of its share.
#[derive(Debug, Clone, Copy)]
struct Part(u32);

impl Part {
    fn new(byte: u8, frequency: u32, offset: u32) -> Part {
        Part(u32::from(byte) << 24 | (frequency - 1) << 12 | offset)
    }

    #[inline]
    fn byte(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// The state after `state`, which falls into this part of a sum of `1 << log`.
    #[inline]
    fn advance(self, state: u32, log: u32) -> u32 {
        let frequency = (self.0 >> 12 & 0xfff) + 1;
        // Neither can overflow: the frequency is at most the sum.
        frequency
            .wrapping_mul(state >> log)
            .wrapping_add(self.0 & 0xfff)
    }
}

/// Decodes `length` bytes of what [`Frequencies::encode`] has made; `None` if it has not.
pub(super) fn decode(coded: &[u8], length: usize) -> Option<Vec<u8>> {
    if length < MANY {
        decode_with::<2>(coded, length)
    } else {
        decode_with::<4>(coded, length)
    }
}

fn decode_with<const STATES: usize>(coded: &[u8], length: usize) -> Option<Vec<u8>> {
    let (log, rest) = coded.split_first()?;
    let log = u32::from(*log);
    if !(LOG_MIN..=LOG_MAX).contains(&log) {
        return None;
    }
    let mut table = BitReader::new(rest);
    let frequencies = Frequencies::read(log, &mut table)?;
    let mut rest = Reader::new(table.rest()?);
    let mut states = [0; STATES];
    for state in &mut states {
        *state = rest.u32()?;
    }
    // Of a constant length, so that no index into it has to be checked.
    let mut parts = [Part(0); 1 << LOG_MAX];
    let mut free = parts.iter_mut();
    for (byte, frequency) in (0u8..=u8::MAX).zip(frequencies.of_bytes) {
        for (offset, part) in (0..frequency).zip(&mut free) {
            *part = Part::new(byte, frequency, offset);
        }
    }
    let mask = (1 << log) - 1;
    let (words, odd) = rest.rest().as_chunks::<2>();
    odd.is_empty().then_some(())?;
    let mut words_used = 0;
    let mut bytes = vec![0; length];
    for turn in bytes.chunks_mut(STATES) {
        for (byte, state) in turn.iter_mut().zip(&mut states) {
            let at = (*state & mask) as usize % parts.len();
            let part = parts.get(at).copied().unwrap_or(Part(0));
            let next = part.advance(*state, log);
            // Whether a state takes in a word is random, and a branch would be taken wrongly every second time.
            let word = words.get(words_used).copied().unwrap_or_default();
            let refilled = next << 16 | u32::from(u16::from_le_bytes(word));
            let is_low = next < LOWEST;
            *state = if is_low { refilled } else { next };
            words_used += usize::from(is_low);
            *byte = part.byte();
        }
    }
    (words_used == words.len() && states == [LOWEST; STATES]).then_some(bytes)
}

/// Writes numbers of a few bits, lowest bit first.
#[derive(Debug, Default)]
struct BitWriter {
    bytes: Vec<u8>,
    waiting: u64,
    waiting_bits: u32,
}

impl BitWriter {
    /// Appends the lowest `bits` bits of `value`, which has no others, at most 32.
    fn push(&mut self, value: u32, bits: u32) {
        self.waiting |= u64::from(value) << self.waiting_bits;
        self.waiting_bits += bits;
        while self.waiting_bits >= 8 {
            self.bytes.push(self.waiting.to_le_bytes()[0]);
            self.waiting >>= 8;
            self.waiting_bits -= 8;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.waiting_bits > 0 {
            self.bytes.push(self.waiting.to_le_bytes()[0]);
        }
        self.bytes
    }
}

/// Reads what a [`BitWriter`] has written.
struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// The next `bits` bits, at most 12.
    fn take(&mut self, bits: u32) -> Option<u32> {
        let mut window = 0;
        for (byte, shift) in self.bytes.get(self.at / 8..)?.iter().zip([0, 8, 16]) {
            window |= u32::from(*byte) << shift;
        }
        let value = window >> (self.at % 8) & ((1 << bits) - 1);
        self.at += bits as usize;
        (self.at <= self.bytes.len() * 8).then_some(value)
    }

    /// The bytes of which no bit has been taken.
    fn rest(&self) -> Option<&'a [u8]> {
        self.bytes.get(self.at.div_ceil(8)..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            Just(7..=7u8),
            Just(0..=1u8),
            Just(3..=20u8),
            Just(0..=u8::MAX),
        ];
        let drawn = byte.prop_flat_map(|byte| prop::collection::vec(byte, 1..1300));
        // Some are much more frequent than others.
        (drawn, 0usize..9, any::<u8>()).prop_map(|(mut bytes, often, frequent)| {
            for (index, byte) in bytes.iter_mut().enumerate() {
                if index % 9 < often {
                    *byte = frequent;
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in bytes()) {
            let (frequencies, estimated) = Frequencies::of(&bytes);
            let coded = frequencies.encode(&bytes);
            prop_assert_eq!(decode(&coded, bytes.len()), Some(bytes));
            prop_assert!(coded.len() <= estimated + 9 && estimated <= coded.len() + 9);
        }

        #[test]
        fn no_bytes_make_decoding_panic(
            bytes in bytes(),
            at: prop::sample::Index,
            byte: u8,
            length in 0usize..2000,
        ) {
            let mut coded = Frequencies::of(&bytes).0.encode(&bytes);
            let at = at.index(coded.len());
            coded[at] = byte;
            for length in [length, bytes.len()] {
                if let Some(bytes) = decode(&coded, length) {
                    prop_assert_eq!(bytes.len(), length);
                }
            }
            let _ = decode(&bytes, length);
        }
    }

    #[test]
    fn bytes_take_their_entropy() {
        let mut state = 7u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state >> 33
        };
        // Four bytes, two of which one is nine times as frequent, and sixty-four.
        for (below, draws, bits) in [(4, 4, 2.0), (2, 10, 0.469), (64, 64, 6.0)] {
            let byte = |random: u64| (random % draws).min(below - 1).to_le_bytes()[0];
            let bytes: Vec<u8> = (0..4000).map(|_| byte(random())).collect();
            let coded = Frequencies::of(&bytes).0.encode(&bytes);
            let entropy = rounded(4000.0 * bits / 8.0);
            assert!(
                coded.len() < entropy * 103 / 100 + 80,
                "{} of {entropy}",
                coded.len()
            );
        }
    }
}
