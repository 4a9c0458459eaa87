//! Columns come back from pages and dictionaries of any size.

use crate::{
    column::{Flat, List, Map, MapList, MapRow, Meaning, Numbers, RepeatedMap},
    file::Writer,
    tables::{Rows, Times, rows, times},
    texts::{Kind, Texts},
};
use bytes::Bytes;
use parquet::{
    data_type::Int64Type,
    file::{
        properties::ReaderProperties,
        reader::{FileReader, SerializedFileReader},
        serialized_reader::ReadOptionsBuilder,
        statistics::Statistics,
    },
    record::Field,
};
use proptest::{collection::vec, prelude::*};

/// Each kind of column.
#[derive(Debug)]
struct Sample {
    times: Times,
    key: Flat<Texts>,
    text: Flat<Texts>,
    list: List<Texts>,
    ids: List<Texts>,
    numbers: List<Numbers<Int64Type>>,
    map: Map,
    repeated: RepeatedMap,
    maps: MapList,
}

rows! { Sample, times:
    "Times" => times,
    "Key" => key,
    "Text" => text,
    "List" => list,
    "Ids" => ids,
    "Numbers" => numbers,
    "Map" => map,
    "Repeated" => repeated,
    "Maps" => maps,
}

type Entries = Vec<(String, String)>;

#[derive(Debug, Clone)]
struct Row {
    text: String,
    list: Vec<String>,
    map: Entries,
    maps: Vec<Entries>,
}

/// Texts of which some are the same, and some are long.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..4).prop_map(|number| format!("often {number}")),
        1 => Just(String::new()),
        2 => (0..400).prop_map(|number| format!("rare {number}")),
        1 => (0_usize..1500).prop_map(|length| "é".repeat(length)),
    ]
}

fn any_map() -> impl Strategy<Value = Entries> {
    vec((any_text(), any_text()), 0..4)
}

fn any_row() -> impl Strategy<Value = Row> {
    let maps = vec(any_map(), 0..3);
    (any_text(), vec(any_text(), 0..4), any_map(), maps).prop_map(|(text, list, map, maps)| Row {
        text,
        list,
        map,
        maps,
    })
}

/// Every third map is that of the row before.
fn repeated_map(rows: &[Row], at: usize) -> &Entries {
    &rows[at - usize::from(at % 3 == 1)].map
}

fn sample(rows: &[Row]) -> Sample {
    let mut sample = Sample {
        times: times(),
        key: Flat(Texts::of(Kind::Key)),
        text: Flat::default(),
        list: List::of(Texts::default()),
        ids: List::of(Texts::of(Kind::Ids)),
        numbers: List::of(Numbers::of(Meaning::Unsigned(64))),
        map: Map::default(),
        repeated: RepeatedMap::default(),
        maps: MapList::default(),
    };
    let fill = |row: &mut dyn FnMut(&str, &str), map: &Entries| {
        for (key, value) in map {
            row(key, value);
        }
    };
    let mut repeated = None;
    for (at, row) in rows.iter().enumerate() {
        sample.times.0.push(i64::try_from(at).unwrap());
        sample.key.0.push(&row.text);
        sample.text.0.push(&row.text);
        sample.list.row(&row.list, |list, text| list.push(text));
        sample.ids.row(&row.list, |list, text| {
            list.push_with(|out| out.extend_from_slice(text.as_bytes()));
        });
        sample.numbers.row(&row.list, |list, text| {
            list.push(i64::try_from(text.len()).unwrap());
        });
        sample
            .map
            .row(|out| fill(&mut |key, value| out.text(key, value), &row.map));
        let map = repeated_map(rows, at);
        match (at % 3, repeated) {
            (1, Some(number)) => sample.repeated.row_again(number),
            _ => {
                repeated = sample
                    .repeated
                    .row(|out| fill(&mut |key, value| out.text(key, value), map));
            }
        }
        sample.maps.row(&row.maps, |out, map| {
            fill(&mut |key, value| out.text(key, value), map);
        });
    }
    sample
}

fn text(text: &str) -> String {
    format!("{text:?}")
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(","))
}

fn map(entries: &Entries) -> String {
    list(entries, |(key, value)| format!("{key:?}:{value:?}"))
}

fn read(field: &Field) -> String {
    match field {
        Field::Str(value) => text(value),
        Field::ULong(value) => value.to_string(),
        Field::Long(value) => value.to_string(),
        Field::ListInternal(items) => list(items.elements(), read),
        Field::MapInternal(entries) => list(entries.entries(), |(key, value)| {
            format!("{}:{}", read(key), read(value))
        }),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn columns_come_back(groups in vec(vec(any_row(), 1..300), 1..3)) {
        let mut writer = Writer::begin(&sample(&[]).columns(), Vec::new()).unwrap();
        for rows in &groups {
            writer.write(&mut sample(rows)).unwrap();
        }
        let bytes = Bytes::from(writer.finish().unwrap());
        let with_filters = ReaderProperties::builder().set_read_bloom_filter(true).build();
        let options = ReadOptionsBuilder::new().with_page_index().with_reader_properties(with_filters).build();
        let reader = SerializedFileReader::new_with_options(bytes, options).unwrap();
        let found: Vec<Vec<String>> = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| row.unwrap().get_column_iter().map(|(_, field)| read(field)).collect())
            .collect();
        let mut expected = Vec::new();
        for (number, rows) in groups.iter().enumerate() {
            let group = reader.metadata().row_group(number);
            prop_assert_eq!(group.num_rows(), i64::try_from(rows.len()).unwrap());
            let filters = reader.get_row_group(number).unwrap();
            let filter = filters.get_column_bloom_filter(1).unwrap();
            let Some(Statistics::ByteArray(bounds)) = group.column(2).statistics() else {
                panic!("{:?}", group.column(2));
            };
            let bounds = [bounds.min_opt(), bounds.max_opt()].map(|bound| bound.map(|it| it.as_utf8().unwrap()));
            let texts = || rows.iter().map(|row| row.text.as_str());
            let is_short = |text: &&str| text.len() <= 64;
            prop_assert_eq!(bounds, [texts().min().filter(is_short), texts().max().filter(is_short)]);
            for (at, row) in rows.iter().enumerate() {
                prop_assert!(filter.check(row.text.as_str()));
                expected.push(vec![
                    at.to_string(),
                    text(&row.text),
                    text(&row.text),
                    list(&row.list, |it| text(it)),
                    list(&row.list, |it| text(it)),
                    list(&row.list, |it| it.len().to_string()),
                    map(&row.map),
                    map(repeated_map(rows, at)),
                    list(&row.maps, map),
                ]);
            }
            for column in 0..group.num_columns() {
                let index = reader.metadata().page_index_for_row_group(number);
                let pages = index.page_locations(column).unwrap();
                prop_assert_eq!(pages[0].first_row_index, 0);
                prop_assert!(pages.is_sorted_by(|a, b| a.first_row_index < b.first_row_index));
            }
        }
        prop_assert_eq!(found, expected);
    }
}
