//! Splits the `MessagePack` payloads of log records and metrics snapshots into parts.
//!
//! This walk is separate from [`record::messagepack::Reader`](crate::record::messagepack::Reader),
//! because a block must return the bytes of a payload and not its values. So the walk keeps each
//! head as it was written, even if it is longer than necessary; accepts extension types and strings
//! of any bytes; and skips values of any depth without recursion. A payload that it cannot split is
//! stored whole. The reader refuses all of these, with position and reason. Both use `rmp` to
//! decode markers and lengths.

use super::{
    places::{Entry, Place, Places, ShapeWalk, child_path},
    shapes::{Leaf, Part, ShapeEncoder},
};
use crate::record::messagepack::str_head_bytes;
use rmp::Marker;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Maps and arrays nested deeper than this are stored as single values.
const DEPTH_MAX: usize = 8;
/// Arrays nested deeper than the record's own structure are stored as single values: their length
/// varies between records, and each length would become a shape of its own.
const ARRAY_DEPTH_MAX: usize = 2;

/// Splits `payload` as one record of `shapes`. `None` when it is not exactly one `MessagePack`
/// value, or the records are too diverse.
pub(super) fn split<'a>(payload: &'a [u8], shapes: &mut ShapeEncoder<'a>) -> Option<()> {
    // Paths are needed only for the first record of a shape, and take as long as everything else.
    shapes.split_record(payload, read_leaf, |shapes, with_paths| {
        split_parts(payload, shapes, with_paths)
    })
}

/// Reads the value that `bytes` begin with if it is of this part.
fn read_leaf(part: Part, bytes: &[u8]) -> Option<(Leaf<'_>, &[u8])> {
    let (head, after) = bytes.split_first()?;
    let leaf = match (part, Marker::from_u8(*head)) {
        (Part::Str, Marker::FixStr(length)) => {
            let (text, after) = after.split_at_checked(length.into())?;
            return Some((Leaf::Bytes(text), after));
        }
        (Part::Str, Marker::Str8) => {
            let (length, after) = after.split_first()?;
            let (text, after) = after.split_at_checked((*length).into())?;
            (str_head_bytes(text.len()) == 2).then_some(())?;
            return Some((Leaf::Bytes(text), after));
        }
        (Part::Bool, Marker::True) => Leaf::Int(1),
        (Part::Bool, Marker::False) => Leaf::Int(0),
        (Part::Int, Marker::FixPos(number)) => Leaf::Int(number.into()),
        (Part::Float, Marker::F64) => {
            let (bits, after) = after.split_first_chunk()?;
            return Some((Leaf::Int(u64::from_be_bytes(*bits)), after));
        }
        (Part::Int | Part::UInt, _) if matches!(head, 0xcc..=0xd3 | 0xe0..) => {
            let mut rest = bytes;
            skip(&mut rest)?;
            let (found, value) = shortest_integer(consumed(bytes, rest))?;
            return (found == part).then_some((Leaf::Int(value), rest));
        }
        _ => return None,
    };
    Some((leaf, after))
}

fn split_parts<'a>(
    payload: &'a [u8],
    shapes: &mut ShapeEncoder<'a>,
    with_paths: bool,
) -> Option<()> {
    let mut splitter = Splitter {
        rest: payload,
        shapes,
        with_paths,
    };
    splitter.value(0, 0)?;
    splitter.rest.is_empty().then_some(())
}

struct Splitter<'a, 's> {
    rest: &'a [u8],
    shapes: &'s mut ShapeEncoder<'a>,
    /// If `false`, every path is 0.
    with_paths: bool,
}

