//! Snapshots of the counters of each server, one a minute.

use super::{Cell, Row, SERVERS, START_UNIX_NANOS, TOOLS, choices::Choices, write_value};
use anyhow::{Context, Result};
use gridctl_telemetry::{
    MetricsSnapshot, Timestamp, Value,
    record::{CostCounts, TokenCounts},
};

const MINUTE_NANOS: i64 = 60_000_000_000;
/// A flusher is late by less than this.
const LATE_NANOS: u64 = 4_000_000;
/// The number of calls of a tool in a minute is less than this.
const CALLS: u64 = 16;
/// What a thousand input and output tokens cost.
const PRICES_MICRO_USD: (i64, i64) = (3000, 15_000);

/// An endless supply of snapshots, the same ones for the same seed.
#[derive(Debug)]
pub struct GatewayMetrics {
    choices: Choices,
    number: usize,
    servers: Vec<Counters>,
}

#[derive(Debug, Default, Clone)]
struct Counters {
    tokens: TokenCounts,
    tools: Vec<Tool>,
}

#[derive(Debug, Clone)]
struct Tool {
    name: &'static str,
    calls: i64,
    input_tokens: i64,
    output_tokens: i64,
    last_called: i64,
}

impl GatewayMetrics {
    /// Snapshots that follow from `seed`, of each server once a minute.
    #[must_use]
    pub fn new(seed: u64) -> GatewayMetrics {
        let tool = |name: &&'static str| Tool {
            name,
            calls: 0,
            input_tokens: 0,
            output_tokens: 0,
            last_called: START_UNIX_NANOS,
        };
        let tools_of_each = TOOLS.len().div_ceil(SERVERS.len());
        let servers = TOOLS.chunks(tools_of_each).map(|tools| {
            let mut tools: Vec<Tool> = tools.iter().map(tool).collect();
            tools.sort_unstable_by_key(|tool| tool.name);
            Counters {
                tokens: TokenCounts::default(),
                tools,
            }
        });
        GatewayMetrics {
            choices: Choices::new(seed),
            number: 0,
            servers: servers.collect(),
        }
    }

    /// The information in all snapshots so far, in bytes.
    #[must_use]
    pub fn entropy_bytes(&self) -> f64 {
        self.choices.bits() / 8.0
    }

    fn snapshot(&mut self) -> Result<Row<MetricsSnapshot>> {
        let server = self.number % SERVERS.len();
        let minute = i64::try_from(self.number / SERVERS.len())? * MINUTE_NANOS + START_UNIX_NANOS;
        self.number += 1;
        let counters = self.servers.get_mut(server).context("a server")?;
        let choices = &mut self.choices;
        let mut diff = TokenCounts::default();
        for tool in &mut counters.tools {
            let calls = choices.below(CALLS).cast_signed();
            if calls > 0 {
                let (input, output) = (choices.magnitude(6, 13), choices.magnitude(5, 12));
                tool.calls += calls;
                tool.input_tokens += input.cast_signed();
                tool.output_tokens += output.cast_signed();
                let within = choices.below(MINUTE_NANOS.unsigned_abs());
                tool.last_called = minute - MINUTE_NANOS + within.cast_signed();
                diff.input_tokens += input.cast_signed();
                diff.output_tokens += output.cast_signed();
            }
        }
        diff.total_tokens = diff.input_tokens + diff.output_tokens;
        counters.tokens = counters.tokens.saturating_add(diff);
        let late = choices.below(LATE_NANOS).cast_signed();
        let mut snapshot = MetricsSnapshot::new(Timestamp::from_unix_nanos(minute + late));
        snapshot.diff = diff;
        snapshot.total = counters.tokens;
        snapshot.cost_diff = Some(cost(diff));
        snapshot.cost_total = Some(cost(counters.tokens));
        let tools = counters.tools.iter().map(|tool| {
            let last_called = Timestamp::from_unix_nanos(tool.last_called).to_string();
            let entries = vec![
                ("calls".to_owned(), Value::Int(tool.calls)),
                ("last_called_at".to_owned(), Value::String(last_called)),
                ("input_tokens".to_owned(), Value::Int(tool.input_tokens)),
                ("output_tokens".to_owned(), Value::Int(tool.output_tokens)),
            ];
            (tool.name.to_owned(), Value::Object(entries))
        });
        snapshot.extra = vec![("tool_usage".to_owned(), Value::Object(tools.collect()))];
        Ok(Row {
            server,
            line: line(server, &snapshot)?,
            record: snapshot,
        })
    }
}

