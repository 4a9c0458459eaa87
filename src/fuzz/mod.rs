//! Targets for fuzzing: each parser and codec of the crate, as a function of bytes that must not panic,
//! and inputs that begin as valid ones.
//!
//! Inputs follow from a seed and a number, so a case is repeated by naming both. They are valid inputs
//! with a few changes: bits, numbers at the edge of a range, parts removed, repeated, and exchanged with
//! those of another input. Where a checksum would refuse every change, the target corrects it first, so
//! that the code after it is reached.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a fuzzer reports by panicking"
)]

mod records;
mod texts;

use crate::store::{fuzz_blocks, fuzz_ledger, fuzz_rows, fuzz_spill};

/// The longest input, in bytes.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// A parser or a codec, as a fuzzer calls it.
#[derive(Debug)]
pub struct FuzzTarget {
    name: &'static str,
    run: fn(&[u8]),
    /// Valid inputs.
    seeds: Vec<Vec<u8>>,
    /// Parts that inputs of this target have, for insertion.
    words: &'static [&'static str],
}

impl FuzzTarget {
    /// A target whose inputs are changes of `seeds`, into which `words` are inserted.
    #[must_use]
    pub fn new(
        name: &'static str,
        run: fn(&[u8]),
        seeds: Vec<Vec<u8>>,
        words: &'static [&'static str],
    ) -> FuzzTarget {
        FuzzTarget {
            name,
            run,
            seeds,
            words,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Passes `input` to the parser. Panics when the parser does, or when it contradicts itself.
    pub fn run(&self, input: &[u8]) {
        (self.run)(input);
    }

    /// The input with this number, at most 64 KiB long. The first ones are the valid inputs.
    #[must_use]
    pub fn input(&self, seed: u64, number: u64) -> Vec<u8> {
        if let Some(valid) = usize::try_from(number)
            .ok()
            .and_then(|at| self.seeds.get(at))
        {
            return valid.clone();
        }
        let mut draw = Draw(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut input = match draw.below(32) {
            0 => draw.bytes(200),
            _ => draw.pick(&self.seeds).cloned().unwrap_or_default(),
        };
        let changes = 1 << draw.below(5);
        for _ in 0..changes {
            self.change(&mut input, &mut draw);
        }
        // A long input of parts that are alike, for costs that grow with a power of the length.
        if draw.below(256) == 0 && !input.is_empty() {
            let part = draw.part(&input);
            let at = draw.below(input.len());
            let times = (INPUT_BYTES_MAX - input.len().min(INPUT_BYTES_MAX)) / part.len().max(1);
            let repeated = part.repeat(times);
            input.splice(at..at, repeated);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn change(&self, input: &mut Vec<u8>, draw: &mut Draw) {
        if input.is_empty() {
            *input = draw.bytes(8);
        }
        let at = draw.below(input.len());
        match draw.below(9) {
            0 => input[at] ^= 1 << draw.below(8),
            1 => input[at] = *draw.pick(&EDGES).unwrap_or(&0),
            2 => {
                let number = draw.number();
                let width = 1 << draw.below(4);
                let bytes = if draw.below(2) == 0 {
                    number.to_le_bytes()[..width].to_vec()
                } else {
                    number.to_be_bytes()[8 - width..].to_vec()
                };
                let end = (at + width).min(input.len());
                input.splice(at..end, bytes);
            }
            3 => {
                let end = (at + 1 + draw.below(16)).min(input.len());
                input.drain(at..end);
            }
            4 => input.truncate(at),
            5 => {
                let part = draw.part(input);
                input.splice(at..at, part);
            }
            6 => {
                let other = draw.pick(&self.seeds).cloned().unwrap_or_default();
                let part = draw.part(&other);
                let end = (at + draw.below(part.len() + 1)).min(input.len());
                input.splice(at..end, part);
            }
            7 => {
                let word = draw.pick(self.words).copied().unwrap_or("0");
                input.splice(at..at, word.bytes());
            }
            _ => {
                let bytes = draw.bytes(8);
                input.splice(at..at, bytes);
            }
        }
    }
}

/// Bytes that mean something in `MessagePack`, in protobuf's varints, or in texts.
const EDGES: [u8; 20] = [
    0x00, 0x01, 0x7f, 0x80, 0xff, 0xc0, 0xc1, 0xc4, 0xca, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, b'"',
    b'\\', b'{', b'[', b'\n',
];

/// Draws numbers that follow from a seed: `SplitMix64`, so that close seeds are not alike.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let length = 1 + self.below(max);
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Some neighbouring bytes, mostly few.
    fn part(&mut self, bytes: &[u8]) -> Vec<u8> {
        let from = self.below(bytes.len());
        let most = if self.below(4) == 0 { bytes.len() } else { 32 };
        let length = 1 + self.below(most);
        bytes[from..].iter().take(length).copied().collect()
    }

    /// A number near a power of two.
    fn number(&mut self) -> u64 {
        let power = 1_u64 << self.below(64);
        [power, power - 1, power + 1, power.wrapping_neg()][self.below(4)]
    }
}

/// The targets of this crate.
#[must_use]
pub fn fuzz_targets() -> Vec<FuzzTarget> {
    let mut targets = records::targets();
    targets.extend(texts::targets());
    let none = &[];
    targets.extend([
        FuzzTarget::new("block", fuzz_blocks::body, records::bodies(), none),
        FuzzTarget::new(
            "block sections",
            fuzz_blocks::sections,
            records::sections(),
            none,
        ),
        FuzzTarget::new("summary", fuzz_blocks::summary, records::summaries(), none),
        FuzzTarget::new("row", fuzz_rows::value, fuzz_rows::seeds(), none),
        FuzzTarget::new(
            "table values",
            fuzz_ledger::values,
            fuzz_ledger::seeds(),
            none,
        ),
        FuzzTarget::new("spill", fuzz_spill::files, fuzz_spill::seeds(), none),
    ]);
    targets
}
