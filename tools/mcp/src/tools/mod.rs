//! The tools, one file for each.

mod get_trace;
mod inventory;
mod list_traces;
mod losses;
mod search_logs;
mod tool_calls;
mod usage;

use crate::{
    asked::{Asked, Refusal},
    schema::Own,
};
use gridctl_telemetry_server::params::View;
use rmcp::model::CallToolResult;

/// A tool for agents.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// The parameters that it shares with the API.
    pub(crate) view: View,
    pub(crate) own: &'static [Own],
    /// The name of the list in its answer.
    pub(crate) list: &'static str,
    /// What an item of the list is.
    pub(crate) items: &'static str,
    /// The other parts of its answer, and what they say.
    pub(crate) output: &'static [(&'static str, &'static str)],
    pub(crate) run: fn(&Asked<'_>) -> Result<CallToolResult, Refusal>,
}

/// All tools.
pub(crate) const TOOLS: &[Tool] = &[
    search_logs::TOOL,
    list_traces::TOOL,
    get_trace::TOOL,
    tool_calls::TOOL,
    usage::TOOL,
    losses::TOOL,
    inventory::TOOL,
];

/// The tool of this name.
pub(crate) fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// The number of items before those of this page: the cursor is `o` and that number.
fn offset(asked: &Asked<'_>) -> Result<usize, Refusal> {
    let Some(cursor) = asked.params.cursor() else {
        return Ok(0);
    };
    let number = cursor
        .strip_prefix('o')
        .and_then(|number| number.parse().ok());
    number.ok_or_else(|| not_a_cursor(cursor))
}

/// The cursor after the item at this index.
fn offset_after(index: usize) -> String {
    format!("o{}", index + 1)
}

fn not_a_cursor(cursor: &str) -> Refusal {
    Refusal::new(format!(
        "cursor: {cursor:?} is no cursor of this tool: pass the \"cursor\" of its last answer, with the same arguments"
    ))
}

/// A number and its noun: `1 record`, `2 records`.
fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!(
        "{} {noun}{plural}",
        gridctl_telemetry_server::display::grouped(number)
    )
}
