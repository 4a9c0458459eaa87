//! The tables of the exporter, each a list of columns that wait for their row group.

pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod traces;

use crate::{
    column::{Column, Flat, MapRow, Meaning, Numbers, RepeatedMap},
    text::{write_any, write_value},
    texts::Texts,
};
use gridctl_telemetry::{
    external::opentelemetry_proto::tonic::{
        common::v1::{InstrumentationScope, KeyValue, any_value},
        resource::v1::Resource,
    },
    query::ValueView,
};
use parquet::data_type::{Int32Type, Int64Type};
use std::collections::HashSet;

/// From this number of attributes on, repeated keys are found by a set.
const SET_FROM: usize = 24;

pub(crate) const SERVICE_NAME: &str = "service.name";
const SERVER_NAME: &str = "server.name";

/// A table whose rows wait.
pub(crate) trait Rows: Send {
    /// The columns in the order of the schema, with their names.
    fn columns(&self) -> Vec<(&'static str, &dyn Column)>;
    /// The same, to write them.
    fn columns_mut(&mut self) -> Vec<(&'static str, &mut dyn Column)>;
    /// The number of rows.
    fn len(&self) -> usize;

    fn bytes(&self) -> usize {
        self.columns()
            .iter()
            .map(|(_, column)| column.bytes())
            .sum()
    }
}

/// Implements [`Rows`] for a struct, its columns in the order of the schema.
macro_rules! rows {
    ($table:ty, $($counted:ident).+: $($name:literal => $($field:ident).+,)+) => {
        impl $crate::tables::Rows for $table {
            fn columns(&self) -> Vec<(&'static str, &dyn $crate::column::Column)> {
                vec![$(($name, &self.$($field).+)),+]
            }

            fn columns_mut(&mut self) -> Vec<(&'static str, &mut dyn $crate::column::Column)> {
                vec![$(($name, &mut self.$($field).+)),+]
            }

            fn len(&self) -> usize {
                self.$($counted).+.0.len()
            }
        }
    };
}
pub(crate) use rows;

/// A column of times.
pub(crate) type Times = Flat<Numbers<Int64Type>>;
/// A column of unsigned integers of 64 bits.
pub(crate) type Sizes = Flat<Numbers<Int64Type>>;
/// A column of small integers.
pub(crate) type Smalls = Flat<Numbers<Int32Type>>;

pub(crate) fn times() -> Times {
    Flat(Numbers::of(Meaning::Time))
}

pub(crate) fn sizes() -> Sizes {
    Flat(Numbers::of(Meaning::Unsigned(64)))
}

pub(crate) fn unsigned(bits: i8) -> Smalls {
    Flat(Numbers::of(Meaning::Unsigned(bits)))
}

/// The attributes that each resource has, by which the stores of many machines are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Keys and values, such as those of [`send::origin`](gridctl_telemetry::send::origin). A resource that has an
    /// attribute with the key keeps its own.
    pub attributes: Vec<(String, String)>,
}

impl Origin {
    fn add(&self, has: impl Fn(&str) -> bool, row: &mut impl MapRow) {
        for (key, value) in self.attributes.iter().filter(|(key, _)| !has(key)) {
            row.text(key, value);
        }
    }
}

/// The resource of a row, and the name of its service.
#[derive(Debug, Default)]
pub(crate) struct Service {
    pub(crate) name: Flat<Texts>,
    pub(crate) resource: RepeatedMap,
    /// The resources of servers, by the numbers of their names.
    of_servers: Vec<Option<u32>>,
}

impl Service {
    /// The resource of a server's own records, which says no more than its name.
    pub(crate) fn push_server(&mut self, server: &str, origin: &Origin) {
        let name = self.name.0.push(server).map(|name| name as usize);
        let known = name.and_then(|name| *self.of_servers.get(name)?);
        if let Some(known) = known {
            return self.resource.row_again(known);
        }
        let resource = self.resource.row(|row| {
            row.text(SERVICE_NAME, server);
            origin.add(|key| key == SERVICE_NAME, row);
        });
        if let Some(name) = name {
            if name >= self.of_servers.len() {
                self.of_servers.resize(name + 1, None);
            }
            if let Some(known) = self.of_servers.get_mut(name) {
                *known = resource;
            }
        }
    }

    /// The resource that a record came with. It also names the server, if the service has another name.
    pub(crate) fn push(&mut self, resource: Option<&Resource>, server: &str, origin: &Origin) {
        let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
        let of = |key: &str| attributes.iter().rev().find(|it| it.key == key);
        let service = of(SERVICE_NAME).and_then(|it| it.value.as_ref());
        self.name.0.push_with(|out| write_any(service, out));
        let is_server = matches!(
            service.and_then(|service| service.value.as_ref()),
            Some(any_value::Value::StringValue(name)) if name == server
        );
        self.resource.row(|row| {
            push_entries(attributes, row);
            if !is_server && of(SERVER_NAME).is_none() {
                row.text(SERVER_NAME, server);
            }
            origin.add(|key| of(key).is_some(), row);
        });
    }
}

/// The scope of a row.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) name: Flat<Texts>,
    pub(crate) version: Flat<Texts>,
}

impl Scope {
    pub(crate) fn push(&mut self, scope: Option<&InstrumentationScope>) {
        self.name.0.push(scope.map_or("", |scope| &scope.name));
        self.version
            .0
            .push(scope.map_or("", |scope| &scope.version));
    }
}

pub(crate) fn scope_attributes(scope: Option<&InstrumentationScope>) -> &[KeyValue] {
    scope.map_or(&[], |scope| &scope.attributes)
}

/// Adds attributes to a map. Of several with one key, the last one counts: the keys of a map are unique.
pub(crate) fn push_entries(attributes: &[KeyValue], row: &mut impl MapRow) {
    for_last_of_each(
        attributes,
        |it| &it.key,
        |it| {
            row.entry(&it.key, |out| write_any(it.value.as_ref(), out));
        },
    );
}

pub(crate) fn push_views(
    attributes: &[(&str, ValueView<'_>)],
    row: &mut impl MapRow,
    is_left_out: impl Fn(&str, &ValueView<'_>) -> bool,
) {
    for_last_of_each(
        attributes,
        |(key, _)| key,
        |(key, value)| {
            if !is_left_out(key, value) {
                row.entry(key, |out| match value {
                    ValueView::Text(text) => out.extend_from_slice(text.as_bytes()),
                    ValueView::Other(value) => write_value(value, out),
                });
            }
        },
    );
}

/// Calls `each` for the last entry of each key, in their order.
fn for_last_of_each<'a, T>(
    entries: &'a [T],
    key_of: impl Fn(&'a T) -> &'a str,
    mut each: impl FnMut(&'a T),
) {
    if entries.len() < SET_FROM {
        for (index, entry) in entries.iter().enumerate() {
            let later = entries.get(index + 1..).unwrap_or_default();
            if later.iter().all(|other| key_of(other) != key_of(entry)) {
                each(entry);
            }
        }
        return;
    }
    let mut seen = HashSet::with_capacity(entries.len());
    let mut last: Vec<&T> = entries
        .iter()
        .rev()
        .filter(|entry| seen.insert(key_of(entry)))
        .collect();
    last.reverse();
    last.into_iter().for_each(each);
}

/// A time of OTLP. One after 2262 is the last moment that the column holds.
pub(crate) fn nanos(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}
