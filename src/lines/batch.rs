//! Stored records as OTLP messages in protobuf.
//!
//! A batch can have thousands of records, and a message of prost takes many times the bytes that it is encoded
//! to. So each record is encoded at once, and what several records share, their resource and scope, is kept
//! once. The three signals number the fields of their messages alike, so one piece of code puts them together:
//!
//! ```text
//! ExportTraceServiceRequest { 1: [ResourceSpans { 1: resource, 2: [ScopeSpans { 1: scope, 2: [Span], 3: url }], 3: url }] }
//! ```

use super::{json::value_text, otlp_json::foreign_metric};
use crate::{
    error::{Error, Result},
    otlp::{MetricStreams, SERVICE_NAME, key_value, log_to_otlp, server_resource, string},
    platform,
    read::RawRecord,
    record::{LogRecord, MetricsSnapshot, SpanRecord, payload::PayloadError},
    signal::Signal,
};
use hashbrown::HashMap;
use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, resource::v1::Resource};
use prost::{
    Message,
    encoding::{
        WireType, encode_key, encode_varint, encoded_len_varint, key_len, message, string as text,
    },
};
use std::ops::Range;

/// The number of the field of a list, in each of the three messages that are nested: that of resources in a
/// request is 1, those of scopes in a resource and of records in a scope are 2.
const RESOURCES: u32 = 1;
const LIST: u32 = 2;
/// The number of the field of what a list has in common, and of its schema URL.
const SHARED: u32 = 1;
const SCHEMA_URL: u32 = 3;
/// The number of the field of attributes in a resource.
const ATTRIBUTES: u32 = 1;

/// Records of one signal as the message with which OTLP exports them (`ExportLogsServiceRequest`,
/// `ExportMetricsServiceRequest` or `ExportTraceServiceRequest`), in protobuf.
///
/// Records with the same resource and scope share them, in the order in which they were pushed. They read back
/// without loss, as those of [`LineFormat::Otlp`](crate::lines::LineFormat::Otlp).
///
/// ```
/// use gridctl_telemetry::{Query, Signal, send::OtlpBatch};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// # let store = gridctl_telemetry::Store::open(home, "my-stack", Default::default())?;
/// let mut batch = OtlpBatch::new(Signal::Logs).resource_default("host.name", "build-7");
/// let mut scan = store.snapshot()?.scan(&Query::new(Signal::Logs))?;
/// while let Some(record) = scan.next()? {
///     batch.push(&record)?;
/// }
/// let body = batch.encode(0..batch.len());
/// # assert!(body.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OtlpBatch {
    signal: Signal,
    /// Whether a resource that names no service gets the name of the record's server.
    names_servers: bool,
    /// Attributes of each resource that has none of their keys, and each as a field.
    defaults: Vec<(String, Vec<u8>)>,
    groups: Vec<Group>,
    /// The index of a group by what its records share.
    by_shared: HashMap<Vec<u8>, usize>,
    /// All records, each as a field of its scope.
    bytes: Vec<u8>,
    records: Vec<Placed>,
    streams: MetricStreams,
    /// What the record that is being pushed shares with others.
    shared: Vec<u8>,
}

/// What records have in common.
#[derive(Debug)]
struct Group {
    /// The fields of the resource and of its schema URL, in the list of resources.
    resource: Vec<u8>,
    /// The fields of the scope and of its schema URL, in the list of scopes.
    scope: Vec<u8>,
}

/// A record in the bytes of a batch.
#[derive(Debug, Clone, Copy)]
struct Placed {
    group: usize,
    end: usize,
}

/// What a record came with.
struct Origin<'a> {
    server: &'a str,
    resource: Option<&'a Resource>,
    resource_url: &'a str,
    scope: Option<&'a InstrumentationScope>,
    scope_url: &'a str,
}

