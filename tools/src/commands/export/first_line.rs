//! Marks that make the beginning of each file unique.
//!
//! A Collector identifies a file by its first 1000 bytes: if two files begin alike, it silently reads
//! only one of them. Logs and metrics in OTLP/JSON begin with a resource, which can be longer than that
//! and is the same in every file of a server, and two servers can log the same line at the same time.
//! Therefore the first line of a file has spaces and tabs after its first brace, which encode a number
//! that no other file has. JSON allows white space there, and its readers ignore it.
//!
//! Files whose lines begin with a resource always have the mark. A line of NDJSON begins with its time,
//! and a line of spans with their ids, so such a file has the mark only if an earlier file of the
//! export begins with the same line.

use gridctl_telemetry::{Signal, lines::COLLECTOR_LINE_BYTES_MAX};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_64;

/// The number of bytes at the start of a file by which a Collector identifies it.
const KNOWN_BY_BYTES: usize = 1000;
/// The length of the mark: one byte for each bit of a number of 64 bits. Lines of several records leave
/// space for it below the maximum length of a Collector's lines.
const MARK_BYTES: usize = 64;

/// The first record of a file. No two files of an export begin with the same record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning<'a> {
    pub(super) stack: &'a str,
    pub(super) server: &'a str,
    pub(super) signal: Signal,
    /// The time and sequence of the first record.
    pub(super) first: (i64, u64),
}

impl Beginning<'_> {
    fn number(&self) -> u64 {
        let Beginning {
            stack,
            server,
            signal,
            first: (nanos, sequence),
        } = self;
        // The text is unique, because names of stacks and signals have no slash.
        let text = format!("{stack}/{signal}/{nanos}/{sequence}/{server}");
        xxh3_64(text.as_bytes())
    }
}

/// The hashes of the beginnings of NDJSON files that were written.
pub(super) type Beginnings = BTreeSet<u64>;

/// The first lines of a file, with a mark where that is necessary.
pub(super) fn marked(
    lines: &[u8],
    beginning: Beginning<'_>,
    has_resource: bool,
    known: &mut Beginnings,
) -> Vec<u8> {
    let first = lines.split_inclusive(|byte| *byte == b'\n').next();
    let first = first.unwrap_or_default();
    let needed = has_resource || {
        let head = first.get(..KNOWN_BY_BYTES).unwrap_or(first);
        !known.insert(xxh3_64(head))
    };
    // A record can be so long that a Collector would drop its line because of the mark.
    let fits = first.len() > COLLECTOR_LINE_BYTES_MAX
        || first.len() + MARK_BYTES <= COLLECTOR_LINE_BYTES_MAX;
    let mut out = Vec::with_capacity(lines.len() + MARK_BYTES);
    match lines.split_first() {
        Some((brace, rest)) if needed && fits => {
            out.push(*brace);
            let number = beginning.number();
            out.extend((0..MARK_BYTES).map(
                |bit| {
                    if number >> bit & 1 == 0 { b' ' } else { b'\t' }
                },
            ));
            out.extend_from_slice(rest);
        }
        _ => out.extend_from_slice(lines),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning(server: &str, sequence: u64) -> Beginning<'_> {
        Beginning {
            stack: "gw",
            server,
            signal: Signal::Logs,
            first: (0, sequence),
        }
    }

    #[test]
    fn files_of_otlp_begin_alike_only_when_they_are_the_same() {
        let line = [b"{\"a\":\"", "x".repeat(2000).as_bytes(), b"\"}\n{}\n"].concat();
        let mut known = Beginnings::new();
        let mut first = |server, file| marked(&line, beginning(server, file), true, &mut known);
        let one = first("a", 0);
        assert_eq!(one, first("a", 0));
        for other in [first("b", 0), first("a", 1)] {
            assert_ne!(one[..KNOWN_BY_BYTES], other[..KNOWN_BY_BYTES]);
            assert_eq!(
                serde_json::Deserializer::from_slice(&one)
                    .into_iter::<serde_json::Value>()
                    .map(Result::unwrap)
                    .collect::<Vec<_>>(),
                serde_json::Deserializer::from_slice(&line)
                    .into_iter::<serde_json::Value>()
                    .map(Result::unwrap)
                    .collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn ndjson_is_marked_where_a_file_begins_like_another() {
        let mut known = Beginnings::new();
        let mut first = |line: &[u8], file| marked(line, beginning("a", file), false, &mut known);
        assert_eq!(first(b"{\"ts\":1}\n", 0), b"{\"ts\":1}\n");
        assert_eq!(
            first(b"{\"ts\":2}\n{\"ts\":1}\n", 1),
            b"{\"ts\":2}\n{\"ts\":1}\n"
        );
        // A Collector would take this file for the first one, grown.
        let again = first(b"{\"ts\":1}\n{\"ts\":2}\n", 2);
        assert_eq!(again.len(), 18 + MARK_BYTES);
        assert_ne!(again, first(b"{\"ts\":1}\n{\"ts\":2}\n", 3));
    }

    #[test]
    fn no_line_grows_beyond_what_a_collector_takes() {
        for (bytes, is_marked) in [
            (COLLECTOR_LINE_BYTES_MAX - MARK_BYTES, true),
            (COLLECTOR_LINE_BYTES_MAX - MARK_BYTES + 1, false),
            (COLLECTOR_LINE_BYTES_MAX, false),
            (COLLECTOR_LINE_BYTES_MAX + 1, true),
        ] {
            let mut line = vec![b' '; bytes];
            line[0] = b'{';
            line[bytes - 1] = b'\n';
            let out = marked(&line, beginning("a", 0), true, &mut Beginnings::new());
            assert_eq!(out.len() > bytes, is_marked, "{bytes}");
        }
    }
}
