//! Lines of untrusted files, of any length and any compression ratio.

use crate::{flat::Packing, interrupt::Interrupt};
use flate2::bufread::MultiGzDecoder;
use gridctl_telemetry::{Timestamp, lines::RecordReader};
use rustix::{fd::AsFd, fs::OFlags, io::Errno};
use std::{
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The longest line that is read, in bytes. No record is larger.
pub(crate) const INPUT_LINE_BYTES_MAX: usize = RecordReader::VALUE_BYTES_MAX;
const BUFFER_BYTES: usize = 256 << 10;

/// Reads a file, compressed or not, line by line.
pub(crate) struct Lines<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
    line_bytes_max: usize,
}

/// A line, or the reason for none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A line, without its line end.
    Line(&'a [u8]),
    /// A line that is too long, of this many bytes. It was skipped.
    TooLong(u64),
    /// The end.
    End,
}

/// Called with the number of bytes of each read from a file, to show progress.
pub(crate) type OnRead = Box<dyn FnMut(u64)>;

/// A source of lines, opened, and when it was last written if that is known.
pub(crate) type Opened = (Lines<Box<dyn BufRead>>, Option<Timestamp>);

/// Opens `path`, or standard input for `-`. A compressed file fails once it has
/// unpacked to more than `bytes_max` bytes, and all of them fail on an interrupt.
pub(crate) fn open(
    path: &Path,
    packing: Packing,
    bytes_max: u64,
    interrupt: &Interrupt,
    on_read: OnRead,
) -> io::Result<Opened> {
    let (source, modified): (Box<dyn Read>, _) = if path == Path::new("-") {
        let source = stdin(interrupt);
        (Box::new(source), Some(Timestamp::now()))
    } else {
        // Without NONBLOCK, opening a FIFO would wait for its writer.
        let input = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        let modified = input.metadata()?.modified().ok().map(Timestamp::from);
        let source = Waiting {
            input,
            interrupt: interrupt.clone(),
        };
        (Box::new(source), modified)
    };
    let source = Counted { source, on_read };
    let file = BufReader::with_capacity(BUFFER_BYTES, source);
    let unpacked: Box<dyn Read> = match packing {
        Packing::Plain => return Ok((Lines::new(Box::new(file), INPUT_LINE_BYTES_MAX), modified)),
        Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(zstd::Decoder::with_buffer(file)?),
    };
    let bounded = Bounded {
        input: unpacked,
        left: bytes_max,
    };
    let input: Box<dyn BufRead> = Box::new(BufReader::with_capacity(BUFFER_BYTES, bounded));
    Ok((Lines::new(input, INPUT_LINE_BYTES_MAX), modified))
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R, line_bytes_max: usize) -> Lines<R> {
        Lines {
            input,
            line: Vec::new(),
            number: 0,
            line_bytes_max,
        }
    }

    /// The number of the last line, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line.
    pub(crate) fn next(&mut self) -> io::Result<Found<'_>> {
        self.line.clear();
        let mut bytes = 0u64;
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.number += 1;
                    return Err(error);
                }
            };
            if buffer.is_empty() {
                if bytes == 0 {
                    return Ok(Found::End);
                }
                break;
            }
            let end = memchr::memchr(b'\n', buffer);
            let part = buffer
                .get(..end.unwrap_or(buffer.len()))
                .unwrap_or_default();
            let used = part.len() + usize::from(end.is_some());
            // A file that was truncated while it was written begins with NULs, as many as it had bytes:
            // one stands for all of them.
            let is_start = self.number == 0 && self.line.iter().all(|byte| *byte == 0);
            let part = match part.iter().position(|byte| *byte != 0) {
                Some(start) if is_start && start > 0 => {
                    self.line.clear();
                    bytes = 0;
                    part.get(start - 1..).unwrap_or_default()
                }
                None if is_start && !part.is_empty() => {
                    self.line.clear();
                    bytes = 0;
                    b"\0"
                }
                _ => part,
            };
            bytes += part.len() as u64;
            // A line that is too long is counted and not kept, because it may be larger than memory.
            if self.line.len() + part.len() <= self.line_bytes_max {
                self.line.extend_from_slice(part);
            } else {
                self.line.clear();
                self.line.shrink_to(BUFFER_BYTES);
            }
            self.input.consume(used);
            if end.is_some() {
                break;
            }
        }
        self.number += 1;
        if bytes > self.line_bytes_max as u64 {
            return Ok(Found::TooLong(bytes));
        }
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        Ok(Found::Line(line))
    }
}

/// Standard input, whose reads fail on an interrupt.
pub(crate) fn stdin(interrupt: &Interrupt) -> impl Read + use<> {
    Waiting {
        input: io::stdin(),
        interrupt: interrupt.clone(),
    }
}

/// Input that may have to be waited for, until an interrupt.
struct Waiting<F> {
    input: F,
    interrupt: Interrupt,
}

impl<F: AsFd> Read for Waiting<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.interrupt.wait_for_input(&self.input) {
            match rustix::io::read(&self.input, &mut *buffer) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                outcome => return Ok(outcome?),
            }
        }
        Err(io::Error::other("interrupted"))
    }
}

struct Counted {
    source: Box<dyn Read>,
    on_read: OnRead,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.source.read(buffer)?;
        (self.on_read)(bytes as u64);
        Ok(bytes)
    }
}

/// Fails once more bytes come out than are allowed, because a few kilobytes of gzip can be terabytes of
/// text.
struct Bounded<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.input.read(buffer)?;
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the file unpacks to more than --max-unpacked-size allows",
            )
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], line_bytes_max: usize) -> Vec<Result<Vec<u8>, u64>> {
        // A tiny buffer, so that lines span many buffers.
        let mut lines = Lines::new(BufReader::with_capacity(3, input), line_bytes_max);
        let mut found = Vec::new();
        loop {
            match lines.next().unwrap() {
                Found::Line(line) => found.push(Ok(line.to_vec())),
                Found::TooLong(bytes) => found.push(Err(bytes)),
                Found::End => return found,
            }
        }
    }

    #[test]
    fn lines_are_found_whatever_ends_them() {
        assert_eq!(
            all(b"one\r\n\ntwo\nlast", 100),
            [
                Ok(b"one".to_vec()),
                Ok(vec![]),
                Ok(b"two".to_vec()),
                Ok(b"last".to_vec())
            ]
        );
        assert_eq!(all(b"", 10), []);
    }

    #[test]
    fn nuls_before_the_first_line_are_one() {
        assert_eq!(
            all(b"\0\0\0\0\0\0\0\0ab\n\0\0cd", 6),
            [Ok(b"\0ab".to_vec()), Ok(b"\0\0cd".to_vec())]
        );
        assert_eq!(all(b"\0\0\0\0\0\0\0\0", 6), [Ok(b"\0".to_vec())]);
    }

    #[test]
    fn a_long_line_is_passed_over_and_the_next_one_read() {
        assert_eq!(
            all(b"ab\n0123456789\ncd\n0123456", 6),
            [Ok(b"ab".to_vec()), Err(10), Ok(b"cd".to_vec()), Err(7)]
        );
    }

    #[test]
    fn no_more_comes_out_than_is_allowed() {
        let mut bounded = Bounded {
            input: &[0u8; 100][..],
            left: 10,
        };
        let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
