//! `metrics.jsonl`: one snapshot a line, before each reset a sentinel line.
//!
//! A counter that is not one of ours (a newer writer's token kind in `diff`) is kept as well: in
//! [`MetricsSnapshot::extra`] an object named `diff`, `total`, `cost_diff` or `cost_total` holds
//! what the object of that name has beside its counters, and is written back into it.

use super::line::{LineReason, missing, read_timestamp, write_entries, write_timestamp};
use crate::{
    error::excerpt,
    lines::json::{JsonResult, Kind, Reader, read_value, write_i64, write_string},
    record::{CostCounts, MetricsSnapshot, TokenCounts, Value, payload::PayloadError},
    time::Timestamp,
};

/// What a line of `metrics.jsonl` holds.
#[derive(Debug, PartialEq)]
pub(crate) enum MetricsLine {
    /// `reset`, `ts` and `server` alone: it announces the snapshot on the next line, whose `reset`
    /// says the same, and holds nothing itself.
    Sentinel {
        timestamp: Timestamp,
        server: Option<String>,
    },
    /// A snapshot.
    Snapshot {
        /// The server that the line names, if it names one.
        server: Option<String>,
        snapshot: Box<MetricsSnapshot>,
    },
}

/// Reads a line. `ts`, `diff` and `total` must be there, but for `diff` and `total` in a sentinel
/// line; a counter that is missing is zero. The first occurrence of a key counts, a later one is
/// kept in `extra`.
pub(crate) fn read_metrics(reader: &mut Reader<'_>) -> JsonResult<MetricsLine> {
    let (mut time, mut server, mut reset, mut cost_reset) = (None, None, None, None);
    let (mut diff, mut total, mut cost_diff, mut cost_total) = (None, None, None, None);
    let mut extra = Vec::new();
    reader.read_object(|reader, key| {
        match &*key {
            "ts" if time.is_none() => time = Some(read_timestamp(reader)?),
            "server" if server.is_none() => server = Some(reader.read_string()?.into_owned()),
            "reset" if reset.is_none() => reset = Some(reader.read_bool()?),
            "cost_reset" if cost_reset.is_none() => cost_reset = Some(reader.read_bool()?),
            "diff" if diff.is_none() => {
                diff = Some(read_tokens(reader, &key, &mut extra)?);
            }
            "total" if total.is_none() => {
                total = Some(read_tokens(reader, &key, &mut extra)?);
            }
            "cost_diff" if cost_diff.is_none() => {
                cost_diff = read_costs(reader, &key, &mut extra)?;
            }
            "cost_total" if cost_total.is_none() => {
                cost_total = read_costs(reader, &key, &mut extra)?;
            }
            _ => extra.push((key.into_owned(), read_value(reader)?)),
        }
        Ok(())
    })?;
    let (timestamp, utc_offset) = time.ok_or_else(|| missing("ts"))?;
    let bare = diff.is_none() && total.is_none() && cost_diff.is_none() && cost_total.is_none();
    if bare && reset == Some(true) && cost_reset.is_none() && extra.is_empty() {
        return Ok(MetricsLine::Sentinel { timestamp, server });
    }
    let snapshot = MetricsSnapshot {
        timestamp,
        utc_offset,
        reset: reset.unwrap_or_default(),
        cost_reset: cost_reset.unwrap_or_default(),
        diff: diff.ok_or_else(|| missing("diff"))?,
        total: total.ok_or_else(|| missing("total"))?,
        cost_diff,
        cost_total,
        extra,
        interval: None,
    };
    Ok(MetricsLine::Snapshot {
        server,
        snapshot: Box::new(snapshot),
    })
}