/// The attributes of resources by which the stores of many machines stay apart where they come together:
/// `service.instance.id`, which is the identity of the database (16 hexadecimal digits), and `host.name`, if this
/// machine has a name.
#[must_use]
pub fn origin(database_id: u64) -> Vec<(String, String)> {
    let attributes = [
        ("service.instance.id", format!("{database_id:016x}")),
        ("host.name", platform::host_name()),
    ];
    let attributes = attributes
        .into_iter()
        .filter(|(_, value)| !value.is_empty());
    attributes
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

impl OtlpBatch {
    /// A batch without records.
    #[must_use]
    pub fn new(signal: Signal) -> OtlpBatch {
        OtlpBatch {
            signal,
            names_servers: false,
            defaults: Vec::new(),
            groups: Vec::new(),
            by_shared: HashMap::new(),
            bytes: Vec::new(),
            records: Vec::new(),
            streams: MetricStreams::default(),
            shared: Vec::new(),
        }
    }

    /// Adds an attribute to each resource that has none with this key.
    #[must_use]
    pub fn resource_default(mut self, key: &str, value: &str) -> OtlpBatch {
        let mut field = Vec::new();
        message::encode(ATTRIBUTES, &key_value(key, string(value)), &mut field);
        self.defaults.push((key.to_owned(), field));
        self
    }

    /// Adds the attribute `service.name` with the name of the record's server to each resource that has none. A
    /// receiver could not know the server otherwise: spans and metrics of other programs keep the resource that they
    /// came with.
    #[must_use]
    pub fn name_servers(mut self) -> OtlpBatch {
        self.names_servers = true;
        self
    }

    /// The signal of its records.
    #[must_use]
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The size of all records in the message, in bytes, without what they share.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a record. A server's metrics should come in the order of time, also from one batch to the next
    /// that [`OtlpBatch::clear`] begins.
    ///
    /// Fails with [`Error::InvalidRecord`] when the record is of another signal or was not written by this
    /// crate; the batch is then as it was.
    pub fn push(&mut self, record: &RawRecord<'_>) -> Result<()> {
        let failed = |reason: String| Error::InvalidRecord {
            signal: record.signal,
            reason,
        };
        if record.signal != self.signal {
            return Err(failed(format!("it is not one of {}", self.signal)));
        }
        self.push_payload(record)
            .map_err(|error| failed(error.to_string()))
    }

    /// Removes all records. The start times of counters are kept for the next ones.
    pub fn clear(&mut self) {
        self.groups.clear();
        self.by_shared.clear();
        self.bytes.clear();
        self.records.clear();
    }

    /// The message of some records, by their numbers in the order of [`OtlpBatch::push`].
    #[must_use]
    pub fn encode(&self, records: Range<usize>) -> Vec<u8> {
        let mut of_group: Vec<(usize, Vec<&[u8]>)> = vec![(0, Vec::new()); self.groups.len()];
        let mut begin = match records.start.checked_sub(1) {
            Some(before) => self.records.get(before).map_or(0, |record| record.end),
            None => 0,
        };
        for record in self.records.get(records).unwrap_or_default() {
            let bytes = self.bytes.get(begin..record.end).unwrap_or_default();
            begin = record.end;
            if let Some((length, pieces)) = of_group.get_mut(record.group) {
                *length += bytes.len();
                pieces.push(bytes);
            }
        }
        let mut message = Vec::new();
        for (group, (length, pieces)) in self.groups.iter().zip(of_group) {
            if pieces.is_empty() {
                continue;
            }
            let scope = group.scope.len() + length;
            let resource = group.resource.len() + field_len(LIST, scope);
            message.reserve(field_len(RESOURCES, resource));
            begin_field(RESOURCES, resource, &mut message);
            message.extend_from_slice(&group.resource);
            begin_field(LIST, scope, &mut message);
            message.extend_from_slice(&group.scope);
            for piece in pieces {
                message.extend_from_slice(piece);
            }
        }
        message
    }

    fn push_payload(&mut self, record: &RawRecord<'_>) -> Result<(), PayloadError> {
        let payload = &record.payload();
        match record.signal {
            Signal::Logs => {
                let log = LogRecord::decode_payload(record.timestamp, payload)?;
                let log = log_to_otlp(record.server, log, value_text);
                self.append(
                    &[log.record],
                    &Origin {
                        server: record.server,
                        resource: Some(&log.resource),
                        resource_url: "",
                        scope: log.scope.as_ref(),
                        scope_url: "",
                    },
                );
            }
            Signal::Metrics => {
                let snapshot = MetricsSnapshot::decode_payload(record.timestamp, payload)?;
                if let Some(mut kept) = foreign_metric(&snapshot) {
                    let mut scopes = std::mem::take(&mut kept.scope_metrics);
                    let metrics: Vec<_> = (scopes.iter_mut())
                        .flat_map(|scope| std::mem::take(&mut scope.metrics))
                        .collect();
                    let scope = scopes.first();
                    self.append(
                        &metrics,
                        &Origin {
                            server: record.server,
                            resource: kept.resource.as_ref(),
                            resource_url: &kept.schema_url,
                            scope: scope.and_then(|scope| scope.scope.as_ref()),
                            scope_url: scope.map_or("", |scope| &scope.schema_url),
                        },
                    );
                } else {
                    let metrics = self.streams.metrics_to_otlp(record.server, snapshot);
                    self.append(
                        &metrics,
                        &Origin {
                            server: record.server,
                            resource: Some(&server_resource(record.server)),
                            resource_url: "",
                            scope: None,
                            scope_url: "",
                        },
                    );
                }
            }
            Signal::Traces => {
                let mut kept = SpanRecord::decode_payload(payload)?;
                let span = std::mem::take(&mut kept.span);
                self.append(
                    &[span],
                    &Origin {
                        server: record.server,
                        resource: kept.resource.as_ref(),
                        resource_url: &kept.resource_schema_url,
                        scope: kept.scope.as_ref(),
                        scope_url: &kept.scope_schema_url,
                    },
                );
            }
        }
        Ok(())
    }

    /// Appends the messages of one record.
    fn append<M: Message>(&mut self, messages: &[M], origin: &Origin<'_>) {
        self.shared.clear();
        let resource_len = self.encode_resource(origin);
        if let Some(scope) = origin.scope {
            message::encode(SHARED, scope, &mut self.shared);
        }
        encode_url(origin.scope_url, &mut self.shared);
        let group = self.group(resource_len);
        for message in messages {
            message::encode(LIST, message, &mut self.bytes);
        }
        self.records.push(Placed {
            group,
            end: self.bytes.len(),
        });
    }

    /// Encodes the resource, with the defaults that it lacks. Returns the length of that.
    fn encode_resource(&mut self, origin: &Origin<'_>) -> usize {
        let lacks = |key: &str| {
            let attributes = origin
                .resource
                .map(|resource| resource.attributes.as_slice());
            (attributes.unwrap_or_default().iter()).all(|attribute| attribute.key != key)
        };
        let defaults = || self.defaults.iter().filter(|(key, _)| lacks(key));
        let mut named = Vec::new();
        if self.names_servers && lacks(SERVICE_NAME) {
            let name = key_value(SERVICE_NAME, string(origin.server));
            message::encode(ATTRIBUTES, &name, &mut named);
        }
        let more: usize = named.len() + defaults().map(|(_, field)| field.len()).sum::<usize>();
        if origin.resource.is_some() || more > 0 {
            let length = origin.resource.map_or(0, Message::encoded_len) + more;
            begin_field(SHARED, length, &mut self.shared);
            if let Some(resource) = origin.resource {
                resource.encode_raw(&mut self.shared);
            }
            self.shared.extend_from_slice(&named);
            for (_, field) in defaults() {
                self.shared.extend_from_slice(field);
            }
        }
        encode_url(origin.resource_url, &mut self.shared);
        self.shared.len()
    }

    /// The group whose records share the present resource, which has this length, and scope.
    fn group(&mut self, resource_len: usize) -> usize {
        if let Some(last) = self.records.last().map(|record| record.group)
            && let Some(group) = self.groups.get(last)
            && group.resource.len() == resource_len
            && self.shared.starts_with(&group.resource)
            && self.shared.get(resource_len..) == Some(&group.scope)
        {
            return last;
        }
        // The same bytes could be another resource and scope: the length tells them apart.
        let (resource, scope) = self
            .shared
            .split_at_checked(resource_len)
            .unwrap_or_default();
        let (resource, scope) = (resource.to_vec(), scope.to_vec());
        let mut key = self.shared.clone();
        key.extend_from_slice(&resource_len.to_le_bytes());
        let next = self.groups.len();
        let index = *self.by_shared.entry(key).or_insert(next);
        if index == next {
            self.groups.push(Group { resource, scope });
        }
        index
    }
}

fn encode_url(url: &str, out: &mut Vec<u8>) {
    if !url.is_empty() {
        text::encode(SCHEMA_URL, &url.to_owned(), out);
    }
}

fn begin_field(number: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

fn field_len(number: u32, length: usize) -> usize {
    key_len(number) + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        otlp::arbitrary,
        record::{Level, ServerName},
        time::Timestamp,
    };
    use opentelemetry_proto::tonic::{
        collector::{
            logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
            trace::v1::ExportTraceServiceRequest,
        },
        common::v1::KeyValue,
    };
    use proptest::{option, prelude::*};

    fn raw<'a>(server: &'a ServerName, signal: Signal, payload: &'a [u8]) -> RawRecord<'a> {
        RawRecord {
            server,
            signal,
            timestamp: Timestamp::from_unix_nanos(5),
            sequence: 0,
            content: crate::store::ReadRecord::Payload(payload),
        }
    }

    fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Vec<&'a KeyValue> {
        attributes.iter().filter(|it| it.key == key).collect()
    }

    proptest! {
        #[test]
        fn any_spans_come_back_from_any_part(
            records in proptest::collection::vec(
                (option::of(arbitrary::resource()), option::of(arbitrary::scope()), arbitrary::span()),
                0..12,
            ),
            cut in 0..13_usize,
        ) {
            let server = ServerName::new("github").unwrap();
            let mut batch = OtlpBatch::new(Signal::Traces);
            let mut all = Vec::new();
            for (resource, scope, span) in records {
                let mut payload = Vec::new();
                let record = SpanRecord::new(span).resource(resource, "").scope(scope, "url");
                // A span whose ids have a wrong length is not stored.
                if record.encode_payload(&mut payload).is_ok() {
                    batch.push(&raw(&server, Signal::Traces, &payload)).unwrap();
                    all.push(payload);
                }
            }
            let cut = cut.min(all.len());
            let mut found = Vec::new();
            for part in [0..cut, cut..all.len()] {
                let expected = part.len();
                let message = batch.encode(part);
                let request = ExportTraceServiceRequest::decode(&*message).unwrap();
                let before = found.len();
                for resource in request.resource_spans {
                    for scope in resource.scope_spans {
                        for span in scope.spans {
                            let one = SpanRecord::new(span)
                                .resource(resource.resource.clone(), resource.schema_url.clone())
                                .scope(scope.scope.clone(), scope.schema_url.clone());
                            let mut payload = Vec::new();
                            one.encode_payload(&mut payload).unwrap();
                            found.push(payload);
                        }
                    }
                }
                prop_assert_eq!(found.len() - before, expected);
            }
            found.sort_unstable();
            all.sort_unstable();
            prop_assert_eq!(found, all);
        }
    }

    #[test]
    fn records_share_their_resource_in_order_and_keep_attributes_of_their_own() {
        let mut batch = OtlpBatch::new(Signal::Logs)
            .resource_default("service.instance.id", "a1")
            .resource_default("service.name", "never");
        for (server, message) in [("github", "1"), ("slack", "2"), ("github", "3")] {
            let server = ServerName::new(server).unwrap();
            let mut payload = Vec::new();
            let log = LogRecord::new(Timestamp::from_unix_nanos(5), Level::default(), message);
            log.encode_payload(&mut payload).unwrap();
            batch.push(&raw(&server, Signal::Logs, &payload)).unwrap();
            let other = batch.push(&raw(&server, Signal::Traces, &payload));
            assert!(matches!(other, Err(Error::InvalidRecord { .. })));
        }
        let request = ExportLogsServiceRequest::decode(&*batch.encode(0..3)).unwrap();
        assert_eq!(request.resource_logs.len(), 2);
        let told: Vec<String> = (request.resource_logs.iter())
            .flat_map(|it| &it.scope_logs)
            .flat_map(|it| &it.log_records)
            .map(|log| format!("{:?}", log.body))
            .collect();
        for (text, expected) in told.iter().zip(["\"1\"", "\"3\"", "\"2\""]) {
            assert!(text.contains(expected), "{told:?}");
        }
        for resource in &request.resource_logs {
            let attributes = &resource.resource.as_ref().unwrap().attributes;
            assert_eq!(attribute(attributes, "service.instance.id").len(), 1);
            assert_eq!(attribute(attributes, "service.name").len(), 1);
        }
        batch.clear();
        assert!(batch.is_empty() && batch.encode(0..3).is_empty());
    }

    #[test]
    fn counters_keep_their_start_from_batch_to_batch() {
        let server = ServerName::new("github").unwrap();
        let mut batch = OtlpBatch::new(Signal::Metrics);
        let mut starts = Vec::new();
        for nanos in [10, 20] {
            let time = Timestamp::from_unix_nanos(nanos);
            let mut payload = Vec::new();
            MetricsSnapshot::new(time)
                .encode_payload(&mut payload)
                .unwrap();
            let record = RawRecord {
                timestamp: time,
                ..raw(&server, Signal::Metrics, &payload)
            };
            batch.clear();
            batch.push(&record).unwrap();
            let request = ExportMetricsServiceRequest::decode(&*batch.encode(0..1)).unwrap();
            let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
            let Some(opentelemetry_proto::tonic::metrics::v1::metric::Data::Sum(sum)) =
                &metric.data
            else {
                panic!("{metric:?}");
            };
            starts.push(sum.data_points[0].start_time_unix_nano);
        }
        assert_eq!(starts, [10, 10]);
    }
}