impl<'a> Splitter<'a, '_> {
    fn value(&mut self, path: u64, depth: usize) -> Option<()> {
        let start = self.rest;
        match Marker::from_u8(*self.rest.first()?) {
            Marker::Null => {
                self.take(1)?;
                self.shapes.literal(consumed(start, self.rest));
            }
            Marker::True | Marker::False => {
                let value = u64::from(self.take(1)? == [Marker::True.to_u8()]);
                self.shapes.int(path, Part::Bool, value);
            }
            Marker::F64 => {
                let bits = self.take(9)?.last_chunk::<8>()?;
                self.shapes
                    .int(path, Part::Float, u64::from_be_bytes(*bits));
            }
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let text = self.str()?;
                let header = start.len() - self.rest.len() - text.len();
                if header == str_head_bytes(text.len()) {
                    self.shapes.bytes(path, Part::Str, text);
                } else {
                    self.shapes
                        .bytes(path, Part::Raw, consumed(start, self.rest));
                }
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 if depth < DEPTH_MAX => {
                let entries = rmp::decode::read_map_len(&mut self.rest).ok()?;
                self.shapes.literal(consumed(start, self.rest));
                for _ in 0..entries {
                    let key_start = self.rest;
                    let key = self.str()?;
                    self.shapes.literal(consumed(key_start, self.rest));
                    self.value(self.child(path, key), depth + 1)?;
                }
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 if depth < ARRAY_DEPTH_MAX => {
                let items = rmp::decode::read_array_len(&mut self.rest).ok()?;
                self.shapes.literal(consumed(start, self.rest));
                for item in 0..items {
                    self.value(self.child(path, &item.to_le_bytes()), depth + 1)?;
                }
            }
            _ => self.number_or_raw(path)?,
        }
        Some(())
    }

    fn number_or_raw(&mut self, path: u64) -> Option<()> {
        let start = self.rest;
        if let Some((number @ ..0x80, rest)) = start.split_first() {
            self.rest = rest;
            self.shapes.int(path, Part::Int, u64::from(*number));
            return Some(());
        }
        skip(&mut self.rest)?;
        let bytes = consumed(start, self.rest);
        match shortest_integer(bytes) {
            Some((part, value)) => self.shapes.int(path, part, value),
            None => self.shapes.bytes(path, Part::Raw, bytes),
        }
        Some(())
    }

    /// The path of the value under `key` in the container with `path`.
    #[inline]
    fn child(&self, path: u64, key: &[u8]) -> u64 {
        if self.with_paths {
            xxh3_64_with_seed(key, path)
        } else {
            0
        }
    }

    fn str(&mut self) -> Option<&'a [u8]> {
        // Nearly all are short.
        if let Some((head, rest)) = self.rest.split_first()
            && head & 0xe0 == 0xa0
        {
            self.rest = rest;
            return self.take(usize::from(head & 0x1f));
        }
        let length = rmp::decode::read_str_len(&mut self.rest).ok()?;
        self.take(length as usize)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(front)
    }
}

/// The integer encoded by `bytes`, if that is its shortest form: decoding would return the shortest
/// form.
#[inline]
fn shortest_integer(bytes: &[u8]) -> Option<(Part, u64)> {
    let (marker, digits) = bytes.split_first()?;
    let unsigned = || {
        digits
            .iter()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let signed = || {
        let shift = u64::BITS - 8 * u32::try_from(digits.len()).unwrap_or(8);
        unsigned().checked_shl(shift).unwrap_or(0).cast_signed() >> shift
    };
    let above = |bound: u64| Some(unsigned()).filter(|value| *value >= bound);
    let below = |bound: i64| Some(signed()).filter(|value| *value < bound);
    let value = match Marker::from_u8(*marker) {
        Marker::FixPos(value) => u64::from(value),
        Marker::FixNeg(value) => i64::from(value).cast_unsigned(),
        Marker::U8 => above(1 << 7)?,
        Marker::U16 => above(1 << 8)?,
        Marker::U32 => above(1 << 16)?,
        Marker::U64 => {
            let value = above(1 << 32)?;
            if i64::try_from(value).is_err() {
                return Some((Part::UInt, value));
            }
            value
        }
        Marker::I8 => below(-(1 << 5))?.cast_unsigned(),
        Marker::I16 => below(-(1 << 7))?.cast_unsigned(),
        Marker::I32 => below(-(1 << 15))?.cast_unsigned(),
        Marker::I64 => below(-(1 << 31))?.cast_unsigned(),
        _ => return None,
    };
    Some((Part::Int, value))
}

/// The bytes consumed from `before` when `after` is left.
fn consumed<'a>(before: &'a [u8], after: &[u8]) -> &'a [u8] {
    before.get(..before.len() - after.len()).unwrap_or_default()
}

