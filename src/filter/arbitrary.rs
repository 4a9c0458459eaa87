//! Random filters for tests, about what given records say.

use super::{Filter, TextPattern};
use crate::{
    otlp::{attributes::value_of, id::encode_hex},
    record::{Level, Record, Value},
};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    trace::v1::{span::SpanKind, status::StatusCode},
};
use std::time::Duration;

/// Draws numbers that follow from a seed.
#[derive(Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let high = usize::try_from(self.0 >> 33).unwrap();
        high % bound.max(1)
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn chance(&mut self, in_hundred: usize) -> bool {
        self.below(100) < in_hundred
    }
}

/// What records say.
#[derive(Debug, Default)]
pub(crate) struct Said {
    levels: Vec<i32>,
    texts: Vec<String>,
    ids: Vec<String>,
    entries: Vec<(String, Value)>,
    durations: Vec<u64>,
}

impl Said {
    pub(crate) fn by(records: &[Record]) -> Said {
        let mut said = Said::default();
        said.texts.push("nothing says this".to_owned());
        said.ids.push("00".repeat(16));
        said.entries.push(("absent".to_owned(), Value::Int(1)));
        said.levels.push(0);
        said.durations.push(1);
        for record in records {
            match record {
                Record::Log(log) => {
                    said.levels.push(log.level.0);
                    said.texts.push(log.message.clone());
                    for (key, value) in &log.attributes {
                        said.add(key, value);
                    }
                }
                Record::Metrics(snapshot) => {
                    for (key, value) in &snapshot.extra {
                        said.add(key, value);
                    }
                }
                Record::Span(record) => {
                    let span = &record.span;
                    let nanos = span
                        .end_time_unix_nano
                        .saturating_sub(span.start_time_unix_nano);
                    said.durations.push(nanos);
                    said.texts.push(span.name.clone());
                    said.texts
                        .extend(span.status.iter().map(|it| it.message.clone()));
                    for id in [&span.trace_id, &span.span_id, &span.parent_span_id] {
                        let mut hex = Vec::new();
                        encode_hex(id, &mut hex);
                        said.ids.push(String::from_utf8(hex).unwrap());
                    }
                    let resource = record.resource.iter().flat_map(|it| &it.attributes);
                    let scope = record.scope.iter().flat_map(|it| &it.attributes);
                    let events = span.events.iter().flat_map(|it| &it.attributes);
                    let links = span.links.iter().flat_map(|it| &it.attributes);
                    said.texts
                        .extend(span.events.iter().map(|it| it.name.clone()));
                    let all = resource.chain(scope).chain(events).chain(links);
                    all.chain(&span.attributes)
                        .for_each(|it| said.add_attribute(it));
                }
            }
        }
        said
    }

    fn add_attribute(&mut self, attribute: &KeyValue) {
        let value = attribute.value.clone().map_or(Value::Null, value_of);
        self.add(&attribute.key, &value);
    }

    fn add(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    self.add(&format!("{path}.{key}"), value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(path, item)),
            Value::String(text) => {
                self.texts.push(text.clone());
                if !text.is_empty() && text.bytes().all(|it| it.is_ascii_hexdigit()) {
                    self.ids.push(text.clone());
                }
            }
            _ => {}
        }
        self.entries.push((path.to_owned(), value.clone()));
    }

    /// A filter of conditions that are nested at most `depth` deep.
    pub(crate) fn filter(&self, draw: &mut Draw, depth: usize) -> Filter {
        if depth > 0 && draw.chance(40) {
            let count = draw.below(4);
            let parts: Vec<Filter> = (0..count).map(|_| self.filter(draw, depth - 1)).collect();
            return match draw.below(3) {
                0 => Filter::all(parts),
                1 => Filter::any(parts),
                _ => !self.filter(draw, depth - 1),
            };
        }
        match draw.below(12) {
            0 => Filter::level_at_least(Level(*draw.pick(&self.levels))),
            1 => Filter::level_at_most(Level(*draw.pick(&self.levels))),
            2 | 3 => self.id(draw),
            4 | 5 => Filter::text(self.pattern(draw)),
            6 => Filter::name(self.pattern(draw)),
            7 => match draw.below(2) {
                0 => Filter::kind(*draw.pick(&[SpanKind::Unspecified, SpanKind::Client])),
                _ => Filter::status(*draw.pick(&[
                    StatusCode::Unset,
                    StatusCode::Ok,
                    StatusCode::Error,
                ])),
            },
            8 => {
                let [a, b] = [0, 1].map(|_| Duration::from_nanos(*draw.pick(&self.durations)));
                match draw.below(3) {
                    0 => Filter::duration(a..),
                    1 => Filter::duration(..=a),
                    _ => Filter::duration(a.min(b)..a.max(b)),
                }
            }
            _ => self.field(draw),
        }
    }

    fn id(&self, draw: &mut Draw) -> Filter {
        let mut id = draw.pick(&self.ids).clone();
        if draw.chance(30) {
            let start = draw.below(id.len());
            id = id
                .get(start..start + 1 + draw.below(9))
                .unwrap_or("ab")
                .to_owned();
        }
        let made = match draw.below(3) {
            0 => Filter::span_id(&id),
            1 => Filter::parent_span_id(&id),
            _ => Filter::trace_id(&id),
        };
        made.unwrap_or_else(|_| Filter::trace_id("0f").unwrap())
    }

    fn pattern(&self, draw: &mut Draw) -> TextPattern {
        let text = draw.pick(&self.texts);
        let chars: Vec<char> = text.chars().collect();
        let start = draw.below(chars.len());
        let length = 1 + draw.below(12);
        let mut part: String = chars.iter().skip(start).take(length).collect();
        if draw.chance(20) {
            part = part.to_uppercase();
        }
        let pattern = match draw.below(4) {
            0 => TextPattern::words(&part),
            1 => {
                let letters: Vec<char> = part.chars().filter(|it| it.is_alphanumeric()).collect();
                let (front, back) = letters.split_at(draw.below(letters.len()));
                let pattern: String = front.iter().chain(&['.', '?']).chain(back).collect();
                TextPattern::regex(&pattern)
            }
            _ => TextPattern::substring(&part),
        };
        let pattern = pattern.unwrap();
        if draw.chance(20) {
            pattern.case_sensitive().unwrap()
        } else {
            pattern
        }
    }

    fn field(&self, draw: &mut Draw) -> Filter {
        let (path, value) = draw.pick(&self.entries);
        let (_, other) = draw.pick(&self.entries);
        let value = if draw.chance(75) { value } else { other };
        let text = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::UInt(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Number(text) => text.to_string(),
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Object(_) => "x".to_owned(),
        };
        let operator = *draw.pick(&["=", "=", "=", "!=", ">", ">=", "<", "<=", "", "!"]);
        let expression = match operator {
            "" => path.clone(),
            "!" => format!("!{path}"),
            _ => format!("{path}{operator}{text}"),
        };
        // Keys and texts can hold operators, and numbers be none.
        Filter::field(&expression).unwrap_or_else(|_| Filter::field("a").unwrap())
    }
}
