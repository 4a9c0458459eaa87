//! Selecting the records of a block that can match a filter, from the columns that it is about.
//!
//! The selection leaves no matching record out and may have others in, so each selected record is
//! still decided by the filter itself. The distinct texts of a dictionary are searched once each.

use super::{
    bits::Bits,
    columns::{HexTest, Matching},
    messagepack,
    places::{ANY_BOOL, ANY_DOUBLE, ANY_INT, Entry, Place, Places},
    protobuf,
    shapes::{ColumnKind, Part, Shaped},
};
use crate::{
    filter::{Condition, FieldCondition, Filter, any_at, any_string, below, enumeration},
    otlp::{attributes::value_of, id::encode_hex},
    record::{Level, Value, messagepack::Reader, payload::read_value},
    signal::Signal,
};
use hashbrown::HashMap;
use opentelemetry_proto::tonic::{common::v1::AnyValue, trace::v1::status::StatusCode};
use prost::{Message as _, encoding::encode_varint};

/// Some of a block's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    All,
    Some(Bits),
}

/// A value of a column.
enum Found<'v> {
    Text(&'v str),
    /// An id of a span.
    Id(&'v [u8]),
    Value(&'v Value),
}

/// A column: what it holds, and its index among those that hold the same.
type ColumnId = (ColumnKind, usize);

/// The records of a block, with what their columns hold.
pub(super) struct Selector<'a, 's> {
    signal: Signal,
    shaped: &'s Shaped<'a>,
    /// The places of each shape. Records of a shape without are always selected.
    places: Vec<Option<Places>>,
}

/// The places of a shape of a signal's records; `None` when they are not known.
pub(super) fn places_of(
    signal: Signal,
    literals: &[u8],
    parts: &mut dyn Iterator<Item = (Part, usize)>,
) -> Option<Places> {
    match signal {
        Signal::Logs => messagepack::places(literals, parts),
        Signal::Metrics => None,
        Signal::Traces => protobuf::places(literals, parts),
    }
}

impl<'a, 's> Selector<'a, 's> {
    pub(super) fn new(signal: Signal, shaped: &'s Shaped<'a>) -> Selector<'a, 's> {
        let places = shaped.shapes.iter().map(|shape| {
            let mut parts = shape.parts.iter().map(|it| (it.part, it.literals_end));
            places_of(signal, shape.literals, &mut parts)
        });
        Selector {
            signal,
            places: places.collect(),
            shaped,
        }
    }

    /// The records that can match; `None` when a column is damaged.
    pub(super) fn select(&self, filter: &Filter) -> Option<Selection> {
        self.decide(filter, false)
    }

    /// The records that can match `filter`, or its negation.
    fn decide(&self, filter: &Filter, is_negated: bool) -> Option<Selection> {
        match filter.condition() {
            Condition::Not(filter) => self.decide(filter, !is_negated),
            Condition::All(filters) if is_negated => self.unite(filters, true),
            Condition::Any(filters) if !is_negated => self.unite(filters, false),
            Condition::All(filters) | Condition::Any(filters) => {
                self.intersect(filters, is_negated)
            }
            Condition::Level { min, max } if self.signal == Signal::Logs => {
                self.numbers([&Place::Level], |[level]| {
                    let level = i32::try_from(level.cast_signed());
                    level.is_ok_and(|level| (min.0..=max.0).contains(&level)) != is_negated
                })
            }
            Condition::Level { min, max } => self.numbers([&Place::Status], |[status]| {
                (*min..=*max).contains(&level_of_status(status)) != is_negated
            }),
            Condition::Kind(_) | Condition::Status(_) | Condition::Duration { .. }
                if self.signal != Signal::Traces =>
            {
                Some(if is_negated {
                    Selection::All
                } else {
                    Selection::Some(self.nothing())
                })
            }
            Condition::Kind(kind) => self.numbers([&Place::Kind], |[found]| {
                (enumeration(found) == *kind) != is_negated
            }),
            Condition::Status(status) => self.numbers([&Place::Status], |[found]| {
                (enumeration(found) == *status) != is_negated
            }),
            Condition::Duration { min, max } => {
                self.numbers([&Place::Start, &Place::End], |[start, end]| {
                    let nanos = end.saturating_sub(start);
                    let is_known = start != 0 && end != 0;
                    (is_known && (*min..=*max).contains(&nanos)) != is_negated
                })
            }
            // That one text does not match says nothing about the other texts of a record.
            _ if is_negated => Some(Selection::All),
            Condition::Id(id) => {
                let hex = if id.is_whole() {
                    HexTest::Equals(&id.digits)
                } else {
                    HexTest::Each
                };
                let wants = |place: &Place| match place {
                    Place::Id(kind) => *kind == id.kind,
                    Place::Entry(entry) => {
                        entry.is_top && id.kind.key() == Some(entry.path.as_str())
                    }
                    _ => false,
                };
                self.values(wants, |_| false, hex, &mut |_, found| match found {
                    Found::Text(text) => id.is_in(text),
                    Found::Id(bytes) => {
                        let mut digits = Vec::with_capacity(bytes.len() * 2);
                        encode_hex(bytes, &mut digits);
                        std::str::from_utf8(&digits).is_ok_and(|digits| id.is_in(digits))
                    }
                    Found::Value(_) => false,
                })
            }
            Condition::Text(pattern) => {
                let is_hex = |byte: u8| byte.is_ascii_hexdigit();
                let mut fragments = pattern.fragments().iter();
                let hex = if fragments.all(|fragment| fragment.bytes().all(is_hex)) {
                    HexTest::Each
                } else {
                    HexTest::Never
                };
                let wants = |place: &Place| {
                    matches!(place, Place::Message | Place::Text { .. } | Place::Entry(_))
                };
                // The name of a span without one is empty.
                let of_all = self.signal == Signal::Traces && pattern.is_match("");
                self.values(wants, |_| of_all, hex, &mut |_, found| match found {
                    Found::Text(text) => pattern.is_match(text),
                    Found::Id(_) => false,
                    Found::Value(value) => any_string(value, &mut |text| pattern.is_match(text)),
                })
            }
            Condition::Name(pattern) => self.values(
                |place| matches!(place, Place::Text { is_name: true }),
                // The name of a span without one is empty.
                |_| pattern.is_match(""),
                HexTest::Each,
                &mut |_, found| match found {
                    Found::Text(text) => pattern.is_match(text),
                    Found::Id(_) | Found::Value(_) => false,
                },
            ),
            Condition::Field(field) => self.field(field),
        }
    }

    fn field(&self, field: &FieldCondition) -> Option<Selection> {
        let FieldCondition { path, test } = field;
        let is_null_accepted = test.accepts(&Value::Null);
        let is_object_accepted = test.accepts(&Value::Object(Vec::new()));
        self.values(
            |place| match place {
                Place::Entry(entry) => below(path, &entry.path).is_some(),
                _ => false,
            },
            |places| {
                is_null_accepted && places.nulls.contains(path)
                    || is_object_accepted && places.objects.contains(path)
            },
            HexTest::Each,
            &mut |place, found| {
                let Place::Entry(entry) = place else {
                    return false;
                };
                let rest = below(path, &entry.path).unwrap_or_default();
                match found {
                    Found::Text(text) => {
                        rest.is_empty() && test.accepts(&Value::String(text.to_owned()))
                    }
                    Found::Id(_) => false,
                    Found::Value(value) => any_at(value, rest, &mut |value| test.accepts(value)),
                }
            },
        )
    }

    fn unite(&self, filters: &[Filter], is_negated: bool) -> Option<Selection> {
        let mut united = self.nothing();
        for filter in filters {
            match self.decide(filter, is_negated)? {
                Selection::All => return Some(Selection::All),
                Selection::Some(found) => united.unite(&found),
            }
        }
        Some(Selection::Some(united))
    }

    fn intersect(&self, filters: &[Filter], is_negated: bool) -> Option<Selection> {
        let mut left = Selection::All;
        for filter in filters {
            left = match (left, self.decide(filter, is_negated)?) {
                (left, Selection::All) => left,
                (Selection::All, found) => found,
                (Selection::Some(mut left), Selection::Some(found)) => {
                    left.intersect(&found);
                    Selection::Some(left)
                }
            };
            if matches!(&left, Selection::Some(left) if left.is_empty()) {
                break;
            }
        }
        Some(left)
    }

    fn nothing(&self) -> Bits {
        Bits::new(self.shaped.shape_of_record.len())
    }

    /// The severity of each record; `None` when it is not known from columns alone.
    pub(super) fn levels(&self) -> Option<Vec<Level>> {
        if self.places.iter().any(Option::is_none) {
            return None;
        }
        let place = match self.signal {
            Signal::Logs => Place::Level,
            Signal::Metrics => return None,
            Signal::Traces => Place::Status,
        };
        let numbers = self.numbers_of_records([&place])?;
        let levels = numbers.into_iter().map(|[number]| match self.signal {
            Signal::Traces => Some(level_of_status(number)),
            _ => i32::try_from(number.cast_signed()).ok().map(Level),
        });
        levels.collect()
    }

    /// The records whose numbers at `wanted` pass. A number that a record does not have is 0.
    fn numbers<const N: usize>(
        &self,
        wanted: [&Place; N],
        test: impl Fn([u64; N]) -> bool,
    ) -> Option<Selection> {
        let numbers = self.numbers_of_records(wanted)?;
        let mut found = self.nothing();
        for ((record, numbers), shape) in numbers.iter().enumerate().zip(self.shapes_of_records()) {
            if self.places.get(shape)?.is_none() || test(*numbers) {
                found.insert(record);
            }
        }
        Some(Selection::Some(found))
    }

    /// The numbers of each record at `wanted`.
    fn numbers_of_records<const N: usize>(&self, wanted: [&Place; N]) -> Option<Vec<[u64; N]>> {
        let mut columns = HashMap::new();
        for (places, shape) in self.places.iter().zip(&self.shaped.shapes) {
            for (place, part) in places.iter().flat_map(|it| &it.leaves).zip(shape.leaves()) {
                if let Some(number) = wanted.iter().position(|wanted| *wanted == place) {
                    columns.insert(part.column_id()?, number);
                }
            }
        }
        let mut numbers = vec![[0; N]; self.shaped.shape_of_record.len()];
        self.visit(&columns, &mut |record, number, (_, column), at| {
            let value = *self.shaped.ints.get(column)?.values()?.get(at)?;
            *numbers.get_mut(record)?.get_mut(*number)? = value;
            Some(())
        })?;
        Some(numbers)
    }

    /// The records of which `test` accepts a value at a place that `wants` accepts, and those of the
    /// shapes that `is_wanted` accepts.
    fn values(
        &self,
        wants: impl Fn(&Place) -> bool,
        is_wanted: impl Fn(&Places) -> bool,
        hex: HexTest<'_>,
        test: &mut dyn FnMut(&Place, Found<'_>) -> bool,
    ) -> Option<Selection> {
        let mut columns: HashMap<ColumnId, Matching> = HashMap::new();
        let mut wanted_shapes = Bits::new(self.shaped.shapes.len());
        for (index, (places, shape)) in self.places.iter().zip(&self.shaped.shapes).enumerate() {
            let Some(places) = places else {
                wanted_shapes.insert(index);
                continue;
            };
            if is_wanted(places) {
                wanted_shapes.insert(index);
            }
            for (place, part) in places.leaves.iter().zip(shape.leaves()) {
                let column = part.column_id()?;
                if wants(place) && !columns.contains_key(&column) {
                    let matching = self.search(column, part.part, place, hex, test)?;
                    columns.insert(column, matching);
                }
            }
        }
        columns.retain(|_, matching| *matching != Matching::None);
        let mut found = self.nothing();
        if columns.is_empty() && wanted_shapes.is_empty() {
            return Some(Selection::Some(found));
        }
        for (record, shape) in self.shapes_of_records().enumerate() {
            if wanted_shapes.contains(shape) {
                found.insert(record);
            }
        }
        self.visit(&columns, &mut |record, matching, _, at| {
            let is_match = match matching {
                Matching::None => false,
                Matching::All => true,
                Matching::Some(values) => values.contains(at),
            };
            if is_match {
                found.insert(record);
            }
            Some(())
        })?;
        Some(Selection::Some(found))
    }

    /// Tests each distinct value of a column.
    fn search(
        &self,
        (kind, column): ColumnId,
        part: Part,
        place: &Place,
        hex: HexTest<'_>,
        test: &mut dyn FnMut(&Place, Found<'_>) -> bool,
    ) -> Option<Matching> {
        match kind {
            ColumnKind::Ints => {
                let Place::Entry(entry) = place else {
                    return Some(Matching::None);
                };
                self.shaped.ints.get(column)?.matching(&mut |value| {
                    // A value that is not known can be any.
                    number(part, entry, value).is_none_or(|value| test(place, Found::Value(&value)))
                })
            }
            ColumnKind::Bytes => {
                let column = self.shaped.strings.get(column)?;
                column.matching(hex, &mut |bytes| match place {
                    Place::Id(_) => test(place, Found::Id(bytes)),
                    Place::Entry(entry) if !entry.is_text(part) => {
                        value(entry, bytes).is_none_or(|value| test(place, Found::Value(&value)))
                    }
                    // What is not UTF-8 is a match, as for the filter itself.
                    _ => std::str::from_utf8(bytes)
                        .map_or(true, |text| test(place, Found::Text(text))),
                })
            }
        }
    }

    fn shapes_of_records(&self) -> impl Iterator<Item = usize> {
        let shapes = self.shaped.shape_of_record.iter();
        shapes.map(|shape| usize::from(*shape))
    }

    /// Calls `visit` for each value of `columns`, in the order of records: with the record, what
    /// `columns` has, the column and the index of the value in it.
    fn visit<T>(
        &self,
        columns: &HashMap<ColumnId, T>,
        visit: &mut dyn FnMut(usize, &T, ColumnId, usize) -> Option<()>,
    ) -> Option<()> {
        let parts_of_shapes: Vec<Vec<(usize, ColumnId, &T)>> = self
            .shaped
            .shapes
            .iter()
            .map(|shape| {
                let parts = shape.leaves();
                parts
                    .filter_map(|part| {
                        let column = part.column_id()?;
                        Some((part.slot, column, columns.get(&column)?))
                    })
                    .collect()
            })
            .collect();
        let mut next = self.shaped.starts.clone();
        for (record, shape) in self.shapes_of_records().enumerate() {
            for (slot, column, value) in parts_of_shapes.get(shape)? {
                let at = next.get_mut(*slot)?;
                visit(record, value, *column, *at)?;
                *at += 1;
            }
        }
        Some(())
    }
}

/// The severity of a span with this status code.
fn level_of_status(status: u64) -> Level {
    if enumeration(status) == StatusCode::Error as i32 {
        Level::ERROR
    } else {
        Level::INFO
    }
}

/// The value of an entry in a column of integers; `None` when it is of no known type.
pub(super) fn number(part: Part, entry: &Entry, value: u64) -> Option<Value> {
    Some(match (part, entry.tag) {
        (Part::Int, None) | (Part::Varint, Some(ANY_INT)) => Value::Int(value.cast_signed()),
        (Part::UInt, None) => Value::UInt(value),
        (Part::Float, None) | (Part::Fixed64, Some(ANY_DOUBLE)) => {
            Value::Float(f64::from_bits(value))
        }
        (Part::Bool, None) | (Part::Varint, Some(ANY_BOOL)) => Value::Bool(value != 0),
        _ => return None,
    })
}

/// The value of an entry whose bytes are not its text; `None` when it cannot be decoded.
pub(super) fn value(entry: &Entry, bytes: &[u8]) -> Option<Value> {
    let Some(tag) = entry.tag else {
        return read_value(&mut Reader::new(bytes), 1).ok();
    };
    let mut message = Vec::with_capacity(bytes.len() + 12);
    encode_varint(tag, &mut message);
    encode_varint(bytes.len() as u64, &mut message);
    message.extend_from_slice(bytes);
    AnyValue::decode(message.as_slice()).ok().map(value_of)
}
