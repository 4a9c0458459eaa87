//! The container of a block's body: byte sections, each compressed on its own or together with
//! others.
//!
//! Long sections are compressed separately, because text next to random bytes compresses badly.
//! Short ones are compressed together, because a frame of their own would cost more than it saves.
//! Those that are close to random are stored as they are.

use super::{
    bytes::{Reader, Writer},
    frequencies::{self, Frequencies},
};
use std::cell::{OnceCell, RefCell};

/// Sections shorter than this share a frame, in bytes.
const OWN_FRAME_BYTES_MIN: usize = 1024;
/// Sections of symbols shorter than this are not coded by themselves, in bytes.
const SYMBOLS_MIN: usize = 64;
/// The zstd level: on columns, a higher level saves less than a page per block.
const LEVEL: i32 = 1;
/// Maximum size of an unpacked body, in bytes. Sections hold no more than the payloads they were
/// made from and a few bytes for each value.
const UNPACKED_BYTES_MAX: usize = 64 << 20;

mod method {
    /// Uncompressed.
    pub(super) const RAW: u8 = 0;
    /// In a zstd frame of its own.
    pub(super) const ZSTD: u8 = 1;
    /// In the frame shared by short sections.
    pub(super) const SHARED: u8 = 2;
    /// Coded by the frequencies of its bytes.
    pub(super) const FREQUENCIES: u8 = 3;
}

/// What a section consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Text, or anything else.
    Any,
    /// Bytes of which some are more frequent than others, and which follow each other at random or repeat.
    Symbols,
    /// Bytes that are close to random.
    Random,
}

