//! The table of all messages: each field of `opentelemetry-proto` with its key.
//!
//! A field without `as` has the form of its type: integers of 64 bits are strings, for instance.

use super::{
    field::{Base64, Enum, Form, Plain, SpanId, TraceId},
    message::{Message, Seen},
};
use crate::lines::json::{JsonResult, Reader};
use opentelemetry_proto::tonic::{
    common::v1::{
        AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value,
    },
    logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs, SeverityNumber},
    metrics::v1::{
        AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint,
        Gauge, Histogram, HistogramDataPoint, Metric, MetricsData, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
        exponential_histogram_data_point::Buckets, metric, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status, TracesData,
        span::{Event, Link, SpanKind},
        status::StatusCode,
    },
};

macro_rules! form {
    () => {
        Plain
    };
    ($form:ty) => {
        $form
    };
}

macro_rules! messages {
    ($(
        $message:ident {
            $( $field:ident $key:literal $(as $form:ty)?, )*
            $( [oneof $oneof:ident] {
                $( $member:path, $member_key:literal $(as $member_form:ty)?, )*
            } )?
        }
    )*) => {$(
        impl Message for $message {
            fn write_fields(&self, out: &mut Vec<u8>) {
                $(
                    if !<form!($($form)?) as Form<_>>::is_absent(&self.$field) {
                        out.extend_from_slice(concat!(",\"", $key, "\":").as_bytes());
                        <form!($($form)?) as Form<_>>::write(&self.$field, out);
                    }
                )*
                $(
                    match &self.$oneof {
                        None => {}
                        $(
                            Some($member(member)) => {
                                out.extend_from_slice(concat!(",\"", $member_key, "\":").as_bytes());
                                <form!($($member_form)?) as Form<_>>::write(member, out);
                            }
                        )*
                    }
                )?
            }

            fn read_field(
                &mut self,
                reader: &mut Reader<'_>,
                key: &str,
                seen: &mut Seen,
            ) -> JsonResult<bool> {
                #[expect(non_camel_case_types, reason = "named as the fields are")]
                enum Slot { $($field,)* $($oneof,)? }

                match key {
                    $(
                        $key => {
                            seen.field(Slot::$field as u32, reader)?;
                            if !reader.take_null()? {
                                self.$field = <form!($($form)?) as Form<_>>::read(reader)?;
                            }
                        }
                    )*
                    $($(
                        $member_key => {
                            if !reader.take_null()? {
                                seen.member(Slot::$oneof as u32, stringify!($oneof), reader)?;
                                let member = <form!($($member_form)?) as Form<_>>::read(reader)?;
                                self.$oneof = Some($member(member));
                            }
                        }
                    )*)?
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    )*

        /// Each field and each member of a oneof, as Rust names it, and its key.
        #[cfg(test)]
        const KEYS: &[(&str, &str)] = &[
            $(
                $( (stringify!($field), $key), )*
                $( $( (stringify!($member), $member_key), )* )?
            )*
        ];
    };
}

messages! {
    // common.proto

    AnyValue {
        [oneof value] {
            any_value::Value::StringValue, "stringValue",
            any_value::Value::BoolValue, "boolValue",
            any_value::Value::IntValue, "intValue",
            any_value::Value::DoubleValue, "doubleValue",
            any_value::Value::ArrayValue, "arrayValue",
            any_value::Value::KvlistValue, "kvlistValue",
            any_value::Value::BytesValue, "bytesValue" as Base64,
            any_value::Value::StringValueStrindex, "stringValueStrindex",
        }
    }
    ArrayValue {
        values "values",
    }
    KeyValueList {
        values "values",
    }
    KeyValue {
        key "key",
        value "value",
        key_strindex "keyStrindex",
    }
    InstrumentationScope {
        name "name",
        version "version",
        attributes "attributes",
        dropped_attributes_count "droppedAttributesCount",
    }
    EntityRef {
        schema_url "schemaUrl",
        r#type "type",
        id_keys "idKeys",
        description_keys "descriptionKeys",
    }

    // resource.proto

    Resource {
        attributes "attributes",
        dropped_attributes_count "droppedAttributesCount",
        entity_refs "entityRefs",
    }

    // trace.proto

    TracesData {
        resource_spans "resourceSpans",
    }
    ResourceSpans {
        resource "resource",
        scope_spans "scopeSpans",
        schema_url "schemaUrl",
    }
    ScopeSpans {
        scope "scope",
        spans "spans",
        schema_url "schemaUrl",
    }
    Span {
        trace_id "traceId" as TraceId,
        span_id "spanId" as SpanId,
        trace_state "traceState",
        parent_span_id "parentSpanId" as SpanId,
        flags "flags",
        name "name",
        kind "kind" as Enum<SpanKind>,
        start_time_unix_nano "startTimeUnixNano",
        end_time_unix_nano "endTimeUnixNano",
        attributes "attributes",
        dropped_attributes_count "droppedAttributesCount",
        events "events",
        dropped_events_count "droppedEventsCount",
        links "links",
        dropped_links_count "droppedLinksCount",
        status "status",
    }
    Event {
        time_unix_nano "timeUnixNano",
        name "name",
        attributes "attributes",
        dropped_attributes_count "droppedAttributesCount",
    }
    Link {
        trace_id "traceId" as TraceId,
        span_id "spanId" as SpanId,
        trace_state "traceState",
        attributes "attributes",
        dropped_attributes_count "droppedAttributesCount",
        flags "flags",
    }
    Status {
        message "message",
        code "code" as Enum<StatusCode>,
    }

    // logs.proto

    LogsData {
        resource_logs "resourceLogs",
    }
    ResourceLogs {
        resource "resource",
        scope_logs "scopeLogs",
        schema_url "schemaUrl",
    }
    ScopeLogs {
        scope "scope",
        log_records "logRecords",
        schema_url "schemaUrl",
    }
    LogRecord {
        time_unix_nano "timeUnixNano",
        observed_time_unix_nano "observedTimeUnixNano",
        severity_number "severityNumber" as Enum<SeverityNumber>,
        severity_text "severityText",
        body "body",
        attributes "attributes",
        dropped_attributes_count "droppedAttributesCount",
        flags "flags",
        trace_id "traceId" as TraceId,
        span_id "spanId" as SpanId,
        event_name "eventName",
    }

    // metrics.proto

    MetricsData {
        resource_metrics "resourceMetrics",
    }
    ResourceMetrics {
        resource "resource",
        scope_metrics "scopeMetrics",
        schema_url "schemaUrl",
    }
    ScopeMetrics {
        scope "scope",
        metrics "metrics",
        schema_url "schemaUrl",
    }
    Metric {
        name "name",
        description "description",
        unit "unit",
        metadata "metadata",
        [oneof data] {
            metric::Data::Gauge, "gauge",
            metric::Data::Sum, "sum",
            metric::Data::Histogram, "histogram",
            metric::Data::ExponentialHistogram, "exponentialHistogram",
            metric::Data::Summary, "summary",
        }
    }
    Gauge {
        data_points "dataPoints",
    }
    Sum {
        data_points "dataPoints",
        aggregation_temporality "aggregationTemporality" as Enum<AggregationTemporality>,
        is_monotonic "isMonotonic",
    }
    Histogram {
        data_points "dataPoints",
        aggregation_temporality "aggregationTemporality" as Enum<AggregationTemporality>,
    }
    ExponentialHistogram {
        data_points "dataPoints",
        aggregation_temporality "aggregationTemporality" as Enum<AggregationTemporality>,
    }
    Summary {
        data_points "dataPoints",
    }
    NumberDataPoint {
        attributes "attributes",
        start_time_unix_nano "startTimeUnixNano",
        time_unix_nano "timeUnixNano",
        exemplars "exemplars",
        flags "flags",
        [oneof value] {
            number_data_point::Value::AsDouble, "asDouble",
            number_data_point::Value::AsInt, "asInt",
        }
    }
    HistogramDataPoint {
        attributes "attributes",
        start_time_unix_nano "startTimeUnixNano",
        time_unix_nano "timeUnixNano",
        count "count",
        sum "sum",
        bucket_counts "bucketCounts",
        explicit_bounds "explicitBounds",
        exemplars "exemplars",
        flags "flags",
        min "min",
        max "max",
    }
    ExponentialHistogramDataPoint {
        attributes "attributes",
        start_time_unix_nano "startTimeUnixNano",
        time_unix_nano "timeUnixNano",
        count "count",
        sum "sum",
        scale "scale",
        zero_count "zeroCount",
        positive "positive",
        negative "negative",
        flags "flags",
        exemplars "exemplars",
        min "min",
        max "max",
        zero_threshold "zeroThreshold",
    }
    Buckets {
        offset "offset",
        bucket_counts "bucketCounts",
    }
    SummaryDataPoint {
        attributes "attributes",
        start_time_unix_nano "startTimeUnixNano",
        time_unix_nano "timeUnixNano",
        count "count",
        sum "sum",
        quantile_values "quantileValues",
        flags "flags",
    }
    ValueAtQuantile {
        quantile "quantile",
        value "value",
    }
    Exemplar {
        filtered_attributes "filteredAttributes",
        time_unix_nano "timeUnixNano",
        span_id "spanId" as SpanId,
        trace_id "traceId" as TraceId,
        [oneof value] {
            exemplar::Value::AsDouble, "asDouble",
            exemplar::Value::AsInt, "asInt",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_its_field_in_lower_camel_case() {
        for (name, key) in KEYS {
            let name = name.trim_start_matches("r#");
            let name = name.rsplit("::").next().unwrap_or_default();
            let mut camel = String::new();
            for (index, part) in name.split('_').enumerate() {
                let (first, rest) = part.split_at(1);
                camel += &match index {
                    0 => first.to_lowercase(),
                    _ => first.to_uppercase(),
                };
                camel += rest;
            }
            assert_eq!(*key, camel);
        }
    }
}
