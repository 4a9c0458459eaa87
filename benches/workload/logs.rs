//! Log records of about 250 bytes as NDJSON.

use super::{
    Row, SERVERS, SESSIONS, START_UNIX_NANOS, TOOLS,
    choices::{Choices, bits_of, bits_of_one_in},
    write_value,
};
use crate::measure::ratio;
use anyhow::Result;
use fastrand::Rng;
use gridctl_telemetry::{Level, LogRecord, Timestamp};

/// A log record, its server, and its line of `logs.jsonl`.
pub type GatewayRecord = Row<LogRecord>;

/// An endless supply of records of about 250 bytes as NDJSON, the same ones for the same seed.
#[derive(Debug)]
pub struct GatewayLogs {
    choices: Choices,
    sessions: Vec<String>,
    unix_nanos: i64,
}

impl GatewayLogs {
    /// Records that follow from `seed`, about a millisecond apart.
    #[must_use]
    pub fn new(seed: u64) -> GatewayLogs {
        let mut choices = Choices::new(seed);
        let sessions: Vec<String> = (0..SESSIONS)
            .map(|_| format!("{:016x}", choices.random().u64(..)))
            .collect();
        choices.count(ratio(64 * SESSIONS as u64, 1));
        GatewayLogs {
            choices,
            sessions,
            unix_nanos: START_UNIX_NANOS,
        }
    }

    /// The information in all records so far, in bytes.
    #[must_use]
    pub fn entropy_bytes(&self) -> f64 {
        self.choices.bits() / 8.0
    }

    /// A record of `server` at `timestamp`, without its line.
    pub fn record_at(&mut self, server: usize, timestamp: Timestamp) -> LogRecord {
        let random = self.choices.random();
        let tool = pick(random, &TOOLS);
        let (session, session_bits) = pick_session(random, &self.sessions);
        let duration_ms = duration_ms(random);
        let magnitude = random.u32(6..16);
        let bytes = 1u64 << magnitude;
        let bytes = bytes + random.u64(0..bytes);
        let of_tool = bits_of_one_in(TOOLS.len() as u64);
        let of_bytes = bits_of_one_in(16 - 6) + f64::from(magnitude);
        let of_duration = || duration_bits(duration_ms);
        let record = |level, message: String| LogRecord::new(timestamp, level, message);
        // With how many of 200 records are of the kind, and the information of its choices.
        let (record, share, bits) = match random.u32(0..200) {
            0..70 => (
                record(Level::INFO, "tool call completed".to_owned())
                    .with("tool", tool)
                    .with("duration_ms", duration_ms)
                    .with("status", "ok")
                    .with("bytes", bytes),
                70,
                of_tool + of_duration() + of_bytes,
            ),
            70..110 => (
                record(Level::INFO, "tool call started".to_owned())
                    .with("tool", tool)
                    .with("method", "tools/call")
                    .with("bytes", bytes),
                40,
                of_tool + of_bytes,
            ),
            110..140 => (
                record(
                    Level::INFO,
                    format!("request {} forwarded", random.u32(10_000..100_000)),
                )
                .with("tool", tool)
                .with("upstream", "http://127.0.0.1:3000/mcp"),
                30,
                of_tool + bits_of_one_in(90_000),
            ),
            140..165 => (
                record(
                    Level::INFO,
                    format!("upstream answered {bytes} bytes in {duration_ms} ms"),
                )
                .with("tool", tool)
                .with("status", "ok"),
                25,
                of_tool + of_bytes + of_duration(),
            ),
            165..180 => (
                record(Level::DEBUG, "cache hit".to_owned())
                    .with("tool", tool)
                    .with("method", "tools/list")
                    .with("age_s", random.f64() * 60.0)
                    .with("fresh", random.bool()),
                15,
                // A fraction has 52 random bits.
                of_tool + 52.0 + 1.0,
            ),
            180..195 => (
                record(
                    Level::WARN,
                    format!("upstream is slow: {duration_ms} ms, retrying"),
                )
                .with("tool", tool)
                .with("attempt", random.u64(1..4))
                .with("status", "retry"),
                15,
                of_tool + of_duration() + bits_of_one_in(3),
            ),
            195..199 => (
                record(Level::INFO, "session resumed".to_owned())
                    .with("client", "inspector")
                    .with("version", "2025-06-18")
                    .with("idle_s", random.u64(1..900)),
                4,
                bits_of_one_in(899),
            ),
            _ => (
                record(Level::ERROR, "tool call failed".to_owned())
                    .with("tool", tool)
                    .with("duration_ms", 30_000u64)
                    .with("status", "error")
                    .with("error", "context deadline exceeded"),
                1,
                of_tool,
            ),
        };
        let trace_id = random.u128(..);
        self.choices
            .count(bits_of(share, 200) + bits + session_bits + 128.0);
        record
            .with("session_id", session)
            .with(
                "component",
                SERVERS.get(server).copied().unwrap_or_default(),
            )
            .with("trace_id", format!("{trace_id:032x}"))
    }
}