/// Skips one value of any kind without recursion, because the nesting of a payload is unbounded
/// here.
fn skip(rest: &mut &[u8]) -> Option<()> {
    let mut pending = 1u64;
    while pending > 0 {
        pending -= 1;
        let marker = rmp::decode::read_marker(rest).ok()?;
        let mut length = |bytes: usize| {
            let (front, after) = rest.split_at_checked(bytes)?;
            *rest = after;
            Some(
                front
                    .iter()
                    .fold(0u64, |value, byte| value << 8 | u64::from(*byte)),
            )
        };
        let body = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
                0
            }
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 | Marker::FixExt1 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixStr(bytes) => u64::from(bytes),
            Marker::Str8 | Marker::Bin8 => length(1)?,
            Marker::Str16 | Marker::Bin16 => length(2)?,
            Marker::Str32 | Marker::Bin32 => length(4)?,
            Marker::FixExt2 => 3,
            Marker::FixExt4 => 5,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            Marker::Ext8 => length(1)? + 1,
            Marker::Ext16 => length(2)? + 1,
            Marker::Ext32 => length(4)? + 1,
            Marker::FixArray(items) => {
                pending += u64::from(items);
                0
            }
            Marker::Array16 => {
                pending += length(2)?;
                0
            }
            Marker::Array32 => {
                pending += length(4)?;
                0
            }
            Marker::FixMap(entries) => {
                pending += u64::from(entries) * 2;
                0
            }
            Marker::Map16 => {
                pending += length(2)? * 2;
                0
            }
            Marker::Map32 => {
                pending += length(4)? * 2;
                0
            }
            Marker::Reserved => return None,
        };
        *rest = rest.get(usize::try_from(body).ok()?..)?;
    }
    Some(())
}

/// The places of the values in a shape of logs; `None` when its records are not logs, or nested in a
/// way that this walk does not know.
pub(super) fn places(
    literals: &[u8],
    parts: &mut dyn Iterator<Item = (Part, usize)>,
) -> Option<Places> {
    let mut walk = ShapeWalk::new(literals, parts);
    let mut rest = walk.rest();
    (rmp::decode::read_array_len(&mut rest).ok()? == 4).then_some(())?;
    walk.advance_to(rest);
    for (part, place) in [
        (Part::Int, Place::Other),
        (Part::Int, Place::Level),
        (Part::Str, Place::Message),
    ] {
        walk.due().filter(|due| *due == part)?;
        walk.leaf(place)?;
    }
    entries(&mut walk, None)?;
    walk.finish()
}

/// Walks the entries of a map, which is the entry `path` or holds the attributes.
fn entries(walk: &mut ShapeWalk<'_>, path: Option<&str>) -> Option<()> {
    let mut rest = walk.rest();
    let count = rmp::decode::read_map_len(&mut rest).ok()?;
    walk.advance_to(rest);
    for _ in 0..count {
        let mut rest = walk.rest();
        let length = rmp::decode::read_str_len(&mut rest).ok()?;
        let (key, rest) = rest.split_at_checked(length as usize)?;
        walk.advance_to(rest);
        let path_of_entry = child_path(path, std::str::from_utf8(key).ok()?);
        if walk.due().is_some() {
            walk.leaf(Place::Entry(Entry {
                path: path_of_entry,
                is_top: path.is_none(),
                tag: None,
            }))?;
        } else if let Some((0xc0, after)) = walk.rest().split_first() {
            walk.advance_to(after);
            walk.null(path_of_entry)?;
        } else {
            entries(walk, Some(&path_of_entry))?;
            walk.object(&path_of_entry)?;
        }
    }
    Some(())
}
