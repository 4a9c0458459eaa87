//! The container of a block's body: byte sections, each compressed on its own or together with
//! others.
//!
//! Long sections are compressed separately, because text next to random bytes compresses badly.
//! Short ones are compressed together, because a frame of their own would cost more than it saves.

use super::bytes::{Reader, Writer};

/// Sections shorter than this share a frame, in bytes.
const OWN_FRAME_BYTES_MIN: usize = 1024;
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
}

pub(super) struct Sections {
    parts: Vec<Vec<u8>>,
    shared: Vec<u8>,
    frame: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl Sections {
    pub(super) fn new() -> Sections {
        Sections {
            parts: Vec::new(),
            shared: Vec::new(),
            frame: Vec::new(),
            compressor: zstd::bulk::Compressor::new(LEVEL).ok(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.parts.clear();
    }

    pub(super) fn push(&mut self, section: Vec<u8>) {
        self.parts.push(section);
    }

    /// Packs all sections into one body.
    pub(super) fn pack(&mut self) -> Vec<u8> {
        let mut directory = Vec::with_capacity(self.parts.len() * 4);
        let mut frames = Vec::new();
        self.shared.clear();
        directory.varint(self.parts.len() as u64);
        for section in &self.parts {
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
    frame.clear();
    frame.reserve(zstd::zstd_safe::compress_bound(section.len()));
    let compressed = compressor
        .as_mut()
        .and_then(|compressor| compressor.compress_to_buffer(section, frame).ok())
        .filter(|bytes| *bytes < section.len());
    if compressed.is_some() {
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

/// Unpacks a body of [`Sections::pack`]; `None` when the bytes are not one.
pub(super) fn unpack(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    unpack_first(body, usize::MAX)
}

/// Unpacks the first `wanted` sections, like [`unpack`].
pub(super) fn unpack_first(body: &[u8], wanted: usize) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader::new(body);
    let count = reader.length().filter(|count| *count <= body.len())?;
    let mut unpacked_bytes = 0usize;
    let mut read_entry = |reader: &mut Reader<'_>| -> Option<(u8, usize, usize)> {
        let (method, length) = (reader.u8()?, reader.length()?);
        unpacked_bytes = unpacked_bytes.checked_add(length)?;
        if unpacked_bytes > UNPACKED_BYTES_MAX {
            return None;
        }
        let stored = if method == method::ZSTD {
            reader.length()?
        } else {
            length
        };
        Some((method, length, stored))
    };
    let entries = (0..count)
        .map(|_| read_entry(&mut reader))
        .collect::<Option<Vec<(u8, usize, usize)>>>()?;
    let (shared_method, shared_length, shared_stored) = read_entry(&mut reader)?;
    let shared = inflate(shared_method, shared_length, reader.bytes(shared_stored)?)?;
    let mut shared = Reader::new(&shared);
    let sections = entries
        .into_iter()
        .take(wanted)
        .map(|(method, length, stored)| match method {
            method::SHARED => shared.bytes(length).map(<[u8]>::to_vec),
            _ => inflate(method, length, reader.bytes(stored)?),
        })
        .collect::<Option<Vec<Vec<u8>>>>()?;
    let is_read = reader.is_empty() && shared.is_empty();
    (is_read || wanted < count).then_some(sections)
}

fn inflate(method: u8, length: usize, stored: &[u8]) -> Option<Vec<u8>> {
    match method {
        method::RAW => Some(stored.to_vec()),
        method::ZSTD => {
            let section = zstd::bulk::decompress(stored, length).ok()?;
            (section.len() == length).then_some(section)
        }
        _ => None,
    }
}