impl Iterator for GatewayMetrics {
    type Item = Result<Row<MetricsSnapshot>>;

    fn next(&mut self) -> Option<Result<Row<MetricsSnapshot>>> {
        Some(self.snapshot())
    }
}

fn cost(tokens: TokenCounts) -> CostCounts {
    let (input, output) = PRICES_MICRO_USD;
    CostCounts {
        input_micro_usd: tokens.input_tokens * input / 1000,
        output_micro_usd: tokens.output_tokens * output / 1000,
        ..CostCounts::default()
    }
}

/// The snapshot as a line of `metrics.jsonl`.
fn line(server: usize, snapshot: &MetricsSnapshot) -> Result<Box<[u8]>> {
    let object = |entries: &[(&str, i64)]| {
        let entry = |(key, value): &(&str, i64)| ((*key).to_owned(), Value::Int(*value));
        Value::Object(entries.iter().map(entry).collect())
    };
    let tokens = |counts: TokenCounts| {
        object(&[
            ("input_tokens", counts.input_tokens),
            ("output_tokens", counts.output_tokens),
            ("total_tokens", counts.total_tokens),
        ])
    };
    let cost = |cost: Option<CostCounts>| {
        let cost = cost.unwrap_or_default();
        object(&[
            ("input_micro_usd", cost.input_micro_usd),
            ("output_micro_usd", cost.output_micro_usd),
        ])
    };
    let name = SERVERS.get(server).copied().unwrap_or_default();
    let entries = [
        ("ts", Value::String(snapshot.timestamp.to_string())),
        ("server", name.into()),
        ("diff", tokens(snapshot.diff)),
        ("total", tokens(snapshot.total)),
        ("cost_diff", cost(snapshot.cost_diff)),
        ("cost_total", cost(snapshot.cost_total)),
    ];
    let entries = entries.map(|(key, value)| (key.to_owned(), value));
    let entries = entries.into_iter().chain(snapshot.extra.clone());
    let mut line = Vec::new();
    write_value(&Value::Object(entries.collect()), &mut line)?;
    Ok(line.into_boxed_slice())
}

/// The parts of a snapshot as columns, the use of tools as JSON in one.
pub(super) fn cells(snapshot: &MetricsSnapshot) -> Vec<(&str, Cell)> {
    let mut cells = vec![
        ("input_tokens_diff", Cell::Int(snapshot.diff.input_tokens)),
        ("output_tokens_diff", Cell::Int(snapshot.diff.output_tokens)),
        ("input_tokens", Cell::Int(snapshot.total.input_tokens)),
        ("output_tokens", Cell::Int(snapshot.total.output_tokens)),
    ];
    let costs = [
        (
            "input_micro_usd_diff",
            "output_micro_usd_diff",
            snapshot.cost_diff,
        ),
        ("input_micro_usd", "output_micro_usd", snapshot.cost_total),
    ];
    for (input, output, cost) in costs {
        let cost = cost.unwrap_or_default();
        cells.push((input, Cell::Int(cost.input_micro_usd)));
        cells.push((output, Cell::Int(cost.output_micro_usd)));
    }
    for (key, value) in &snapshot.extra {
        let mut text = Vec::new();
        // The generator makes no values that cannot be written.
        if write_value(value, &mut text).is_ok() {
            let text = String::from_utf8_lossy(&text).into_owned();
            cells.push((key, Cell::Text(text)));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridctl_telemetry::{
        Record, Signal,
        lines::{Found, RecordReader},
    };

    #[test]
    fn a_line_reads_back_as_the_snapshot() -> Result<()> {
        for row in GatewayMetrics::new(3).take(1000) {
            let row = row?;
            let mut found = Vec::new();
            RecordReader::new(Signal::Metrics).read_line(&row.line, &mut |record| match record {
                Found::Record(record) => found.push(record.record),
                other => panic!("{other:?}"),
            });
            assert_eq!(found, [Record::Metrics(row.record)]);
        }
        Ok(())
    }
}