pub(super) struct Sections {
    parts: Vec<(Vec<u8>, Content)>,
    codes: bool,
    shared: Vec<u8>,
    frame: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl Sections {
    pub(super) fn new() -> Sections {
        Sections {
            parts: Vec::new(),
            codes: false,
            shared: Vec::new(),
            frame: Vec::new(),
            compressor: zstd::bulk::Compressor::new(LEVEL).ok(),
        }
    }

    /// Removes all sections. Whether sections of symbols will be coded by frequencies follows from the codec, because
    /// programs that do not know the one do not know the other.
    pub(super) fn clear(&mut self, codes: bool) {
        self.parts.clear();
        self.codes = codes;
    }

    /// Whether sections of symbols are coded by frequencies.
    pub(super) fn codes(&self) -> bool {
        self.codes
    }

    pub(super) fn push(&mut self, section: Vec<u8>) {
        self.parts.push((section, Content::Any));
    }

    /// Adds a section that is known only after others, see [`Sections::fill`]. Returns its index.
    pub(super) fn reserve(&mut self) -> usize {
        self.push(Vec::new());
        self.parts.len() - 1
    }

    /// Sets the content of a section.
    pub(super) fn fill(&mut self, index: usize, section: Vec<u8>) {
        if let Some((content, _)) = self.parts.get_mut(index) {
            *content = section;
        }
    }

    /// Adds a section of bytes that are close to random, which compression would not shorten.
    pub(super) fn push_plain(&mut self, section: Vec<u8>) {
        self.parts.push((section, Content::Random));
    }

    /// Adds a section of buckets or of indexes of few.
    pub(super) fn push_symbols(&mut self, section: Vec<u8>) {
        self.parts.push((section, Content::Symbols));
    }

    /// Packs all sections into one body.
    pub(super) fn pack(&mut self) -> Vec<u8> {
        let mut directory = Vec::with_capacity(self.parts.len() * 4);
        let mut frames = Vec::new();
        self.shared.clear();
        directory.varint(self.parts.len() as u64);
        for (section, content) in &self.parts {
            if *content == Content::Random {
                directory.push(method::RAW);
                directory.varint(section.len() as u64);
                frames.extend_from_slice(section);
                continue;
            }
            if self.codes && *content == Content::Symbols && section.len() >= SYMBOLS_MIN {
                let (frequencies, bytes) = Frequencies::of(section);
                let zstd_bytes = compress(&mut self.compressor, section, &mut self.frame);
                // It takes twice the time of zstd to read.
                if bytes + bytes / 32 < zstd_bytes.unwrap_or(section.len()) {
                    let coded = frequencies.encode(section);
                    directory.push(method::FREQUENCIES);
                    directory.varint(section.len() as u64);
                    directory.varint(coded.len() as u64);
                    frames.extend_from_slice(&coded);
                    continue;
                }
            }
            if section.len() < OWN_FRAME_BYTES_MIN {
                directory.push(method::SHARED);
                directory.varint(section.len() as u64);
                self.shared.extend_from_slice(section);
                continue;
            }
            push_frame(
                &mut self.compressor,
                section,
                &mut self.frame,
                &mut directory,
            );
            frames.extend_from_slice(&self.frame);
        }
        push_frame(
            &mut self.compressor,
            &self.shared,
            &mut self.frame,
            &mut directory,
        );
        directory.extend_from_slice(&self.frame);
        directory.extend_from_slice(&frames);
        directory
    }
}

/// Compresses `section` into `frame` and adds its entry to `directory`. Leaves it uncompressed when
/// compression does not pay.
fn push_frame(
    compressor: &mut Option<zstd::bulk::Compressor<'static>>,
    section: &[u8],
    frame: &mut Vec<u8>,
    directory: &mut Vec<u8>,
) {
    if compress(compressor, section, frame).is_some() {
        directory.push(method::ZSTD);
        directory.varint(section.len() as u64);
        directory.varint(frame.len() as u64);
    } else {
        frame.clear();
        frame.extend_from_slice(section);
        directory.push(method::RAW);
        directory.varint(section.len() as u64);
    }
}

/// Compresses `section` into `frame`, and returns its length there. `None` when that does not pay.
fn compress(
    compressor: &mut Option<zstd::bulk::Compressor<'static>>,
    section: &[u8],
    frame: &mut Vec<u8>,
) -> Option<usize> {
    frame.clear();
    frame.reserve(zstd::zstd_safe::compress_bound(section.len()));
    let compressed = compressor.as_mut()?.compress_to_buffer(section, frame);
    compressed.ok().filter(|bytes| *bytes < section.len())
}

/// The sections of a body of [`Sections::pack`]. Each is inflated when it is first read, so reading
/// one column does not cost the time of all.
pub(super) struct PackedSections<'a> {
    sections: Vec<Packed<'a>>,
    shared: Packed<'a>,
}

struct Packed<'a> {
    method: u8,
    length: usize,
    stored: &'a [u8],
    /// The offset in the shared frame of a section that is in it.
    shared_at: usize,
    inflated: OnceCell<Option<Vec<u8>>>,
}

impl<'a> PackedSections<'a> {
    /// Reads the directory of a body; `None` when the bytes are not a body.
    pub(super) fn open(body: &'a [u8]) -> Option<PackedSections<'a>> {
        let mut reader = Reader::new(body);
        let count = reader.length().filter(|count| *count <= body.len())?;
        let mut unpacked_bytes = 0usize;
        let mut read_entry = |reader: &mut Reader<'_>| -> Option<(u8, usize, usize)> {
            let (method, length) = (reader.u8()?, reader.length()?);
            unpacked_bytes = unpacked_bytes.checked_add(length)?;
            if unpacked_bytes > UNPACKED_BYTES_MAX {
                return None;
            }
            let stored = match method {
                method::ZSTD | method::FREQUENCIES => reader.length()?,
                method::SHARED => 0,
                _ => length,
            };
            Some((method, length, stored))
        };
        let entries = (0..count)
            .map(|_| read_entry(&mut reader))
            .collect::<Option<Vec<(u8, usize, usize)>>>()?;
        let shared = read_entry(&mut reader)?;
        let mut shared_at = 0;
        let mut open = |(method, length, stored)| {
            let packed = Packed {
                method,
                length,
                stored: reader.bytes(stored)?,
                shared_at,
                inflated: OnceCell::new(),
            };
            if method == method::SHARED {
                shared_at += length;
            }
            Some(packed)
        };
        // The shared frame stands before the others.
        let shared = open(shared).filter(|shared| shared.method != method::SHARED)?;
        let sections = entries
            .into_iter()
            .map(open)
            .collect::<Option<Vec<Packed<'_>>>>()?;
        (reader.is_empty() && shared_at == shared.length)
            .then_some(PackedSections { sections, shared })
    }

