//! Log records as a gateway of five servers writes them.

use anyhow::{Context, Result};
use fastrand::Rng;
use gridctl_telemetry::{Level, LogRecord, ServerName, Timestamp, Value};

/// The servers behind the gateway.
pub const SERVERS: [&str; 5] = ["github", "filesystem", "postgres", "browser", "slack"];

const TOOLS: [&str; 24] = [
    "search_code",
    "get_file_contents",
    "create_issue",
    "list_commits",
    "create_pull_request",
    "read_file",
    "write_file",
    "list_directory",
    "move_file",
    "directory_tree",
    "query",
    "list_schemas",
    "describe_table",
    "explain",
    "list_indexes",
    "navigate",
    "click",
    "screenshot",
    "evaluate",
    "fill",
    "post_message",
    "list_channels",
    "get_thread",
    "add_reaction",
];
/// The number of clients that are connected at a time.
const SESSIONS: usize = 300;
/// 2026-05-08T23:39:03Z.
const START_UNIX_NANOS: i64 = 1_778_283_543_000_000_000;

/// A log record, its server, and its line of `logs.jsonl`.
#[derive(Debug, Clone)]
pub struct GatewayRecord {
    /// The server's index in [`SERVERS`].
    pub server: usize,
    /// The record.
    pub record: LogRecord,
    /// The record as NDJSON, without the line feed.
    pub line: Box<[u8]>,
}

/// The name of a server of [`SERVERS`].
pub fn server_name(server: usize) -> Result<ServerName> {
    let name = SERVERS.get(server).context("there are five servers")?;
    Ok(ServerName::new(name)?)
}

/// An endless supply of records of about 250 bytes as NDJSON, the same ones for the same seed.
#[derive(Debug)]
pub struct GatewayLogs {
    random: Rng,
    sessions: Vec<String>,
    unix_nanos: i64,
}

impl GatewayLogs {
    /// Records that follow from `seed`, about a millisecond apart.
    #[must_use]
    pub fn new(seed: u64) -> GatewayLogs {
        let mut random = Rng::with_seed(seed);
        GatewayLogs {
            sessions: (0..SESSIONS)
                .map(|_| format!("{:016x}", random.u64(..)))
                .collect(),
            random,
            unix_nanos: START_UNIX_NANOS,
        }
    }

    /// A record of `server` at `timestamp`, without its line.
    pub fn record_at(&mut self, server: usize, timestamp: Timestamp) -> LogRecord {
        let random = &mut self.random;
        let tool = pick(random, &TOOLS);
        let session = pick_session(random, &self.sessions);
        let duration_ms = duration_ms(random);
        let bytes = 1u64 << random.u32(6..16);
        let bytes = bytes + random.u64(0..bytes);
        let record = |level, message: String| LogRecord::new(timestamp, level, message);
        let record = match random.u32(0..200) {
            0..70 => record(Level::INFO, "tool call completed".to_owned())
                .with("tool", tool)
                .with("duration_ms", duration_ms)
                .with("status", "ok")
                .with("bytes", bytes),
            70..110 => record(Level::INFO, "tool call started".to_owned())
                .with("tool", tool)
                .with("method", "tools/call")
                .with("bytes", bytes),
            110..140 => record(
                Level::INFO,
                format!("request {} forwarded", random.u32(10_000..100_000)),
            )
            .with("tool", tool)
            .with("upstream", "http://127.0.0.1:3000/mcp"),
            140..165 => record(
                Level::INFO,
                format!("upstream answered {bytes} bytes in {duration_ms} ms"),
            )
            .with("tool", tool)
            .with("status", "ok"),
            165..180 => record(Level::DEBUG, "cache hit".to_owned())
                .with("tool", tool)
                .with("method", "tools/list")
                .with("age_s", random.f64() * 60.0)
                .with("fresh", random.bool()),
            180..195 => record(
                Level::WARN,
                format!("upstream is slow: {duration_ms} ms, retrying"),
            )
            .with("tool", tool)
            .with("attempt", random.u64(1..4))
            .with("status", "retry"),
            195..199 => record(Level::INFO, "session resumed".to_owned())
                .with("client", "inspector")
                .with("version", "2025-06-18")
                .with("idle_s", random.u64(1..900)),
            _ => record(Level::ERROR, "tool call failed".to_owned())
                .with("tool", tool)
                .with("duration_ms", 30_000u64)
                .with("status", "error")
                .with("error", "context deadline exceeded"),
        };
        record
            .with("session_id", session)
            .with(
                "component",
                SERVERS.get(server).copied().unwrap_or_default(),
            )
            .with("trace_id", format!("{:032x}", random.u128(..)))
    }
}

impl Iterator for GatewayLogs {
    type Item = Result<GatewayRecord>;

    fn next(&mut self) -> Option<Result<GatewayRecord>> {
        self.unix_nanos += self.random.i64(50_000..2_000_000);
        let server = self.random.usize(0..SERVERS.len());
        let record = self.record_at(server, Timestamp::from_unix_nanos(self.unix_nanos));
        Some(line(&record).map(|line| GatewayRecord {
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

fn pick_session(random: &mut Rng, sessions: &[String]) -> String {
    // A few sessions make most of the calls.
    let at = random.usize(0..SESSIONS).min(random.usize(0..SESSIONS));
    sessions.get(at).cloned().unwrap_or_default()
}

/// Most calls are quick, and a few take a thousand times as long.
fn duration_ms(random: &mut Rng) -> u64 {
    let magnitude = random.u32(1..7).min(random.u32(1..13));
    1 + random.u64(0..4u64.pow(magnitude))
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
        match value {
            Value::String(text) => serde_json::to_writer(&mut out, text)?,
            Value::Int(value) => serde_json::to_writer(&mut out, value)?,
            Value::Float(value) => serde_json::to_writer(&mut out, value)?,
            Value::Bool(value) => serde_json::to_writer(&mut out, value)?,
            other => anyhow::bail!("the generator makes no {other:?}"),
        }
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
}