impl Iterator for GatewayLogs {
    type Item = Result<GatewayRecord>;

    fn next(&mut self) -> Option<Result<GatewayRecord>> {
        let random = self.choices.random();
        self.unix_nanos += random.i64(50_000..2_000_000);
        let server = random.usize(0..SERVERS.len());
        self.choices
            .count(bits_of_one_in(2_000_000 - 50_000) + bits_of_one_in(SERVERS.len() as u64));
        let record = self.record_at(server, Timestamp::from_unix_nanos(self.unix_nanos));
        Some(line(&record).map(|line| Row {
            server,
            record,
            line,
        }))
    }
}

fn pick(random: &mut Rng, choices: &[&'static str]) -> &'static str {
    choices
        .get(random.usize(0..choices.len()))
        .copied()
        .unwrap_or_default()
}

/// A session and the information in it.
fn pick_session(random: &mut Rng, sessions: &[String]) -> (String, f64) {
    // A few sessions make most of the calls.
    let at = random.usize(0..SESSIONS).min(random.usize(0..SESSIONS));
    let pairs = 2 * (SESSIONS - at) - 1;
    let bits = bits_of(pairs as u64, (SESSIONS * SESSIONS) as u64);
    (sessions.get(at).cloned().unwrap_or_default(), bits)
}

/// Most calls are quick, and a few take a thousand times as long.
fn duration_ms(random: &mut Rng) -> u64 {
    let magnitude = random.u32(1..7).min(random.u32(1..13));
    1 + random.u64(0..4u64.pow(magnitude))
}

/// The information in a duration, which several magnitudes can have made.
fn duration_bits(duration_ms: u64) -> f64 {
    let probability: f64 = (1..7)
        .filter(|magnitude| duration_ms <= 4u64.pow(*magnitude))
        .map(|magnitude| {
            let at_least =
                |magnitude: u32| f64::from(7 - magnitude) / 6.0 * f64::from(13 - magnitude) / 12.0;
            let share = at_least(magnitude) - at_least(magnitude + 1);
            share / ratio(4u64.pow(magnitude), 1)
        })
        .sum();
    -probability.log2()
}

/// The record as a line of `logs.jsonl`.
fn line(record: &LogRecord) -> Result<Box<[u8]>> {
    let mut out = Vec::with_capacity(320);
    out.extend_from_slice(b"{\"ts\":");
    serde_json::to_writer(&mut out, &record.timestamp.to_rfc3339_in(record.utc_offset))?;
    out.extend_from_slice(b",\"level\":");
    serde_json::to_writer(&mut out, &record.level.to_string())?;
    out.extend_from_slice(b",\"msg\":");
    serde_json::to_writer(&mut out, &record.message)?;
    for (key, value) in &record.attributes {
        out.push(b',');
        serde_json::to_writer(&mut out, key)?;
        out.push(b':');
        write_value(value, &mut out)?;
    }
    out.push(b'}');
    Ok(out.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_records_of_about_250_bytes() -> Result<()> {
        let take = |seed| {
            GatewayLogs::new(seed)
                .take(2000)
                .collect::<Result<Vec<GatewayRecord>>>()
        };
        let records = take(7)?;
        for (record, again) in records.iter().zip(take(7)?) {
            assert_eq!(record.line, again.line);
            let line: serde_json::Value = serde_json::from_slice(&record.line)?;
            assert_eq!(line["component"], SERVERS[record.server]);
        }
        assert_ne!(records[0].line, take(8)?[0].line);
        let bytes: usize = records.iter().map(|record| record.line.len() + 1).sum();
        assert!((235..265).contains(&(bytes / records.len())), "{bytes}");
        Ok(())
    }

    #[test]
    fn the_probabilities_of_all_durations_add_up() {
        let sum: f64 = (1..=4096)
            .map(|duration| (-duration_bits(duration)).exp2())
            .sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }
}
