//! How much memory an encoded message takes once it is decoded, known before it is.
//!
//! An empty span takes two bytes in protobuf and several hundred in memory: a body of a few MiB could fill the
//! memory of a machine.

use crate::signal::Signal;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, SummaryDataPoint, summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span,
        span::{Event, Link},
    },
};

/// How deep messages may be nested; the decoder refuses deeper ones.
const DEPTH_MAX: u32 = 100;

/// A message: its size in memory, and its fields that take more than they take encoded.
struct Shape {
    bytes: usize,
    fields: &'static [(u64, Part)],
}

enum Part {
    Message(&'static Shape),
    /// One of several texts.
    Text,
    /// Numbers, each of which can take one byte encoded.
    Numbers,
}

use Part::{Message, Numbers, Text};

const fn shape<T>(fields: &'static [(u64, Part)]) -> Shape {
    Shape {
        bytes: size_of::<T>(),
        fields,
    }
}

static VALUE: Shape = shape::<AnyValue>(&[(5, Message(&VALUES)), (6, Message(&ENTRIES))]);
/// What stands where another message counts already, such as a list in its value.
static VALUES: Shape = shape::<()>(&[(1, Message(&VALUE))]);
static ENTRIES: Shape = shape::<()>(&[(1, Message(&ENTRY))]);
static ENTRY: Shape = shape::<KeyValue>(&[(2, Message(&INNER_VALUE))]);
static INNER_VALUE: Shape = shape::<()>(&[(5, Message(&VALUES)), (6, Message(&ENTRIES))]);
static ENTITY: Shape = shape::<EntityRef>(&[(3, Text), (4, Text)]);
static RESOURCE: Shape = shape::<Resource>(&[(1, Message(&ENTRY)), (3, Message(&ENTITY))]);
static SCOPE: Shape = shape::<InstrumentationScope>(&[(3, Message(&ENTRY))]);

static TRACES: Shape = shape::<()>(&[(1, Message(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Shape =
    shape::<ResourceSpans>(&[(1, Message(&RESOURCE)), (2, Message(&SCOPE_SPANS))]);
static SCOPE_SPANS: Shape = shape::<ScopeSpans>(&[(1, Message(&SCOPE)), (2, Message(&SPAN))]);
static SPAN: Shape = shape::<Span>(&[
    (9, Message(&ENTRY)),
    (11, Message(&EVENT)),
    (13, Message(&LINK)),
]);
static EVENT: Shape = shape::<Event>(&[(3, Message(&ENTRY))]);
static LINK: Shape = shape::<Link>(&[(4, Message(&ENTRY))]);

static LOGS: Shape = shape::<()>(&[(1, Message(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Shape =
    shape::<ResourceLogs>(&[(1, Message(&RESOURCE)), (2, Message(&SCOPE_LOGS))]);
static SCOPE_LOGS: Shape = shape::<ScopeLogs>(&[(1, Message(&SCOPE)), (2, Message(&LOG))]);
static LOG: Shape = shape::<LogRecord>(&[(5, Message(&INNER_VALUE)), (6, Message(&ENTRY))]);

static METRICS: Shape = shape::<()>(&[(1, Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Shape =
    shape::<ResourceMetrics>(&[(1, Message(&RESOURCE)), (2, Message(&SCOPE_METRICS))]);
static SCOPE_METRICS: Shape = shape::<ScopeMetrics>(&[(1, Message(&SCOPE)), (2, Message(&METRIC))]);
static METRIC: Shape = shape::<Metric>(&[
    (5, Message(&NUMBERS)),
    (7, Message(&NUMBERS)),
    (9, Message(&HISTOGRAM)),
    (10, Message(&EXPONENTIAL_HISTOGRAM)),
    (11, Message(&SUMMARY)),
    (12, Message(&ENTRY)),
]);
static NUMBERS: Shape = shape::<()>(&[(1, Message(&NUMBER_POINT))]);
static NUMBER_POINT: Shape =
    shape::<NumberDataPoint>(&[(5, Message(&EXEMPLAR)), (7, Message(&ENTRY))]);
static HISTOGRAM: Shape = shape::<()>(&[(1, Message(&HISTOGRAM_POINT))]);
static HISTOGRAM_POINT: Shape =
    shape::<HistogramDataPoint>(&[(8, Message(&EXEMPLAR)), (9, Message(&ENTRY))]);
static EXPONENTIAL_HISTOGRAM: Shape = shape::<()>(&[(1, Message(&EXPONENTIAL_POINT))]);
static EXPONENTIAL_POINT: Shape = shape::<ExponentialHistogramDataPoint>(&[
    (1, Message(&ENTRY)),
    (8, Message(&BUCKETS)),
    (9, Message(&BUCKETS)),
    (11, Message(&EXEMPLAR)),
]);
static BUCKETS: Shape = shape::<()>(&[(2, Numbers)]);
static SUMMARY: Shape = shape::<()>(&[(1, Message(&SUMMARY_POINT))]);
static SUMMARY_POINT: Shape =
    shape::<SummaryDataPoint>(&[(6, Message(&QUANTILE)), (7, Message(&ENTRY))]);
static QUANTILE: Shape = shape::<ValueAtQuantile>(&[]);
static EXEMPLAR: Shape = shape::<Exemplar>(&[(7, Message(&ENTRY))]);

/// Whether the messages in an encoded message of `signal` take at most `bytes_max` bytes once they are decoded,
/// their texts and bytes not counted, which take what they take encoded. What is malformed counts nothing: the
/// decoder says so.
pub(crate) fn fits(signal: Signal, encoded: &[u8], bytes_max: usize) -> bool {
    let shape = match signal {
        Signal::Traces => &TRACES,
        Signal::Logs => &LOGS,
        Signal::Metrics => &METRICS,
    };
    let mut left = bytes_max;
    take(shape, encoded, DEPTH_MAX, &mut left).is_some()
}

/// Takes what the message needs from `left`; `None` if that is not enough.
fn take(shape: &Shape, encoded: &[u8], depth: u32, left: &mut usize) -> Option<()> {
    *left = left.checked_sub(shape.bytes)?;
    let Some(depth) = depth.checked_sub(1) else {
        return Some(());
    };
    let mut rest = encoded;
    while let Some((field, value)) = next_field(&mut rest) {
        let part = shape.fields.iter().find(|(number, _)| *number == field);
        match part.map(|(_, part)| part) {
            Some(Message(shape)) => take(shape, value, depth, left)?,
            Some(Text) => *left = left.checked_sub(size_of::<String>())?,
            Some(Numbers) => *left = left.checked_sub(value.len() * size_of::<u64>())?,
            None => {}
        }
    }
    Some(())
}

/// The number and the bytes of the next field; without bytes if it is a number.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    const GROUP_BEGIN: u64 = 3;
    const GROUP_END: u64 = 4;
    let key = varint(rest)?;
    let length = match key & 7 {
        0 => {
            varint(rest)?;
            return Some((key >> 3, &[]));
        }
        1 => 8,
        2 => usize::try_from(varint(rest)?).ok()?,
        5 => 4,
        // The fields of a group are passed over by the decoder; to count them is too much, not too little.
        GROUP_BEGIN | GROUP_END => 0,
        _ => return None,
    };
    let (value, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some((key >> 3, if key & 7 == 2 { value } else { &[] }))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::{
        common::v1::{ArrayValue, any_value::Value as Any},
        trace::v1::TracesData,
    };
    use prost::Message as _;

    fn spans(span: Span, count: usize) -> Vec<u8> {
        let data = TracesData {
            resource_spans: vec![ResourceSpans {
                scope_spans: vec![ScopeSpans {
                    spans: vec![span; count],
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        data.encode_to_vec()
    }

    #[test]
    fn empty_spans_count_with_their_size_in_memory() {
        let encoded = spans(Span::default(), 1000);
        let needed =
            1000 * size_of::<Span>() + size_of::<ResourceSpans>() + size_of::<ScopeSpans>();
        assert!(encoded.len() < 2020);
        assert!(fits(Signal::Traces, &encoded, needed));
        assert!(!fits(Signal::Traces, &encoded, needed - 1));
        // The fields of another signal have no shape there.
        assert!(fits(Signal::Metrics, &encoded, needed));
    }

    #[test]
    fn values_in_values_count() {
        let value = AnyValue {
            value: Some(Any::ArrayValue(ArrayValue {
                values: vec![AnyValue::default(); 1000],
            })),
        };
        let span = Span {
            attributes: vec![KeyValue {
                value: Some(value),
                ..KeyValue::default()
            }],
            ..Span::default()
        };
        let encoded = spans(span, 1);
        assert!(!fits(
            Signal::Traces,
            &encoded,
            1000 * size_of::<AnyValue>()
        ));
        assert!(fits(
            Signal::Traces,
            &encoded,
            1010 * size_of::<AnyValue>() + 1000
        ));
    }

    #[test]
    fn what_is_malformed_ends_the_count() {
        for encoded in [&[0x0a, 0xff][..], &[0xff; 20], &[0x0a, 5, 1], &[7]] {
            assert!(fits(Signal::Logs, encoded, 0) || encoded.first() == Some(&0x0a));
        }
    }
}
