//! The totals of a server: its newest cumulative counters.

use super::{
    CostCounts, MetricsSnapshot, TokenCounts,
    calls::{Calls, PROMPT_USAGE, TOOL_USAGE, raise_calls},
};
use serde::{Deserialize, Serialize};

/// The newest cumulative counters of a server, computed from its snapshots in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// The timestamp of the last snapshot, in nanoseconds since the epoch.
    pub(crate) timestamp: i64,
    /// When counting started, in nanoseconds since the epoch.
    pub(crate) counting_since: i64,
    pub(crate) tokens: TokenCounts,
    /// `None` until the server has had a cost.
    pub(crate) cost: Option<CostCounts>,
    pub(crate) tools: Calls,
    pub(crate) skills: Calls,
    /// Whether the last snapshot was imported from a file instead of stored by a running daemon.
    pub(crate) is_imported: bool,
}

impl Totals {
    /// Updates `totals` by the next snapshot; `None` before the first one.
    ///
    /// When the token counters restart, the tools are cleared; otherwise their counters only rise.
    /// A snapshot without cost leaves the cost unchanged.
    pub(crate) fn advance(totals: &mut Option<Totals>, snapshot: &MetricsSnapshot) {
        let begins = snapshot.reset || totals.is_none();
        let totals = totals.get_or_insert_default();
        totals.timestamp = snapshot.timestamp.unix_nanos();
        if begins {
            totals.counting_since = totals.timestamp;
            totals.tools.clear();
        }
        if let Some(interval) = &snapshot.interval {
            totals.counting_since = interval.counting_since.unix_nanos();
            // A reset does not name a cost of zero.
            if interval.cost_cleared {
                totals.cost = totals.cost.map(|_| CostCounts::default());
            }
        }
        totals.tokens = snapshot.total;
        totals.cost = snapshot.cost_total.or(totals.cost);
        raise_calls(&mut totals.tools, &snapshot.extra, TOOL_USAGE);
        raise_calls(&mut totals.skills, &snapshot.extra, PROMPT_USAGE);
    }
}
