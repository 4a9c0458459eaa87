//! What was counted between the snapshots of one server's counters.
//!
//! Tokens and costs stand in each snapshot as they were counted. Tools have cumulative counters only, so
//! what they gained is the difference to an earlier snapshot: the one whose total of tokens is the
//! present total without the tokens counted since. Where old files were imported, that is not always
//! the snapshot that arrived last. Skills have no tokens: theirs is the latest snapshot in which no
//! counter is higher.

use crate::{
    otlp::foreign::is_foreign,
    record::{
        CallCounts, CostCounts, MetricsSnapshot, Record, TokenCounts,
        calls::{Calls, PROMPT_USAGE, TOOL_USAGE, have_fallen, raise_calls},
    },
    time::Timestamp,
};

/// Maximum number of snapshots that the next one may follow. There is more than one where files were
/// imported or snapshots were lost.
const LATEST_MAX: usize = 16;

/// A snapshot of counters, with its calls.
#[derive(Debug)]
pub(super) struct Reading {
    /// The snapshot without its other keys.
    pub(super) snapshot: MetricsSnapshot,
    /// The cumulative counters of the server's tools, or of the stack's skills.
    calls: Calls,
}

/// What was counted between two snapshots.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) tokens: TokenCounts,
    /// `None` when no cost was counted.
    pub(super) cost: Option<CostCounts>,
    /// The tools or skills that were called.
    pub(super) calls: Calls,
}

/// The counters of a server or of skills. Snapshots advance them in the order of arrival.
#[derive(Debug)]
pub(super) struct Counters {
    /// The snapshots that no other one follows yet, the latest last.
    latest: Vec<Latest>,
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A server, whose snapshots say when its tools were counted from zero.
    Server,
    /// The skills of a stack, whose snapshots do not say that.
    Skills {
        /// When they were first counted. A later snapshot that is the first one does not begin at
        /// zero: those before it were evicted.
        counting_since: Timestamp,
    },
}

#[derive(Debug)]
struct Latest {
    timestamp: Timestamp,
    tokens: TokenCounts,
    cost: Option<CostCounts>,
    calls: Calls,
}

/// Where counters continue from.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Zero,
    /// The snapshot with this index.
    Snapshot(usize),
    /// A snapshot that is not stored, or is outside of the range.
    Unknown,
}

impl Reading {
    /// `None` when a record holds a foreign metric.
    pub(super) fn of(record: Record) -> Option<Reading> {
        let snapshot = record.into_metrics();
        let mut snapshot = snapshot.filter(|snapshot| !is_foreign(snapshot))?;
        let mut calls = Calls::new();
        let extra = std::mem::take(&mut snapshot.extra);
        raise_calls(&mut calls, &extra, TOOL_USAGE);
        raise_calls(&mut calls, &extra, PROMPT_USAGE);
        Some(Reading { snapshot, calls })
    }
}

impl Counters {
    pub(super) fn new(of: Of) -> Counters {
        Counters {
            latest: Vec::new(),
            of,
        }
    }

    /// Advances the counters to the next snapshot, and returns what was counted since the one that it
    /// follows.
    pub(super) fn advance(&mut self, reading: Reading) -> Counted {
        let origin = match self.of {
            Of::Server => self.server_origin(&reading),
            Of::Skills { counting_since } => self.skills_origin(&reading, counting_since),
        };
        let before = match origin {
            Origin::Snapshot(index) => Some(self.latest.remove(index)),
            Origin::Zero | Origin::Unknown => None,
        };
        let Reading { snapshot, calls } = reading;
        let before_calls = before.as_ref().map(|before| &before.calls);
        let counted = Counted {
            tokens: tokens_counted(&snapshot, before.as_ref()),
            cost: cost_counted(&snapshot, before.as_ref()),
            calls: match origin {
                Origin::Unknown => Calls::new(),
                _ => gained(&calls, before_calls.unwrap_or(&Calls::new())),
            },
        };
        if self.latest.len() >= LATEST_MAX {
            self.latest.remove(0);
        }
        self.latest.push(Latest {
            timestamp: snapshot.timestamp,
            tokens: snapshot.total,
            cost: snapshot
                .cost_total
                .or(before.and_then(|before| before.cost)),
            calls,
        });
        counted
    }

