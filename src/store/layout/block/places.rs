//! Places: what the values of a shape are in a record.
//!
//! The literals of a shape have the structure of its records, and its parts say where the values
//! stand between them. Walking both tells for each column what it holds, so that a condition on one
//! field is decided from one column.

use super::shapes::Part;
use crate::filter::IdKind;

/// What a value of a shape is in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The severity of a log.
    Level,
    /// The message of a log.
    Message,
    /// A text of a span that is searched: its name, that of an event, or the message of its status.
    Text { is_name: bool },
    /// The kind of a span.
    Kind,
    /// The status code of a span.
    Status,
    /// When a span began, in nanoseconds.
    Start,
    /// When a span ended, in nanoseconds.
    End,
    /// An id of a span, as bytes.
    Id(IdKind),
    /// A value of an entry of a record.
    Entry(Entry),
    /// A value that no condition is about.
    Other,
}

/// A value of an entry of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The keys that lead to it, joined by points.
    pub(super) path: String,
    /// Whether it is the value of an attribute and not nested in one.
    pub(super) is_top: bool,
    /// The tag of the value in an `AnyValue` message; `None` for `MessagePack`.
    pub(super) tag: Option<u64>,
}

/// Maximum length of all paths of a shape together, in bytes. A long key within which many values are nested
/// would else be repeated for each of them. Records of a shape with longer paths are read whole.
const PATHS_BYTES_MAX: usize = 256 << 10;

/// The tag of a string in an `AnyValue` message.
pub(super) const ANY_STRING: u64 = 1 << 3 | 2;
/// The tag of a boolean.
pub(super) const ANY_BOOL: u64 = 2 << 3;
/// The tag of an integer.
pub(super) const ANY_INT: u64 = 3 << 3;
/// The tag of a double.
pub(super) const ANY_DOUBLE: u64 = 4 << 3 | 1;

impl Entry {
    /// Whether the column holds the text of each value.
    pub(super) fn is_text(&self, part: Part) -> bool {
        part == Part::Str || self.tag == Some(ANY_STRING)
    }
}

/// The places of one shape.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The place of each part that has a column, in order.
    pub(super) leaves: Vec<Place>,
    /// The paths of entries that are null in every record of the shape.
    pub(super) nulls: Vec<String>,
    /// The paths of entries that are objects in every record of the shape.
    pub(super) objects: Vec<String>,
}

/// The path of the entry `key` within the entry `path`.
pub(super) fn child_path(path: Option<&str>, key: &str) -> String {
    match path {
        Some(path) => format!("{path}.{key}"),
        None => key.to_owned(),
    }
}

/// Walks the literals and the parts of a shape.
pub(super) struct ShapeWalk<'a> {
    pub(super) literals: &'a [u8],
    at: usize,
    parts: &'a mut dyn Iterator<Item = (Part, usize)>,
    next: Option<(Part, usize)>,
    places: Places,
    /// The number of bytes that paths may still take.
    paths_left: usize,
}

impl<'a> ShapeWalk<'a> {
    pub(super) fn new(
        literals: &'a [u8],
        parts: &'a mut dyn Iterator<Item = (Part, usize)>,
    ) -> ShapeWalk<'a> {
        let next = parts.next();
        ShapeWalk {
            literals,
            at: 0,
            parts,
            next,
            places: Places::default(),
            paths_left: PATHS_BYTES_MAX,
        }
    }

    fn take_path(&mut self, path: &str) -> Option<()> {
        self.paths_left = self.paths_left.checked_sub(path.len())?;
        Some(())
    }

    /// Notes the path of an entry that is null.
    pub(super) fn null(&mut self, path: String) -> Option<()> {
        self.take_path(&path)?;
        self.places.nulls.push(path);
        Some(())
    }

    /// Notes the path of an entry that is an object.
    pub(super) fn object(&mut self, path: &str) -> Option<()> {
        self.take_path(path)?;
        self.places.objects.push(path.to_owned());
        Some(())
    }

    /// The part that comes before the next literal byte.
    pub(super) fn due(&self) -> Option<Part> {
        self.next
            .filter(|(_, literals_end)| *literals_end == self.at)
            .map(|(part, _)| part)
    }

    /// Passes the due part, which must be `wanted`.
    pub(super) fn pass(&mut self, wanted: Part) -> Option<()> {
        self.due().filter(|due| *due == wanted)?;
        self.next = self.parts.next();
        Some(())
    }

    /// Passes the due part, whose values are at `place`.
    pub(super) fn leaf(&mut self, place: Place) -> Option<()> {
        self.due()?.column_kind()?;
        if let Place::Entry(entry) = &place {
            self.take_path(&entry.path)?;
        }
        self.next = self.parts.next();
        self.places.leaves.push(place);
        Some(())
    }

    /// The literal bytes up to the next part.
    pub(super) fn rest(&self) -> &'a [u8] {
        let end = self
            .next
            .map_or(self.literals.len(), |(_, literals_end)| literals_end);
        self.literals.get(self.at..end).unwrap_or_default()
    }

    /// Passes literal bytes until `rest`, which is the end of [`ShapeWalk::rest`], is left.
    pub(super) fn advance_to(&mut self, rest: &[u8]) {
        self.at += self.rest().len() - rest.len();
    }

    /// The places, once everything has been passed.
    pub(super) fn finish(self) -> Option<Places> {
        (self.next.is_none() && self.at == self.literals.len()).then_some(self.places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_not_repeated_for_each_value_below_it() {
        let walk = |path_bytes: usize, count: usize| {
            let mut parts = std::iter::repeat_n((Part::Int, 0), count);
            let mut walk = ShapeWalk::new(&[], &mut parts);
            for _ in 0..count {
                walk.leaf(Place::Entry(Entry {
                    path: "k".repeat(path_bytes),
                    is_top: false,
                    tag: None,
                }))?;
            }
            walk.finish()
        };
        assert_eq!(walk(100, 2000).unwrap().leaves.len(), 2000);
        assert_eq!(walk(8 << 20, 1), None);
        assert_eq!(walk(8 << 10, 1000), None);
        let mut parts = std::iter::empty();
        let mut walk = ShapeWalk::new(&[], &mut parts);
        assert_eq!(walk.null("k".repeat(200 << 10)), Some(()));
        assert_eq!(walk.object(&"k".repeat(200 << 10)), None);
    }
}
