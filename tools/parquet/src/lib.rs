//! Writes what a store has as Parquet, in the columns of the OpenTelemetry Collector's ClickHouse exporter.
