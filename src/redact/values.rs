//! Values that were registered as secrets, in the forms in which text holds them.

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, Span, packed};
use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use std::{cmp::Ordering, collections::HashMap, ops::Range};

/// A form is searched by its first bytes, and then compared: so a long value costs no more memory
/// than a short one.
const ANCHOR_BYTES_MAX: usize = 16;
/// Up to this many bytes of anchors the faster kind of automaton is built, which takes a kilobyte
/// of memory a byte.
const FAST_BYTES_MAX: usize = 16 << 10;
/// How many bytes of a text are looked up at once.
const SAMPLE_BYTES: usize = 4;
/// The least and the greatest size of the set of samples, in bits.
const SAMPLE_BITS: (usize, usize) = (1 << 12, 1 << 22);
/// The least length of anchors for which looking up samples pays.
const SAMPLED_BYTES_MIN: usize = 6;
/// Base64 of fewer characters stands in too many texts by chance.
const BASE64_BYTES_MIN: usize = 6;
/// JSON inside of JSON inside of JSON.
const JSON_DEPTH_MAX: usize = 3;
/// How many bytes are compared for a byte of text, beside [`COMPARED_BYTES_FREE`], before the text
/// is given up and replaced as a whole. Only text that repeats most of a long value gets there.
const COMPARED_PER_BYTE_MAX: usize = 32;
const COMPARED_BYTES_FREE: usize = 1 << 20;

const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, NO_PAD);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD);

/// The registered values at one moment.
pub(super) struct Values {
    values: Vec<String>,
    /// Finds the anchors of `forms`.
    search: Option<Search>,
}

struct Search {
    automaton: AhoCorasick,
    /// Finds whether the automaton could find anything, several times as fast. `None` where an
    /// anchor is too short for it.
    samples: Option<Samples>,
    /// The same for short anchors. `None` where they are too many for it, or the processor lacks
    /// the instructions.
    packed: Option<packed::Searcher>,
    /// For each anchor the length of the shortest form that begins with it, and these forms, sorted.
    forms: Vec<(usize, Vec<Form>)>,
}

/// The parts of [`SAMPLE_BYTES`] that anchors have, as a set that may hold others too. Whatever
/// holds an anchor has one of them at one of each `stride` positions.
struct Samples {
    bits: Vec<u64>,
    shift: u32,
    stride: usize,
}

/// A text that holds a value.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    text: Box<[u8]>,
    /// Whether the character before it holds some bits of the value, and the one after it.
    shares: (bool, bool),
    /// Among the forms of the same anchor, the longest that this one begins with.
    shorter: Option<usize>,
}

/// The text repeats parts of a value so often that comparing them would take too long.
#[derive(Debug)]
pub(super) struct TooRepetitive;