/// Appends the line of `snapshot`, its end included, and before a reset its sentinel line.
pub(crate) fn write_metrics_lines(server: &str, snapshot: &MetricsSnapshot, out: &mut Vec<u8>) {
    if snapshot.reset {
        out.extend_from_slice(b"{\"reset\":true,");
        write_origin(server, snapshot, out);
        out.extend_from_slice(b"}\n");
    }
    out.push(b'{');
    write_origin(server, snapshot, out);
    if snapshot.reset {
        out.extend_from_slice(b",\"reset\":true");
    }
    if snapshot.cost_reset {
        out.extend_from_slice(b",\"cost_reset\":true");
    }
    let mut objects = Vec::with_capacity(4);
    for (key, counts) in [("diff", snapshot.diff), ("total", snapshot.total)] {
        let counters = TokenCounts::KEYS.into_iter().zip(counts.to_array());
        write_counts(key, counters, &snapshot.extra, out);
        objects.push(key);
    }
    let costs = [
        ("cost_diff", snapshot.cost_diff),
        ("cost_total", snapshot.cost_total),
    ];
    for (key, counts) in costs {
        if let Some(counts) = counts {
            let counters = CostCounts::KEYS.into_iter().zip(counts.to_array());
            write_counts(
                key,
                counters.filter(|(_, value)| *value != 0),
                &snapshot.extra,
                out,
            );
            objects.push(key);
        }
    }
    for entry in &snapshot.extra {
        if !(objects.contains(&&*entry.0) && matches!(entry.1, Value::Object(_))) {
            write_entries(std::slice::from_ref(entry), out);
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Appends the lines of the snapshot that `payload` encodes. On an error `out` is as it was.
pub(crate) fn transcode_metrics_payload(
    server: &str,
    timestamp: Timestamp,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), PayloadError> {
    // Snapshots come once a minute, not a thousand times a second: the record may be built.
    let snapshot = MetricsSnapshot::decode_payload(timestamp, payload)?;
    write_metrics_lines(server, &snapshot, out);
    Ok(())
}

fn read_tokens(
    reader: &mut Reader<'_>,
    key: &str,
    extra: &mut Vec<(String, Value)>,
) -> JsonResult<TokenCounts> {
    read_counts(reader, TokenCounts::KEYS, key, extra).map(TokenCounts::from_array)
}

fn read_costs(
    reader: &mut Reader<'_>,
    key: &str,
    extra: &mut Vec<(String, Value)>,
) -> JsonResult<Option<CostCounts>> {
    if reader.take_null()? {
        return Ok(None);
    }
    let counts = read_counts(reader, CostCounts::KEYS, key, extra)?;
    Ok(Some(CostCounts::from_array(counts)))
}

/// Reads the object under `key`: its counters by `names`, and whatever else it has into `extra`.
fn read_counts<const N: usize>(
    reader: &mut Reader<'_>,
    names: [&str; N],
    key: &str,
    extra: &mut Vec<(String, Value)>,
) -> JsonResult<[i64; N]> {
    let mut counts = [None; N];
    let mut others = Vec::new();
    reader.read_object(|reader, key| {
        let counter = names
            .iter()
            .zip(&mut counts)
            .find(|(name, _)| **name == key);
        match counter {
            Some((_, count @ None)) => *count = Some(read_counter(reader)?),
            _ => others.push((key.into_owned(), read_value(reader)?)),
        }
        Ok(())
    })?;
    if !others.is_empty() {
        extra.push((key.to_owned(), Value::Object(others)));
    }
    Ok(counts.map(Option::unwrap_or_default))
}

fn read_counter(reader: &mut Reader<'_>) -> JsonResult<i64> {
    if reader.peek()? != Kind::Number {
        return Err(reader.wrong_kind("an integer"));
    }
    let offset = reader.offset();
    let number = reader.read_number()?;
    number.as_i64().ok_or_else(|| {
        let number = excerpt(number.text());
        Reader::refuse(offset, LineReason::NotAnInteger { number })
    })
}

fn write_origin(server: &str, snapshot: &MetricsSnapshot, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"ts\":");
    write_timestamp(snapshot.timestamp, snapshot.utc_offset, out);
    out.extend_from_slice(b",\"server\":");
    write_string(server, out);
}

fn write_counts(
    key: &str,
    counters: impl Iterator<Item = (&'static str, i64)>,
    extra: &[(String, Value)],
    out: &mut Vec<u8>,
) {
    out.push(b',');
    write_string(key, out);
    out.push(b':');
    let start = out.len();
    for (name, value) in counters {
        out.push(b',');
        write_string(name, out);
        out.push(b':');
        write_i64(value, out);
    }
    for (name, value) in extra {
        if let Value::Object(others) = value
            && name == key
        {
            write_entries(others, out);
        }
    }
    // Every entry is written with a comma before it: the first one's makes room for the brace.
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

/// Reads a line that holds one snapshot or its sentinel.
#[cfg(test)]
pub(crate) fn read_metrics_line(line: &[u8]) -> JsonResult<MetricsLine> {
    let mut reader = Reader::new(line)?;
    let read = read_metrics(&mut reader)?;
    reader.finish()?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::arbitrary::json_entries;
    use ::time::UtcOffset;
    use proptest::prelude::*;

    const SENTINEL: &str = r#"{"reset":true,"ts":"2026-05-08T23:40:00Z","server":"github"}"#;
    const RESET: &str = concat!(
        r#"{"ts":"2026-05-08T23:40:00Z","server":"github","reset":true,"#,
        r#""diff":{"input_tokens":100,"output_tokens":50,"total_tokens":150},"#,
        r#""total":{"input_tokens":100,"output_tokens":50,"total_tokens":150}}"#,
    );
    const COST: &str = concat!(
        r#"{"ts":"2026-05-08T23:41:00Z","server":"github","#,
        r#""diff":{"input_tokens":10,"output_tokens":5,"total_tokens":15},"#,
        r#""total":{"input_tokens":110,"output_tokens":55,"total_tokens":165},"#,
        r#""cost_diff":{"input_micro_usd":30},"#,
        r#""cost_total":{"input_micro_usd":330,"output_micro_usd":750}}"#,
    );

    fn read(line: &str) -> MetricsSnapshot {
        match read_metrics_line(line.as_bytes()).unwrap() {
            MetricsLine::Snapshot { server, snapshot } => {
                assert_eq!(server.as_deref(), Some("github"));
                *snapshot
            }
            MetricsLine::Sentinel { .. } => panic!("{line} is no sentinel"),
        }
    }

    fn written(snapshot: &MetricsSnapshot) -> String {
        let mut lines = Vec::new();
        write_metrics_lines("github", snapshot, &mut lines);
        let mut payload = Vec::new();
        snapshot.encode_payload(&mut payload).unwrap();
        let mut transcoded = Vec::new();
        transcode_metrics_payload("github", snapshot.timestamp, &payload, &mut transcoded).unwrap();
        assert_eq!(lines, transcoded);
        String::from_utf8(lines).unwrap()
    }

    /// A line with `rest` behind what every line has.
    fn line(rest: &str) -> String {
        format!(
            concat!(
                r#"{{"ts":"2026-05-08T23:41:00Z","server":"github","#,
                r#""diff":{{"input_tokens":0,"output_tokens":0,"total_tokens":0}},"#,
                r#""total":{{"input_tokens":0,"output_tokens":0,"total_tokens":0}}{}}}"#,
            ),
            rest
        )
    }

    #[test]
    fn a_reset_is_written_behind_its_sentinel() {
        let snapshot = read(RESET);
        assert!(snapshot.reset);
        assert_eq!(snapshot.diff, snapshot.total);
        assert_eq!(snapshot.total.total_tokens, 150);
        assert_eq!(snapshot.cost_diff, None);
        assert_eq!(written(&snapshot), format!("{SENTINEL}\n{RESET}\n"));
    }

    #[test]
    fn a_sentinel_is_no_snapshot() {
        for sentinel in [
            SENTINEL,
            r#"{"server":"github","ts":"2026-05-08T23:40:00Z","reset":true}"#,
        ] {
            assert_eq!(
                read_metrics_line(sentinel.as_bytes()).unwrap(),
                MetricsLine::Sentinel {
                    timestamp: Timestamp::parse_rfc3339("2026-05-08T23:40:00Z").unwrap().0,
                    server: Some("github".into()),
                }
            );
        }
        for broken in [
            r#"{"reset":false,"ts":"2026-05-08T23:40:00Z","server":"github"}"#,
            r#"{"reset":true,"ts":"2026-05-08T23:40:00Z","server":"github","x":1}"#,
            r#"{"cost_reset":true,"reset":true,"ts":"2026-05-08T23:40:00Z"}"#,
        ] {
            let error = read_metrics_line(broken.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "the line has no \"diff\" at byte 0");
        }
    }

    #[test]
    fn cost_is_written_without_its_zeros() {
        let snapshot = read(COST);
        assert_eq!(snapshot.cost_diff.unwrap().input_micro_usd, 30);
        assert_eq!(snapshot.cost_diff.unwrap().output_micro_usd, 0);
        assert_eq!(snapshot.cost_total.unwrap().output_micro_usd, 750);
        assert_eq!(written(&snapshot), format!("{COST}\n"));

        // As Go does: a struct that is there, with nothing in it worth writing.
        let zeros = line(r#","cost_diff":{},"cost_total":{}"#);
        assert_eq!(read(&zeros).cost_diff, Some(CostCounts::default()));
        assert_eq!(written(&read(&zeros)), format!("{zeros}\n"));
        let explicit = line(r#","cost_diff":{"input_micro_usd":0},"cost_total":{}"#);
        assert_eq!(read(&explicit), read(&zeros));
        assert_eq!(
            read(&line(r#","cost_diff":null,"cost_total":null"#)),
            read(&line(""))
        );
    }

    #[test]
    fn a_cost_reset_needs_no_sentinel() {
        let cost_reset = line(r#","cost_diff":{"cache_read_micro_usd":-1}"#)
            .replace(r#""diff""#, r#""cost_reset":true,"diff""#);
        let snapshot = read(&cost_reset);
        assert!(snapshot.cost_reset && !snapshot.reset);
        assert_eq!(written(&snapshot), format!("{cost_reset}\n"));
    }

    #[test]
    fn what_newer_writers_add_is_kept_where_it_stood() {
        let newer = concat!(
            r#"{"ts":"2026-05-08T23:41:00-04:00","server":"github","#,
            r#""diff":{"input_tokens":1,"output_tokens":2,"total_tokens":3,"cached_tokens":4},"#,
            r#""total":{"input_tokens":1,"output_tokens":2,"total_tokens":3},"#,
            r#""cost_total":{"output_micro_usd":5,"by_model":{"x":1.5}},"#,
            r#""tool_usage":{"search":{"calls":3,"last_called_at":"2026-05-08T23:40:59Z"}},"#,
            r#""prompt_usage":[null],"tool_usage":1}"#,
        );
        let snapshot = read(newer);
        assert_eq!(snapshot.extra.len(), 5);
        assert_eq!(written(&snapshot), format!("{newer}\n"));
    }

    #[test]
    fn a_line_that_is_no_snapshot_says_where_and_why() {
        for (line, message) in [
            ("null", "expected an object, found null at byte 0"),
            (r#"{"server":"github"}"#, "the line has no \"ts\" at byte 0"),
            (
                r#"{"server":null}"#,
                "expected a string, found null at byte 10 (server)",
            ),
            (
                r#"{"reset":1}"#,
                "expected true or false, found a number at byte 9 (reset)",
            ),
            (
                r#"{"diff":null}"#,
                "expected an object, found null at byte 8 (diff)",
            ),
            (
                r#"{"ts":"2026-05-08T23:41:00Z","diff":{}}"#,
                "the line has no \"total\" at byte 0",
            ),
            (
                r#"{"total":{"input_tokens":"1"}}"#,
                "expected an integer, found a string at byte 25 (total.input_tokens)",
            ),
            (
                r#"{"total":{"input_tokens":1.0}}"#,
                "expected an integer of 64 bits, found 1.0 at byte 25 (total.input_tokens)",
            ),
            (
                r#"{"cost_diff":{"output_micro_usd": 9223372036854775808}}"#,
                "expected an integer of 64 bits, found 9223372036854775808 at byte 34 \
                 (cost_diff.output_micro_usd)",
            ),
        ] {
            let error = read_metrics_line(line.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), message, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_written_line_reads_as_the_same_snapshot(
            nanos in any::<i64>(),
            minutes in -1439_i32..=1439,
            flags in any::<(bool, bool)>(),
            tokens in any::<[i64; 6]>(),
            costs in any::<[Option<[i8; 4]>; 2]>(),
            extra in json_entries(&["tool_usage", "x", "input_tokens"]),
        ) {
            let mut snapshot = MetricsSnapshot {
                utc_offset: UtcOffset::from_whole_seconds(minutes * 60).unwrap(),
                reset: flags.0,
                cost_reset: flags.1,
                extra,
                ..MetricsSnapshot::new(Timestamp::from_unix_nanos(nanos))
            };
            let [input, output, total, rest @ ..] = tokens;
            snapshot.diff = TokenCounts::from_array([input, output, total]);
            snapshot.total = TokenCounts::from_array(rest);
            // Many of these are zero.
            let [cost_diff, cost_total] = costs.map(|costs| {
                costs.map(|costs| CostCounts::from_array(costs.map(|cost| i64::from(cost / 64))))
            });
            (snapshot.cost_diff, snapshot.cost_total) = (cost_diff, cost_total);
            let lines = written(&snapshot);
            let mut lines = lines.lines();
            if snapshot.reset {
                let sentinel = read_metrics_line(lines.next().unwrap().as_bytes()).unwrap();
                let is_sentinel = matches!(
                    sentinel,
                    MetricsLine::Sentinel { timestamp, .. } if timestamp == snapshot.timestamp
                );
                prop_assert!(is_sentinel);
            }
            prop_assert_eq!(read(lines.next().unwrap()), snapshot);
            prop_assert_eq!(lines.next(), None);
        }
    }
}