    fn skills_origin(&self, reading: &Reading, counting_since: Timestamp) -> Origin {
        let is_first = self.latest.is_empty();
        let follows = |latest: &Latest| !have_fallen(&latest.calls, &reading.calls);
        match self.latest.iter().rposition(follows) {
            Some(index) => Origin::Snapshot(index),
            None if is_first && reading.snapshot.timestamp > counting_since => Origin::Unknown,
            None => Origin::Zero,
        }
    }

    fn server_origin(&self, reading: &Reading) -> Origin {
        let Reading { snapshot, calls } = reading;
        let is_earlier = |latest: &Latest| {
            latest.timestamp <= snapshot.timestamp
                && has_risen(latest.tokens.to_array(), snapshot.total.to_array())
                && !have_fallen(&latest.calls, calls)
        };
        let Some(tokens) = snapshot.tokens_counted() else {
            // A line does not say whether counting began anew or the server was added again.
            return match self.latest.iter().enumerate().next_back() {
                Some((index, latest)) if is_earlier(latest) => Origin::Snapshot(index),
                _ => Origin::Zero,
            };
        };
        let total_before = snapshot.total.saturating_sub(tokens);
        if let Some(interval) = &snapshot.interval {
            let is_before = |latest: &Latest| latest.timestamp < interval.counting_since;
            let begins = snapshot.reset
                && total_before == TokenCounts::default()
                && self.latest.last().is_none_or(is_before);
            if interval.tokens_cleared || begins {
                return Origin::Zero;
            }
        }
        let follows =
            |latest: &Latest| latest.tokens == total_before && !have_fallen(&latest.calls, calls);
        // A snapshot in between was lost. The tokens in it are in no count, so the tools must not have
        // more.
        let skips = |latest: &Latest| {
            is_earlier(latest) && are_within(&gained(calls, &latest.calls), tokens)
        };
        let follows = self.latest.iter().rposition(follows);
        match follows.or_else(|| self.latest.iter().rposition(skips)) {
            Some(index) => Origin::Snapshot(index),
            None => Origin::Unknown,
        }
    }
}

fn tokens_counted(snapshot: &MetricsSnapshot, before: Option<&Latest>) -> TokenCounts {
    snapshot.tokens_counted().unwrap_or_else(|| match before {
        Some(before) => snapshot.total.saturating_sub(before.tokens),
        None => snapshot.diff,
    })
}

fn cost_counted(snapshot: &MetricsSnapshot, before: Option<&Latest>) -> Option<CostCounts> {
    let before = before.and_then(|before| before.cost);
    let counted = snapshot
        .cost_counted()
        .or(match (before, snapshot.cost_total) {
            (Some(before), Some(total))
                if !snapshot.cost_reset && has_risen(before.to_array(), total.to_array()) =>
            {
                Some(total.saturating_sub(before))
            }
            _ => snapshot.cost_diff,
        });
    counted.filter(|cost| *cost != CostCounts::default())
}

/// Whether no counter is below that in `before`.
fn has_risen<const N: usize>(before: [i64; N], after: [i64; N]) -> bool {
    let mut pairs = before.into_iter().zip(after);
    pairs.all(|(before, after)| before <= after)
}

/// What each tool or skill has more than in `before`, if it has more.
fn gained(after: &Calls, before: &Calls) -> Calls {
    let gained = |(name, after): (&String, &CallCounts)| {
        let before = before.get(name).copied().unwrap_or_default();
        let more = |after: i64, before: i64| after.saturating_sub(before).max(0);
        let gained = CallCounts {
            calls: more(after.calls, before.calls),
            input_tokens: more(after.input_tokens, before.input_tokens),
            output_tokens: more(after.output_tokens, before.output_tokens),
            last_called_at: None,
        };
        (gained != CallCounts::default()).then(|| (name.clone(), gained))
    };
    after.iter().filter_map(gained).collect()
}

/// Whether the tokens of all tools together are at most `tokens`.
fn are_within(tools: &Calls, tokens: TokenCounts) -> bool {
    let sum = |count: fn(&CallCounts) -> i64| {
        let counts = tools.values().map(count);
        counts.fold(0, i64::saturating_add)
    };
    sum(|counts| counts.input_tokens) <= tokens.input_tokens
        && sum(|counts| counts.output_tokens) <= tokens.output_tokens
}