impl Values {
    pub(super) fn new(values: Vec<String>) -> Values {
        let mut by_anchor: HashMap<Box<[u8]>, Vec<Form>> = HashMap::new();
        for form in values.iter().flat_map(|value| forms(value)) {
            let anchor = form.text.get(..ANCHOR_BYTES_MAX).unwrap_or(&form.text);
            by_anchor.entry(anchor.into()).or_default().push(form);
        }
        let sorted = by_anchor.into_iter().map(|(anchor, mut forms)| {
            sort(&mut forms);
            let shortest = forms.iter().map(|form| form.text.len()).min();
            (anchor, (shortest.unwrap_or(0), forms))
        });
        let (anchors, forms): (Vec<_>, Vec<_>) = sorted.unzip();
        let fast = anchors.iter().map(|anchor| anchor.len()).sum::<usize>() <= FAST_BYTES_MAX;
        let kind = if fast {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        #[expect(
            clippy::expect_used,
            reason = "it fails beyond 2^31 states, and there are at most some 2^24 bytes of anchors"
        )]
        let search = (!anchors.is_empty()).then(|| Search {
            automaton: AhoCorasick::builder()
                .kind(Some(kind))
                .build(&anchors)
                .expect("an automaton within its bounds"),
            samples: Samples::new(&anchors),
            packed: packed::Config::new().builder().extend(&anchors).build(),
            forms,
        });
        Values { values, search }
    }

    /// The values themselves, sorted.
    pub(super) fn list(&self) -> &[String] {
        &self.values
    }

    /// Where, from `start` on, a value could begin in `text`. There is none before.
    pub(super) fn next(&self, text: &[u8], start: usize) -> Option<usize> {
        let search = self.search.as_ref()?;
        if let Some(samples) = &search.samples {
            return samples.next(text, start, &search.automaton);
        }
        let found = match &search.packed {
            Some(packed) => packed.find_in(text, Span::from(start..text.len())),
            None => search.automaton.find(Input::new(text).range(start..)),
        };
        found.map(|found| found.start())
    }

    /// Adds to `ranges` where `text` holds a value in one of its forms.
    pub(super) fn find(
        &self,
        text: &[u8],
        ranges: &mut Vec<Range<usize>>,
    ) -> Result<(), TooRepetitive> {
        let (Some(search), Some(start)) = (&self.search, self.next(text, 0)) else {
            return Ok(());
        };
        let mut left = COMPARED_BYTES_FREE + COMPARED_PER_BYTE_MAX * text.len();
        let input = Input::new(text).range(start..);
        for found in search.automaton.find_overlapping_iter(input) {
            let rest = text.get(found.start()..).unwrap_or_default();
            let forms = match search.forms.get(found.pattern().as_usize()) {
                Some((shortest, forms)) if *shortest <= rest.len() => forms,
                _ => continue,
            };
            // `rest` begins with forms only that are not greater, and each of them begins with the
            // shorter ones.
            let mut compare = |form: &Form| {
                let same = form.text.iter().zip(rest);
                let same = same.take_while(|(a, b)| a == b).count();
                left = left.checked_sub(same).ok_or(TooRepetitive)?;
                Ok((same, form.text.get(same).cmp(&rest.get(same))))
            };
            let (mut low, mut high) = (0, forms.len());
            while low < high {
                let middle = low.midpoint(high);
                let Some(form) = forms.get(middle) else { break };
                if compare(form)?.1 == Ordering::Greater {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            let mut at = low.checked_sub(1);
            let last = at.and_then(|at| forms.get(at));
            let same = last.map_or(Ok(0), |form| compare(form).map(|(same, _)| same))?;
            while let Some(form) = at.and_then(|at| forms.get(at)) {
                if form.text.len() <= same {
                    ranges.push(form.range(text, found.start()));
                    break;
                }
                at = form.shorter;
            }
        }
        Ok(())
    }
}

impl Samples {
    fn new(anchors: &[Box<[u8]>]) -> Option<Samples> {
        let shortest = anchors.iter().map(|anchor| anchor.len()).min()?;
        if shortest < SAMPLED_BYTES_MIN {
            return None;
        }
        let stride = shortest + 1 - SAMPLE_BYTES;
        // One bit in sixteen is set, which two samples share once in a while.
        let bits = (anchors.len() * stride * 16).next_power_of_two();
        let bits = bits.clamp(SAMPLE_BITS.0, SAMPLE_BITS.1);
        let mut samples = Samples {
            bits: vec![0; bits / 64],
            shift: u32::BITS - bits.trailing_zeros(),
            stride,
        };
        for anchor in anchors {
            for sample in anchor.windows(SAMPLE_BYTES).take(stride) {
                let (word, bit) = samples.place(sample)?;
                *samples.bits.get_mut(word)? |= bit;
            }
        }
        Some(samples)
    }

    /// The word and the bit that stand for `sample`.
    fn place(&self, sample: &[u8]) -> Option<(usize, u64)> {
        let sample = u32::from_le_bytes(sample.try_into().ok()?);
        let hash = sample.wrapping_mul(0x9E37_79B1) >> self.shift;
        Some((usize::try_from(hash / 64).ok()?, 1 << (hash % 64)))
    }

    /// Where `automaton`, which finds the anchors, finds the first from `start` on.
    fn next(&self, text: &[u8], start: usize, automaton: &AhoCorasick) -> Option<usize> {
        let mut at = start;
        loop {
            let sample = text.get(at..at + SAMPLE_BYTES)?;
            let (word, bit) = self.place(sample)?;
            if self.bits.get(word)? & bit != 0 {
                let from = (at + 1).saturating_sub(self.stride).max(start);
                let to = (at + ANCHOR_BYTES_MAX).min(text.len());
                let found = automaton.find(Input::new(text).range(from..to));
                if let Some(found) = found {
                    return Some(found.start());
                }
            }
            at += self.stride;
        }
    }
}

impl Form {
    /// What the form that begins at `start` takes in `text`.
    fn range(&self, text: &[u8], start: usize) -> Range<usize> {
        let is_base64 = |at: usize| {
            text.get(at)
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte))
        };
        let mut range = start..start + self.text.len();
        if self.shares.0 && start > 0 && is_base64(start - 1) {
            range.start -= 1;
        }
        if self.shares.1 && is_base64(range.end) {
            range.end += 1;
        }
        range
    }
}

