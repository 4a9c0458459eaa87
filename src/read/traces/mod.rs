//! Spans as people think of them: traces, and calls of tools.
//!
//! | file | what is in it |
//! |---|---|
//! | `tree` | spans and logs in the order of a tree |
//! | `summary` | what is known of a whole trace |
//! | `list` | the traces of a query |
//! | `trace` | one trace with its spans and logs |
//! | `nodes` | one trace whose records are still encoded |
//! | `calls`, `durations`, `reason` | calls of tools, and why they failed |

mod best;
mod calls;
mod durations;
mod list;
mod nodes;
mod reason;
mod summary;
mod trace;
mod tree;

pub use self::{
    calls::{Call, CallList, CallQuery, ToolList, ToolStats},
    list::{TraceCursor, TraceList, TraceQuery},
    nodes::{TraceNode, TraceTree},
    reason::{CallError, ErrorSource},
    summary::TraceSummary,
    trace::{Trace, TraceEntry},
    tree::TracePlace,
};

use super::{Damage, Query, RawRecord};
use crate::{
    error::{Error, Result},
    filter::SpanHead,
    otlp::id::hex,
    signal::Signal,
    store::Snapshot,
    time::Timestamp,
};

impl Snapshot {
    /// Calls `visit` with each span of a query, until it returns `false`. Returns the damage that the query
    /// skips.
    fn each_span(
        &self,
        query: &Query,
        visit: &mut dyn FnMut(&RawRecord<'_>, SpanHead<'_>) -> bool,
    ) -> Result<Vec<Damage>> {
        let mut scan = self.scan(query)?;
        let mut damage = Vec::new();
        while let Some(record) = scan.next()? {
            if let Some(head) = record.encoded().and_then(|it| it.span_head()) {
                if !visit(&record, head) {
                    break;
                }
                continue;
            }
            let error = Error::InvalidRecord {
                signal: Signal::Traces,
                reason: "it is no span".to_owned(),
            };
            if !query.skips_damaged {
                return Err(error);
            }
            damage.push(Damage::of_record(&record, &error));
        }
        damage.extend(scan.damage());
        Ok(damage)
    }
}

/// A time of OTLP; `None` when it is unknown.
fn known_time(nanos: u64) -> Option<Timestamp> {
    (nanos != 0).then(|| Timestamp::from_unix_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)))
}

/// `time` and this number of nanoseconds, within the range of timestamps.
fn shifted(time: Timestamp, nanos: i64) -> Timestamp {
    Timestamp::from_unix_nanos(time.unix_nanos().saturating_add(nanos))
}

/// Writes a duration as a number of nanoseconds.
fn serialize_nanos<S: serde::Serializer>(
    duration: &std::time::Duration,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Like [`serialize_nanos`], and null for `None`.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn serialize_nanos_or_null<S: serde::Serializer>(
    duration: &Option<std::time::Duration>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serialize_nanos(duration, serializer),
        None => serializer.serialize_none(),
    }
}
