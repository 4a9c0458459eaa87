//! The records of an envelope, read one by one, so that a bad one loses itself alone.

use super::message::{Message, lower_camel_case, read_fields};
use crate::{
    lines::json::{JsonError, JsonResult, Kind, Mark, Reader},
    signal::Signal,
};
use opentelemetry_proto::tonic::{
    common::v1::InstrumentationScope, logs::v1::LogRecord, metrics::v1::Metric,
    resource::v1::Resource, trace::v1::Span,
};
use std::fmt;

/// The most values that one record, resource or scope may have. In memory a value takes up to two hundred
/// bytes, in a line two.
pub(crate) const VALUES_MAX: u32 = 1 << 19;
/// The most text that one record, resource or scope may have, in bytes: ids and bytes are longer in a line
/// than in the record, which has 16 MiB at most.
pub(crate) const TEXT_BYTES_MAX: usize = 32 << 20;

/// How the lists of an envelope are called, the present name first, then those of older versions.
struct Lists {
    resources: &'static str,
    scopes: [&'static str; 2],
    records: &'static [&'static str],
}

/// How the scope is called, and was.
const SCOPE: [&str; 2] = ["scope", "instrumentationLibrary"];

const fn lists(signal: Signal) -> Lists {
    match signal {
        Signal::Traces => Lists {
            resources: "resourceSpans",
            scopes: ["scopeSpans", "instrumentationLibrarySpans"],
            records: &["spans"],
        },
        Signal::Logs => Lists {
            resources: "resourceLogs",
            scopes: ["scopeLogs", "instrumentationLibraryLogs"],
            records: &["logRecords", "logs"],
        },
        Signal::Metrics => Lists {
            resources: "resourceMetrics",
            scopes: ["scopeMetrics", "instrumentationLibraryMetrics"],
            records: &["metrics"],
        },
    }
}

/// The signal whose envelope has the key.
pub(crate) fn signal_of_key(key: &str) -> Option<Signal> {
    // Most keys are those of logs.
    if !key.starts_with("resource") {
        return None;
    }
    let camel = lower_camel_case(key);
    let key = camel.as_deref().unwrap_or(key);
    Signal::ALL
        .into_iter()
        .find(|signal| lists(*signal).resources == key)
}

/// Where records come from.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) resource: Option<Resource>,
    pub(crate) resource_schema_url: String,
    pub(crate) scope: Option<InstrumentationScope>,
    pub(crate) scope_schema_url: String,
}

/// A record as the envelope has it.
pub(crate) enum OtlpRecord {
    Log(Box<LogRecord>),
    Metric(Metric),
    Span(Box<Span>),
}

/// Where a record stands in its envelope, such as `resourceSpans[0].scopeSpans[2].spans[1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    keys: [&'static str; 3],
    indexes: [usize; 3],
}

