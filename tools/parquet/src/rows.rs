//! The rows of all tables, from stored records.

use crate::{
    Error, ParquetFile, Result, Table,
    tables::{
        Origin,
        logs::Logs,
        metrics::{Around, ExponentialHistograms, Gauges, Histograms, Summaries, Sums},
        traces::Traces,
    },
};
use gridctl_telemetry::{
    MetricsSnapshot, Record, Signal, Timestamp, Value,
    external::opentelemetry_proto::tonic::{
        common::v1::{AnyValue, KeyValue, any_value},
        logs::v1::LogsData,
        metrics::v1::{
            AggregationTemporality, Metric, MetricsData, NumberDataPoint, ResourceMetrics, Sum,
            metric::Data, number_data_point,
        },
    },
    query::{LogView, RawRecord, ValueView},
    send::OtlpBatch,
};
use std::{io::Write, sync::Arc};

/// The last attribute of a log that came from another program: its parts that OTLP has fields for.
const FOREIGN: &str = "otlp";

/// The names of the counters of servers, as OTLP has them.
const TOKENS: &str = "gridctl.tokens";
const COST: &str = "gridctl.cost";
const TOKEN_TYPE: &str = "gen_ai.token.type";
const MICROS_PER_USD: f64 = 1e6;

/// Rows that wait for their row groups.
#[derive(Debug)]
pub struct Rows {
    /// Shared with the points that are being added.
    origin: Arc<Origin>,
    logs: Logs,
    traces: Traces,
    gauges: Gauges,
    sums: Sums,
    histograms: Histograms,
    exponential_histograms: ExponentialHistograms,
    summaries: Summaries,
    /// Converts logs of other programs.
    foreign_logs: OtlpBatch,
    /// Converts metrics, and knows when the counters of each server began.
    metrics: OtlpBatch,
}

impl Rows {
    /// No rows.
    #[must_use]
    pub fn new(origin: Origin) -> Rows {
        Rows {
            origin: Arc::new(origin),
            logs: Logs::default(),
            traces: Traces::default(),
            gauges: Gauges::default(),
            sums: Sums::default(),
            histograms: Histograms::default(),
            exponential_histograms: ExponentialHistograms::default(),
            summaries: Summaries::default(),
            foreign_logs: OtlpBatch::new(Signal::Logs),
            metrics: OtlpBatch::new(Signal::Metrics),
        }
    }

    /// Adds the rows of a record: one for a log and a span, and one for each point of a metric. A server's
    /// metrics must come in the order of time.
    ///
    /// Fails with [`Error::Record`] when the record was not written by the library, and adds no row.
    pub fn push(&mut self, record: &RawRecord<'_>) -> Result<()> {
        match record.signal {
            Signal::Logs => self.push_log(record),
            Signal::Traces => {
                if let Record::Span(span) = record.decode()? {
                    self.traces
                        .push(record.timestamp, record.server, &span, &self.origin);
                }
                Ok(())
            }
            Signal::Metrics => self.push_metrics(record),
        }
    }

    /// Takes note of a metric that has rows already: the points of a counter say when it began to count.
    ///
    /// Fails like [`Rows::push`].
    pub fn pass(&mut self, record: &RawRecord<'_>) -> Result<()> {
        if record.signal == Signal::Metrics {
            self.metrics.push(record)?;
            self.metrics.clear();
        }
        Ok(())
    }

