//! Writes what a store has as Parquet, in the columns of the OpenTelemetry Collector's ClickHouse exporter, so that
//! DuckDB, ClickHouse, Spark and DataFusion read it without a schema of their own.
//!
//! The names and types of the columns are those of the exporter's default tables
//! (<https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/clickhouseexporter>), the
//! texts of attributes those of the Collector's `AsString`:
//!
//! | type of the exporter | Parquet |
//! |---|---|
//! | `DateTime64(9)` | `INT64`, `TIMESTAMP(NANOS)` without a zone: the time in UTC |
//! | `String`, `LowCardinality(String)` | `BYTE_ARRAY`, `STRING` |
//! | `UInt8`, `UInt32`, `Int32` | `INT32`, `INTEGER` of that width |
//! | `UInt64` | `INT64`, `INTEGER(64, unsigned)` |
//! | `Float64`, `Bool` | `DOUBLE`, `BOOLEAN` |
//! | `Map(…, String)` | `MAP` of strings |
//! | `Nested(…)` such as `Events.Name` | a `LIST` for each part, its name with the point |
//!
//! No column has nulls. Columns that the exporter computes (`TimestampTime`) are left out. What differs from what the
//! exporter would store:
//!
//! - A resource also has the attributes of the [`Origin`], and `server.name` if the service has another name than the
//!   server.
//! - A log's attributes `trace_id` and `span_id` are left out if the columns say the same, and so are those that only
//!   the store reads back (`gridctl.record.…`).
//! - A span without a start has the time under which it is stored, and the duration 0; so has one without an end.
//! - Beside the counters `gridctl.tokens` and `gridctl.cost`, which only grow, are what was counted since the snapshot
//!   before: `gridctl.tokens.counted` and `gridctl.cost.counted`, with `AggregationTemporality` 1 (delta).
//!
//! Rows wait in memory ([`Rows::bytes`]) until [`Rows::flush`] writes a row group, column by column, on a thread of the
//! file; beside them, writing needs the encoded bytes of one column. `parquet` is used without `arrow`, whose arrays
//! would be built only to be taken apart, and whose crates double what this one adds to a build.

mod chunk;
mod column;
mod file;
mod rows;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod texts;

pub use self::{file::ParquetFile, rows::Rows, tables::Origin};

/// The crates whose types are part of this API, in the versions that it was built with.
pub mod external {
    pub use parquet;
}

/// A table of the exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `otel_logs`
    Logs,
    /// `otel_traces`
    Traces,
    /// `otel_metrics_gauge`
    Gauge,
    /// `otel_metrics_sum`
    Sum,
    /// `otel_metrics_histogram`
    Histogram,
    /// `otel_metrics_exponential_histogram`
    ExponentialHistogram,
    /// `otel_metrics_summary`
    Summary,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 7] = [
        Table::Logs,
        Table::Traces,
        Table::Gauge,
        Table::Sum,
        Table::Histogram,
        Table::ExponentialHistogram,
        Table::Summary,
    ];

    /// Its name, without the `otel_` of the exporter.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Logs => "logs",
            Table::Traces => "traces",
            Table::Gauge => "metrics_gauge",
            Table::Sum => "metrics_sum",
            Table::Histogram => "metrics_histogram",
            Table::ExponentialHistogram => "metrics_exponential_histogram",
            Table::Summary => "metrics_summary",
        }
    }
}

/// Rows that could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A record was not written by the library.
    #[error(transparent)]
    Record(#[from] gridctl_telemetry::Error),
    /// A record is not the message that it was converted to.
    #[error("the record cannot be converted to OTLP")]
    Message {
        /// Why.
        source: prost::DecodeError,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] parquet::errors::ParquetError),
}

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
