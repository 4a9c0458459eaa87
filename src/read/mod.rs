//! Reading records by time, by arrival, by content, or the last ones, with several servers merged; and
//! what many records say together: traces, calls of tools, usage, counts.

mod batch;
mod count;
mod cursor;
mod follow;
mod interval;
mod log;
mod query;
mod scan;
mod seed;
#[cfg(feature = "async")]
mod stream;
#[cfg(test)]
mod tests;
mod traces;
mod usage;
mod verify;

#[cfg(feature = "async")]
pub use self::stream::FollowStream;
pub use self::{
    batch::RawBatch,
    count::{CountBy, CountReport, CountRow},
    cursor::Cursor,
    follow::{Arrival, Arrivals, Follow, FollowHandle},
    interval::Interval,
    log::{LogView, ValueView},
    query::Query,
    scan::{Damage, RawRecord, Records, Scan, StoredRecord},
    seed::{ScopeFilter, Seed, SeedRange, SeededTrace},
    traces::{
        Call, CallError, CallList, CallQuery, ErrorSource, ToolList, ToolStats, Trace, TraceCursor,
        TraceEntry, TraceList, TraceNode, TracePlace, TraceQuery, TraceSummary, TraceTree,
    },
    usage::{ModelUsage, UsageBy, UsageCounts, UsageQuery, UsageReport, UsageRow},
    verify::{Verified, VerifyOptions, VerifyProgress},
};