    /// The size of all rows in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        Table::ALL
            .iter()
            .map(|table| self.table(*table).bytes())
            .sum()
    }

    /// The tables that have rows.
    pub fn waiting(&self) -> impl Iterator<Item = Table> + use<> {
        let waiting: Vec<Table> = Table::ALL
            .into_iter()
            .filter(|table| self.table(*table).len() > 0)
            .collect();
        waiting.into_iter()
    }

    /// Begins to write the rows of the table of `file` as a row group, and has none of it then. It is written on a
    /// thread of its own while other rows are added; before, this waits for the row group before.
    ///
    /// Fails with [`Error::File`] when the row group before could not be written; the rows are lost then, and the file
    /// cannot be used.
    pub fn flush<W: Write + Send + 'static>(&mut self, file: &mut ParquetFile<W>) -> Result<()> {
        let table = file.table();
        if self.table(table).len() > 0 {
            file.write(self.take(table))?;
        }
        Ok(())
    }

    pub(crate) fn table(&self, table: Table) -> &dyn crate::tables::Rows {
        match table {
            Table::Logs => &self.logs,
            Table::Traces => &self.traces,
            Table::Gauge => &self.gauges,
            Table::Sum => &self.sums,
            Table::Histogram => &self.histograms,
            Table::ExponentialHistogram => &self.exponential_histograms,
            Table::Summary => &self.summaries,
        }
    }

    fn take(&mut self, table: Table) -> Box<dyn crate::tables::Rows> {
        fn taken<R: crate::tables::Rows + Default + 'static>(
            rows: &mut R,
        ) -> Box<dyn crate::tables::Rows> {
            Box::new(std::mem::take(rows))
        }
        match table {
            Table::Logs => taken(&mut self.logs),
            Table::Traces => taken(&mut self.traces),
            Table::Gauge => taken(&mut self.gauges),
            Table::Sum => taken(&mut self.sums),
            Table::Histogram => taken(&mut self.histograms),
            Table::ExponentialHistogram => taken(&mut self.exponential_histograms),
            Table::Summary => taken(&mut self.summaries),
        }
    }

    fn push_log(&mut self, record: &RawRecord<'_>) -> Result<()> {
        let Some(log) = record.log()? else {
            return Ok(());
        };
        if !is_foreign(&log) {
            self.logs
                .push_own(record.timestamp, record.server, &log, &self.origin);
            return Ok(());
        }
        let logs: LogsData = converted(&mut self.foreign_logs, record)?;
        for logs in &logs.resource_logs {
            self.logs
                .push_otlp(record.timestamp, record.server, logs, &self.origin);
        }
        Ok(())
    }

    fn push_metrics(&mut self, record: &RawRecord<'_>) -> Result<()> {
        let snapshot = record.decode()?.into_metrics();
        let data: MetricsData = converted(&mut self.metrics, record)?;
        for metrics in &data.resource_metrics {
            for scope_metrics in &metrics.scope_metrics {
                for metric in &scope_metrics.metrics {
                    self.push_metric(
                        metric.data.as_ref(),
                        &Around {
                            server: record.server,
                            origin: &Arc::clone(&self.origin),
                            resource: metrics.resource.as_ref(),
                            resource_schema_url: &metrics.schema_url,
                            scope: scope_metrics.scope.as_ref(),
                            scope_schema_url: &scope_metrics.schema_url,
                            metric,
                        },
                    );
                }
            }
        }
        if let (Some(snapshot), Some(metrics)) = (snapshot, data.resource_metrics.first()) {
            self.push_counted(record, &snapshot, metrics);
        }
        Ok(())
    }

    fn push_metric(&mut self, data: Option<&Data>, around: &Around<'_>) {
        match data {
            Some(Data::Gauge(gauge)) => {
                for point in &gauge.data_points {
                    self.gauges.push(around, point);
                }
            }
            Some(Data::Sum(sum)) => {
                for point in &sum.data_points {
                    let temporality = sum.aggregation_temporality;
                    self.sums.push(around, point, temporality, sum.is_monotonic);
                }
            }
            Some(Data::Histogram(histogram)) => {
                for point in &histogram.data_points {
                    self.histograms
                        .push(around, point, histogram.aggregation_temporality);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                for point in &histogram.data_points {
                    self.exponential_histograms.push(
                        around,
                        point,
                        histogram.aggregation_temporality,
                    );
                }
            }
            Some(Data::Summary(summary)) => {
                for point in &summary.data_points {
                    self.summaries.push(around, point);
                }
            }
            None => {}
        }
    }

    /// Adds what was counted since the snapshot before, which can be added up over any time and any servers.
    /// Counters that only grow cannot: they begin anew, and a snapshot before the first may be missing.
    fn push_counted(
        &mut self,
        record: &RawRecord<'_>,
        snapshot: &MetricsSnapshot,
        metrics: &ResourceMetrics,
    ) {
        let own = metrics.scope_metrics.iter().flat_map(|it| &it.metrics);
        let tokens = snapshot.tokens_counted().unwrap_or(snapshot.diff);
        let cost = snapshot.cost_counted().or(snapshot.cost_diff);
        for metric in own {
            let counted: &[(&str, i64)] = match metric.name.as_str() {
                TOKENS => &[
                    ("input", tokens.input_tokens),
                    ("output", tokens.output_tokens),
                ],
                COST => {
                    let cost = cost.unwrap_or_default();
                    &[
                        ("input", cost.input_micro_usd),
                        ("output", cost.output_micro_usd),
                        ("cache_read", cost.cache_read_micro_usd),
                        ("cache_write", cost.cache_write_micro_usd),
                    ]
                }
                _ => continue,
            };
            let begun = snapshot.interval.map(|interval| interval.counting_since);
            let points = (counted.iter())
                .filter(|(_, count)| *count != 0)
                .map(|(kind, count)| {
                    point(record.timestamp, begun, kind, value_of(metric, *count))
                });
            let counted = Metric {
                name: format!("{}.counted", metric.name),
                description: metric.description.clone(),
                unit: metric.unit.clone(),
                ..Metric::default()
            };
            let data = Data::Sum(Sum {
                data_points: points.collect(),
                aggregation_temporality: AggregationTemporality::Delta.into(),
                is_monotonic: true,
            });
            self.push_metric(
                Some(&data),
                &Around {
                    server: record.server,
                    origin: &Arc::clone(&self.origin),
                    resource: metrics.resource.as_ref(),
                    resource_schema_url: "",
                    scope: None,
                    scope_schema_url: "",
                    metric: &counted,
                },
            );
        }
    }
}

/// A record as a message of OTLP.
fn converted<M: prost::Message + Default>(
    batch: &mut OtlpBatch,
    record: &RawRecord<'_>,
) -> Result<M> {
    batch.push(record)?;
    let bytes = batch.encode(0..batch.len());
    batch.clear();
    M::decode(bytes.as_slice()).map_err(|source| Error::Message { source })
}

fn is_foreign(log: &LogView<'_>) -> bool {
    matches!(
        log.attributes.last(),
        Some((key, ValueView::Other(Value::Object(_)))) if *key == FOREIGN
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the column has doubles, in which the exact number of tokens or micro-USD can be up to 2^53"
)]
fn value_of(metric: &Metric, count: i64) -> f64 {
    if metric.name == COST {
        count as f64 / MICROS_PER_USD
    } else {
        count as f64
    }
}

fn point(at: Timestamp, begun: Option<Timestamp>, kind: &str, value: f64) -> NumberDataPoint {
    let nanos = |at: Timestamp| u64::try_from(at.unix_nanos()).unwrap_or_default();
    NumberDataPoint {
        attributes: vec![KeyValue {
            key: TOKEN_TYPE.to_owned(),
            value: Some(AnyValue {
                value: Some(any_value::Value::StringValue(kind.to_owned())),
            }),
            ..KeyValue::default()
        }],
        start_time_unix_nano: nanos(begun.unwrap_or(at)),
        time_unix_nano: nanos(at),
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}