/// Sorts `forms` and notes which of them begin with others.
fn sort(forms: &mut [Form]) {
    forms.sort_unstable();
    let mut begun: Vec<(usize, Box<[u8]>)> = Vec::new();
    for (index, form) in forms.iter_mut().enumerate() {
        while begun
            .pop_if(|(_, text)| !form.text.starts_with(text))
            .is_some()
        {}
        form.shorter = begun.last().map(|(index, _)| *index);
        begun.push((index, form.text.clone()));
    }
}

/// The forms of `value`: itself, escaped in JSON, encoded in a URL, and inside of base64.
fn forms(value: &str) -> Vec<Form> {
    let mut texts = vec![value.to_owned()];
    for escape in [json, json_ascii, json_html] {
        let mut text = escape(value);
        for _ in 0..JSON_DEPTH_MAX {
            let next = json(&text);
            texts.push(std::mem::replace(&mut text, next));
        }
    }
    for kept in ["-_.~", "-_.~!*'()", "-_.~!*'();,/?:@&=+$#", "-_.~/", "-_.*"] {
        for hex in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            texts.push(percent(value, kept, hex));
        }
    }
    let plus = percent(value, "-_.* ", b"0123456789ABCDEF").replace(' ', "+");
    texts.push(plus);
    let mut forms: Vec<Form> = texts
        .into_iter()
        .map(|text| Form {
            text: text.into_bytes().into(),
            shares: (false, false),
            shorter: None,
        })
        .collect();
    for engine in [STANDARD, URL_SAFE] {
        forms.extend((0..3).filter_map(|offset| base64(&engine, value, offset)));
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// What a value at `offset` (modulo 3) of what is encoded makes of the characters that hold nothing
/// but bits of it.
fn base64(engine: &GeneralPurpose, value: &str, offset: usize) -> Option<Form> {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(value.as_bytes());
    let encoded = engine.encode(&bytes).into_bytes();
    let (first, last) = ((offset * 8).div_ceil(6), bytes.len() * 8 / 6);
    let text = encoded.get(first..last)?;
    (text.len() >= BASE64_BYTES_MIN).then(|| Form {
        text: text.into(),
        shares: (offset > 0, !bytes.len().is_multiple_of(3)),
        shorter: None,
    })
}

/// As serde, Go without HTML, and most others write it.
fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let inner = quoted
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inner.unwrap_or(&quoted).to_owned()
}

/// As Python writes it: in ASCII.
fn json_ascii(text: &str) -> String {
    escape_units(&json(text), |character| !character.is_ascii())
}

/// As Go writes it: fit for HTML.
fn json_html(text: &str) -> String {
    escape_units(&json(text), |character| {
        matches!(character, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
    })
}

fn escape_units(text: &str, escapes: impl Fn(char) -> bool) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if escapes(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(character);
        }
    }
    out
}

/// `text` with all but letters, digits and `kept` as `%XX`.
fn percent(text: &str, kept: &str, hex: &[u8; 16]) -> String {
    let digit = |nibble: u8| hex.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            out.push(byte);
        } else {
            out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    String::from_utf8(out).unwrap_or_default()
}
