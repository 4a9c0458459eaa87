use super::{
    CostCounts, MetricsSnapshot, TokenCounts,
    calls::{Calls, PROMPT_USAGE, TOOL_USAGE, raise_calls},
};
use serde::{Deserialize, Serialize};

/// The newest cumulative counters of a server, made of its snapshots in the order of their arrival.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// The timestamp of the last snapshot, in nanoseconds since the epoch.
    pub(crate) timestamp: i64,
    /// When counting began, in nanoseconds since the epoch.
    pub(crate) counting_since: i64,
    pub(crate) tokens: TokenCounts,
    /// Absent until the server has had a cost.
    pub(crate) cost: Option<CostCounts>,
    pub(crate) tools: Calls,
    pub(crate) skills: Calls,
    /// Whether the last snapshot came from a file and not from a running daemon.
    pub(crate) is_imported: bool,
}

impl Totals {
    /// Adds the next snapshot to `totals`, which are absent before the first one.
    ///
    /// Tools are forgotten when the tokens begin anew, and otherwise only rise. A snapshot in which
    /// the cost did not move does not name it, so the cost stays.
    pub(crate) fn advance(totals: &mut Option<Totals>, snapshot: &MetricsSnapshot) {
        let begins = snapshot.reset || totals.is_none();
        let totals = totals.get_or_insert_default();
        totals.timestamp = snapshot.timestamp.unix_nanos();
        if begins {
            totals.counting_since = totals.timestamp;
            totals.tools.clear();
        }
        totals.tokens = snapshot.total;
        totals.cost = snapshot.cost_total.or(totals.cost);
        raise_calls(&mut totals.tools, &snapshot.extra, TOOL_USAGE);
        raise_calls(&mut totals.skills, &snapshot.extra, PROMPT_USAGE);
    }
}