    /// The number of sections.
    pub(super) fn len(&self) -> usize {
        self.sections.len()
    }

    /// The length of section `index`, which is not inflated for it.
    pub(super) fn length(&self, index: usize) -> Option<usize> {
        Some(self.sections.get(index)?.length)
    }

    /// The content of section `index`; `None` when there is no such section or it is damaged.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let section = self.sections.get(index)?;
        if section.method == method::SHARED {
            let end = section.shared_at.checked_add(section.length)?;
            return self.shared.inflate()?.get(section.shared_at..end);
        }
        section.inflate()
    }
}

impl Packed<'_> {
    fn inflate(&self) -> Option<&[u8]> {
        match self.method {
            method::RAW => Some(self.stored),
            method::ZSTD => self
                .inflated
                .get_or_init(|| decompress(self.stored, self.length))
                .as_deref(),
            method::FREQUENCIES => self
                .inflated
                .get_or_init(|| frequencies::decode(self.stored, self.length))
                .as_deref(),
            _ => None,
        }
    }
}

thread_local! {
    /// A context takes longer to make than most sections to decompress.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress(frame: &[u8], length: usize) -> Option<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        if decompressor.is_none() {
            *decompressor = zstd::bulk::Decompressor::new().ok();
        }
        let section = decompressor.as_mut()?.decompress(frame, length).ok()?;
        (section.len() == length).then_some(section)
    })
}

#[cfg(test)]
impl PackedSections<'_> {
    /// The sections, to be changed and packed again.
    pub(super) fn to_sections(&self) -> Sections {
        let mut sections = Sections::new();
        for (index, section) in self.sections.iter().enumerate() {
            let content = match section.method {
                method::RAW => Content::Random,
                method::FREQUENCIES => Content::Symbols,
                _ => Content::Any,
            };
            sections.codes |= content == Content::Symbols;
            sections
                .parts
                .push((self.get(index).unwrap_or_default().to_vec(), content));
        }
        sections
    }
}

#[cfg(test)]
impl Sections {
    /// Sets a byte of a section.
    pub(super) fn change(&mut self, at: proptest::sample::Index, byte: u8) {
        let total: usize = self.parts.iter().map(|(section, _)| section.len()).sum();
        let mut bytes = self.parts.iter_mut().flat_map(|(section, _)| section);
        if let Some(changed) = bytes.nth(at.index(total.max(1))) {
            *changed = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of a few bytes must not take gigabytes when it is read.
    #[test]
    fn sections_that_are_too_long_together_are_refused() {
        for (lengths, opens) in [
            (vec![UNPACKED_BYTES_MAX], true),
            (vec![UNPACKED_BYTES_MAX - 5, 5], true),
            (vec![UNPACKED_BYTES_MAX + 1], false),
            (vec![UNPACKED_BYTES_MAX - 5, 6], false),
            (vec![UNPACKED_BYTES_MAX / 2; 3], false),
        ] {
            let mut body = Vec::new();
            body.varint(lengths.len() as u64);
            for length in &lengths {
                body.push(method::ZSTD);
                body.varint(*length as u64);
                body.varint(0);
            }
            // The shared frame.
            body.extend([method::RAW, 0]);
            assert_eq!(PackedSections::open(&body).is_some(), opens, "{lengths:?}");
        }
    }
}
