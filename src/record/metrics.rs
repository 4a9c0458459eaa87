//! Snapshots of token and cost counters.

use super::Value;
use crate::time::Timestamp;
use ::time::UtcOffset;

/// Token counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct TokenCounts {
    /// Tokens sent with calls.
    pub input_tokens: i64,
    /// Tokens returned by calls.
    pub output_tokens: i64,
    /// The sum of both, as counted by the writer of the line.
    pub total_tokens: i64,
}

/// Cost counters, in micro-USD (1e-6 USD).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct CostCounts {
    /// Cost of input tokens.
    pub input_micro_usd: i64,
    /// Cost of output tokens.
    pub output_micro_usd: i64,
    /// Cost of reading cached input.
    pub cache_read_micro_usd: i64,
    /// Cost of writing cached input.
    pub cache_write_micro_usd: i64,
}

/// A snapshot of one server's counters: one line of `metrics.jsonl`, and the sentinel line before
/// it when `reset` is set.
///
/// ```
/// use gridctl_telemetry::{MetricsSnapshot, Timestamp};
///
/// let mut snapshot = MetricsSnapshot::new(Timestamp::now());
/// snapshot.diff.input_tokens = 40;
/// snapshot.total.input_tokens = 1040;
/// assert!(!snapshot.reset);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// The time of the snapshot (`ts`).
    pub timestamp: Timestamp,
    /// The offset from UTC in which `ts` is written, in whole minutes.
    pub utc_offset: UtcOffset,
    /// Whether the token counters restarted; `diff` then equals the full snapshot.
    pub reset: bool,
    /// Whether the cost counters alone restarted.
    pub cost_reset: bool,
    /// The increase of the token counters since the previous snapshot.
    pub diff: TokenCounts,
    /// The cumulative token counters.
    pub total: TokenCounts,
    /// The increase of the cost counters since the previous snapshot; `None` for a line without
    /// cost.
    pub cost_diff: Option<CostCounts>,
    /// The cumulative cost counters; `None` for a line without cost.
    pub cost_total: Option<CostCounts>,
    /// All other keys of the line in their order: `tool_usage`, `prompt_usage` and those added by
    /// newer writers. An object named `diff`, `total`, `cost_diff` or `cost_total` holds the
    /// entries of the object of that name other than the counters above.
    pub extra: Vec<(String, Value)>,
    /// What was counted in the interval, where the diffs do not say it. Lines do not have it.
    pub interval: Option<Interval>,
}

/// What was counted in the interval before a snapshot, where its diffs do not say it: they hold
/// everything that a server ever counted when its counters begin anew, and miss that they were
/// cleared when they rose above their old values since.
///
/// It is kept in the database, so that a chart is the same after a restart, and not in lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Interval {
    /// Tokens that were counted since the snapshot before, or since they were cleared.
    pub tokens: TokenCounts,
    /// Cost that was counted, likewise.
    pub cost: CostCounts,
    /// Whether the token counters were cleared, and with them their history.
    pub tokens_cleared: bool,
    /// Whether the cost counters were cleared, likewise.
    pub cost_cleared: bool,
    /// When counting began.
    pub counting_since: Timestamp,
}

impl TokenCounts {
    /// The sum of both, each counter at most the largest integer.
    #[must_use]
    pub fn saturating_add(self, other: TokenCounts) -> TokenCounts {
        TokenCounts::from_array(zip(self.to_array(), other.to_array(), i64::saturating_add))
    }

    /// What this has more than `other`, counter by counter.
    #[must_use]
    pub fn saturating_sub(self, other: TokenCounts) -> TokenCounts {
        TokenCounts::from_array(zip(self.to_array(), other.to_array(), i64::saturating_sub))
    }

    /// The keys of the counters in a line, in the order of [`TokenCounts::to_array`].
    pub(crate) const KEYS: [&str; 3] = ["input_tokens", "output_tokens", "total_tokens"];

    pub(crate) const fn to_array(self) -> [i64; 3] {
        [self.input_tokens, self.output_tokens, self.total_tokens]
    }

    pub(crate) const fn from_array(
        [input_tokens, output_tokens, total_tokens]: [i64; 3],
    ) -> TokenCounts {
        TokenCounts {
            input_tokens,
            output_tokens,
            total_tokens,
        }
    }
}

impl CostCounts {
    /// The sum of both, each counter at most the largest integer.
    #[must_use]
    pub fn saturating_add(self, other: CostCounts) -> CostCounts {
        CostCounts::from_array(zip(self.to_array(), other.to_array(), i64::saturating_add))
    }

    /// What this has more than `other`, counter by counter.
    #[must_use]
    pub fn saturating_sub(self, other: CostCounts) -> CostCounts {
        CostCounts::from_array(zip(self.to_array(), other.to_array(), i64::saturating_sub))
    }

    /// The keys of the counters in a line, in the order of [`CostCounts::to_array`].
    pub(crate) const KEYS: [&str; 4] = [
        "input_micro_usd",
        "output_micro_usd",
        "cache_read_micro_usd",
        "cache_write_micro_usd",
    ];

    pub(crate) const fn to_array(self) -> [i64; 4] {
        [
            self.input_micro_usd,
            self.output_micro_usd,
            self.cache_read_micro_usd,
            self.cache_write_micro_usd,
        ]
    }

    pub(crate) const fn from_array(
        [
            input_micro_usd,
            output_micro_usd,
            cache_read_micro_usd,
            cache_write_micro_usd,
        ]: [i64; 4],
    ) -> CostCounts {
        CostCounts {
            input_micro_usd,
            output_micro_usd,
            cache_read_micro_usd,
            cache_write_micro_usd,
        }
    }
}

fn zip<const N: usize>(a: [i64; N], b: [i64; N], combine: fn(i64, i64) -> i64) -> [i64; N] {
    let mut pairs = a.into_iter().zip(b);
    a.map(|_| pairs.next().map(|(a, b)| combine(a, b)).unwrap_or_default())
}

impl MetricsSnapshot {
    /// A snapshot whose counters are zero and whose time is written in UTC.
    #[must_use]
    pub fn new(timestamp: Timestamp) -> MetricsSnapshot {
        MetricsSnapshot {
            timestamp,
            utc_offset: UtcOffset::UTC,
            reset: false,
            cost_reset: false,
            diff: TokenCounts::default(),
            total: TokenCounts::default(),
            cost_diff: None,
            cost_total: None,
            extra: Vec::new(),
            interval: None,
        }
    }

    /// The tokens that were counted in the interval before this snapshot; `None` when it does not
    /// say, because its diff is everything that was ever counted.
    #[must_use]
    pub fn tokens_counted(&self) -> Option<TokenCounts> {
        match &self.interval {
            Some(interval) => Some(interval.tokens),
            None => (!self.reset).then_some(self.diff),
        }
    }

    /// The cost that was counted in the interval before this snapshot, likewise.
    #[must_use]
    pub fn cost_counted(&self) -> Option<CostCounts> {
        match &self.interval {
            Some(interval) => Some(interval.cost),
            None => self.cost_diff.filter(|_| !self.reset && !self.cost_reset),
        }
    }
}