impl Place {
    /// An error about the record's resource, about its scope or about the record, which are one, two
    /// and three steps inside.
    pub(crate) fn locate(&self, steps: usize, error: JsonError) -> JsonError {
        let path = self.keys.iter().zip(self.indexes).take(steps);
        path.rev().fold(error, |error, (key, index)| {
            error.under_index(index).under_key(key)
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, (key, index)) in self.keys.iter().zip(self.indexes).enumerate() {
            let dot = if step == 0 { "" } else { "." };
            write!(f, "{dot}{key}[{index}]")?;
        }
        Ok(())
    }
}

/// What was found in an envelope.
pub(crate) enum Found<'a> {
    Record(&'a Origin, OtlpRecord, Place),
    /// The records of a scope are over.
    ScopeEnd(&'a Origin),
    /// What could not be read, and how many records are lost with it.
    Problem(JsonError, u64),
}

/// Reads the list under the key of an envelope, which is valid JSON. Returns how many records it
/// has, good and bad.
pub(crate) fn read_envelope(
    reader: &mut Reader<'_>,
    signal: Signal,
    found: &mut dyn FnMut(Found<'_>),
) -> JsonResult<u64> {
    let lists = lists(signal);
    let mut envelope = Envelope {
        signal,
        place: Place {
            // The names of the lists inside come with them.
            keys: [lists.resources, "", ""],
            indexes: [0; 3],
        },
        lists,
        records: 0,
        lost: None,
        found,
    };
    envelope.each(reader, 0, Envelope::resource)?;
    Ok(envelope.records)
}

struct Envelope<'f> {
    signal: Signal,
    lists: Lists,
    place: Place,
    records: u64,
    /// While a resource or scope is read that is itself lost: how many records are lost with it.
    lost: Option<u64>,
    found: &'f mut dyn FnMut(Found<'_>),
}

impl Envelope<'_> {
    /// Reads a list of objects; anything else is a problem, but for the absence of a list.
    fn each(
        &mut self,
        reader: &mut Reader<'_>,
        step: usize,
        mut read: impl FnMut(&mut Self, &mut Reader<'_>) -> JsonResult<()>,
    ) -> JsonResult<()> {
        if reader.take_null()? {
            return Ok(());
        }
        if reader.peek()? != Kind::Array {
            let error = reader.wrong_kind("an array");
            let key = self.place.keys.get(step).copied().unwrap_or_default();
            let error = self.place.locate(step, error.under_key(key));
            self.problem(error, 1);
            return reader.skip_value();
        }
        reader.read_array(|reader, index| {
            if let Some(at) = self.place.indexes.get_mut(step) {
                *at = index;
            }
            if reader.peek()? == Kind::Object {
                return read(self, reader);
            }
            let error = reader.wrong_kind("an object");
            let error = self.place.locate(step + 1, error);
            self.records += u64::from(step == 2);
            self.problem(error, 1);
            reader.skip_value()
        })
    }

    fn problem(&mut self, error: JsonError, records: u64) {
        match &mut self.lost {
            Some(lost) => *lost += records,
            None => (self.found)(Found::Problem(error, records)),
        }
    }

    fn resource(&mut self, reader: &mut Reader<'_>) -> JsonResult<()> {
        let mut parts = Parts::find(reader, &[], &self.lists.scopes)?;
        let mut origin = Origin::default();
        let error = parts
            .read("resource", reader, &mut origin.resource)
            .and_then(|()| parts.read_url(reader, &mut origin.resource_schema_url));
        self.with_parts(reader, &parts, 0, error.err(), |envelope, reader| {
            envelope.each(reader, 1, |envelope, reader| {
                envelope.scope(reader, &mut origin)
            })
        })
    }

    fn scope(&mut self, reader: &mut Reader<'_>, origin: &mut Origin) -> JsonResult<()> {
        let mut parts = Parts::find(reader, &SCOPE, self.lists.records)?;
        (origin.scope, origin.scope_schema_url) = (None, String::new());
        let key = parts.origin_key;
        let error = parts
            .read(key, reader, &mut origin.scope)
            .and_then(|()| parts.read_url(reader, &mut origin.scope_schema_url));
        self.with_parts(reader, &parts, 1, error.err(), |envelope, reader| {
            envelope.each(reader, 2, |envelope, reader| {
                envelope.record(reader, origin)
            })
        })?;
        if self.lost.is_none() {
            (self.found)(Found::ScopeEnd(origin));
        }
        Ok(())
    }

    /// Reads the list inside a resource or a scope. When `error` says that this itself cannot be
    /// read, what the list holds is lost with it.
    fn with_parts(
        &mut self,
        reader: &mut Reader<'_>,
        parts: &Parts,
        step: usize,
        error: Option<JsonError>,
        read: impl FnOnce(&mut Self, &mut Reader<'_>) -> JsonResult<()>,
    ) -> JsonResult<()> {
        let outer = self.lost;
        if error.is_some() {
            self.lost = Some(0);
        }
        if let Some((mark, key)) = parts.list {
            if let Some(at) = self.place.keys.get_mut(step + 1) {
                *at = key;
            }
            reader.go_to(mark);
            read(self, reader)?;
        }
        reader.go_to(parts.end);
        if let Some(error) = error {
            let lost = std::mem::replace(&mut self.lost, outer).unwrap_or_default();
            let error = self.place.locate(step + 1, error);
            self.problem(error, lost.max(1));
        }
        Ok(())
    }

    fn record(&mut self, reader: &mut Reader<'_>, origin: &Origin) -> JsonResult<()> {
        self.records += 1;
        if let Some(lost) = &mut self.lost {
            *lost += 1;
            return reader.skip_value();
        }
        let record = match self.signal {
            Signal::Logs => attempt(reader)?.map(|log| OtlpRecord::Log(Box::new(log))),
            Signal::Metrics => attempt(reader)?.map(OtlpRecord::Metric),
            Signal::Traces => attempt(reader)?.map(|span| OtlpRecord::Span(Box::new(span))),
        };
        match record {
            Ok(record) => (self.found)(Found::Record(origin, record, self.place)),
            Err(error) => self.problem(self.place.locate(3, error), 1),
        }
        Ok(())
    }
}

/// Reads a message; one that cannot be read is passed over.
fn attempt<M: Message>(reader: &mut Reader<'_>) -> JsonResult<JsonResult<M>> {
    let start = reader.mark();
    reader.allow(VALUES_MAX, TEXT_BYTES_MAX);
    let message = read_fields(reader);
    reader.allow_all();
    if message.is_err() {
        reader.go_to(start);
        reader.skip_value()?;
    }
    Ok(message)
}

/// Where the parts of a resource's or a scope's object stand: the list in it can come before what
/// all of the list have in common.
#[derive(Default)]
struct Parts {
    origin: Option<Mark>,
    origin_key: &'static str,
    url: Option<Mark>,
    /// A part that stands there twice.
    twice: Option<JsonError>,
    list: Option<(Mark, &'static str)>,
    end: Mark,
}

impl Parts {
    /// Finds them in the object that comes next. `origins` and `lists` are names that stand for the
    /// same, a later one for what counts only if the earlier one is not there.
    fn find(
        reader: &mut Reader<'_>,
        origins: &[&'static str],
        lists: &[&'static str],
    ) -> JsonResult<Parts> {
        let origins = if origins.is_empty() {
            &["resource"]
        } else {
            origins
        };
        let mut parts = Parts {
            origin_key: origins.first().copied().unwrap_or_default(),
            ..Parts::default()
        };
        let mut found_lists: Vec<Option<Mark>> = vec![None; lists.len()];
        let mut found_origins: Vec<Option<Mark>> = vec![None; origins.len()];
        reader.read_object(|reader, key| {
            let camel = lower_camel_case(&key);
            let key = camel.as_deref().unwrap_or(&key);
            let offset = reader.offset();
            let mark = reader.mark();
            let is_set = is_set(reader)?;
            let slot = |names: &[&str]| names.iter().position(|name| *name == key);
            let slot = if let Some(index) = slot(origins) {
                found_origins.get_mut(index)
            } else if let Some(index) = slot(lists) {
                found_lists.get_mut(index)
            } else if key == "schemaUrl" {
                Some(&mut parts.url)
            } else {
                None
            };
            match slot {
                Some(slot @ None) if is_set => *slot = Some(mark),
                Some(Some(_)) => {
                    let error = Reader::refuse(offset, super::error::OtlpReason::FieldGivenTwice);
                    parts.twice = Some(error.under_key(key));
                }
                _ => {}
            }
            Ok(())
        })?;
        parts.end = reader.mark();
        let first = |found: Vec<Option<Mark>>, names: &[&'static str]| {
            found
                .into_iter()
                .zip(names)
                .find_map(|(mark, name)| Some((mark?, *name)))
        };
        if let Some((mark, key)) = first(found_origins, origins) {
            (parts.origin, parts.origin_key) = (Some(mark), key);
        }
        parts.list = first(found_lists, lists);
        Ok(parts)
    }

    /// Reads what all of the list have in common.
    fn read<M: Message>(
        &mut self,
        key: &str,
        reader: &mut Reader<'_>,
        into: &mut Option<M>,
    ) -> JsonResult<()> {
        if let Some(error) = self.twice.take() {
            return Err(error);
        }
        if let Some(mark) = self.origin {
            reader.go_to(mark);
            *into = Some(attempt(reader)?.map_err(|error| error.under_key(key))?);
        }
        Ok(())
    }

    fn read_url(&self, reader: &mut Reader<'_>, into: &mut String) -> JsonResult<()> {
        if let Some(mark) = self.url {
            reader.go_to(mark);
            let url = reader.read_string();
            *into = url
                .map_err(|error| error.under_key("schemaUrl"))?
                .into_owned();
        }
        Ok(())
    }
}

/// Passes over a value, and says whether it is more than a field's absence.
fn is_set(reader: &mut Reader<'_>) -> JsonResult<bool> {
    let start = reader.mark();
    reader.skip_value()?;
    let text = reader.since(start).trim();
    let is_empty_list = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|items| items.trim().is_empty());
    Ok(text != "null" && !is_empty_list)
}
