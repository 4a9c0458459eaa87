//! Logs decoded from columns into their parts, without payloads in between.
//!
//! A reader that looks at every value spends more time on finding them in a payload, and on checking each text for
//! UTF-8, than on all else. So the texts of many logs are joined into one string, which is checked once, and a log
//! is a row of cells: where its texts are, and its numbers. The keys are read once for each shape.
//!
//! Only logs whose attributes are numbers, booleans and strings are decoded this way.

use super::{
    columns::{Decoded, Strings, TextSource},
    messagepack::places,
    places::{Entry, Place},
    shapes::{DecodedShape, Part, Shaped},
};
use crate::record::{
    Level, messagepack,
    payload::{utc_offset_of, write_log_start},
};
use std::{ops::Range, sync::OnceLock};
use time::UtcOffset;

/// The cells of the offset from UTC and of the level, which come first.
const HEAD_CELLS: usize = 2;

/// A value of an attribute, or the message of a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LogValue<'a> {
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(&'a str),
}

/// Some logs of a block.
#[derive(Debug, Default)]
pub(super) struct DecodedLogs {
    /// The texts of all.
    texts: String,
    shapes: Vec<LogShape>,
    /// The shape of each log, and where its cells end.
    logs: Vec<(u32, u32)>,
    /// A number, or the place of a text in `texts`, for each value that differs between the logs of a shape.
    cells: Vec<u64>,
    /// What a writer of lines has found out about all texts.
    is_plain: OnceLock<bool>,
}

/// What the logs of a shape have in common.
#[derive(Debug, Default)]
struct LogShape {
    message: Option<Field>,
    /// The keys, and where their values are.
    attributes: Vec<(Box<str>, Field)>,
    /// The kinds of those values that are in cells.
    differing: Vec<Part>,
    /// What a writer of lines has made of it.
    pieces: OnceLock<Option<Vec<Piece>>>,
}

/// Bytes that lines of all logs of a shape have between two of their values.
pub(crate) type Piece = Box<[u8]>;

/// What all logs of a shape have under a key.
pub(crate) enum Common<'a> {
    /// The same text.
    Constant(&'a str),
    /// Texts.
    Text,
    /// Values that are not texts.
    Other,
}

/// Where a value is.
#[derive(Debug)]
enum Field {
    /// In the next cell.
    Next(Part),
    /// The same text in every log of the shape.
    Constant(Box<str>),
}

/// The parts of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogParts<'a> {
    logs: &'a DecodedLogs,
    shape: &'a LogShape,
    cells: &'a [u64],
}

impl<'a> LogParts<'a> {
    /// The offset from UTC of the time, as it was logged.
    #[inline]
    pub(crate) fn utc_offset(&self) -> Option<UtcOffset> {
        utc_offset_of(i16::try_from(self.cells.first()?.cast_signed()).ok()?)
    }

    /// The severity.
    #[inline]
    pub(crate) fn level(&self) -> Option<Level> {
        let level = self.cells.get(1)?.cast_signed();
        i32::try_from(level).ok().map(Level)
    }

    /// The number of attributes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.shape.attributes.len()
    }

    /// The message.
    #[inline]
    pub(crate) fn message(&self) -> Option<&'a str> {
        match self.shape.message.as_ref()? {
            Field::Constant(text) => Some(text),
            Field::Next(_) => text_at(&self.logs.texts, *self.cells.get(HEAD_CELLS)?),
        }
    }

    /// The cells of the attributes.
    #[inline]
    fn attribute_cells(&self) -> Option<&'a [u64]> {
        let is_in_cell = matches!(self.shape.message, Some(Field::Next(_)));
        self.cells.get(HEAD_CELLS + usize::from(is_in_cell)..)
    }

    /// Whether `is_plain` is true of all texts that differ between the logs of this block, which is looked up once.
    #[inline]
    pub(crate) fn are_texts(&self, is_plain: impl FnOnce(&str) -> bool) -> bool {
        let texts = &self.logs.texts;
        *self.logs.is_plain.get_or_init(|| is_plain(texts))
    }

    /// What `make` makes, once for all logs of the shape, of its keys and of what the logs have under them.
    #[inline]
    pub(crate) fn pieces(
        &self,
        make: impl FnOnce(&mut dyn Iterator<Item = (&'a str, Common<'a>)>) -> Option<Vec<Piece>>,
    ) -> Option<&'a [Piece]> {
        let shape = self.shape;
        let pieces = shape.pieces.get_or_init(|| {
            make(&mut shape.attributes.iter().map(|(key, field)| {
                let common = match field {
                    Field::Constant(text) => Common::Constant(text),
                    Field::Next(Part::Str) => Common::Text,
                    Field::Next(_) => Common::Other,
                };
                (&**key, common)
            }))
        });
        pieces.as_deref()
    }

    /// Like [`LogParts::visit`], without keys and constant texts.
    #[inline]
    pub(crate) fn visit_differing(
        &self,
        mut visit: impl FnMut(LogValue<'a>) -> Option<()>,
    ) -> Option<()> {
        let (parts, cells) = (&self.shape.differing, self.attribute_cells()?);
        for (part, cell) in parts.iter().zip(cells) {
            visit(self.value(*part, *cell)?)?;
        }
        (parts.len() == cells.len()).then_some(())
    }

    /// The value in a cell.
    #[inline]
    fn value(&self, part: Part, cell: u64) -> Option<LogValue<'a>> {
        Some(match part {
            Part::Str => LogValue::Text(text_at(&self.logs.texts, cell)?),
            Part::Int => LogValue::Int(cell.cast_signed()),
            Part::UInt => LogValue::UInt(cell),
            Part::Float => LogValue::Float(f64::from_bits(cell)),
            _ => LogValue::Bool(cell != 0),
        })
    }

    /// Calls `visit` with each attribute in its order, until it returns `None`. Returns `None` then, and if a value is
    /// damaged.
    // Not an iterator: its items would go through memory, in pieces of other sizes than they are read in, for which
    // a processor waits longer than all else here takes.
    #[inline]
    pub(crate) fn visit(
        &self,
        mut visit: impl FnMut(&'a str, LogValue<'a>) -> Option<()>,
    ) -> Option<()> {
        let (texts, shape) = (&*self.logs.texts, self.shape);
        let mut cells = self.attribute_cells()?.iter().copied();
        for (key, field) in &shape.attributes {
            match field {
                Field::Constant(text) => visit(key, LogValue::Text(text))?,
                Field::Next(part) => {
                    let cell = cells.next()?;
                    match part {
                        Part::Str => visit(key, LogValue::Text(text_at(texts, cell)?))?,
                        Part::Int => visit(key, LogValue::Int(cell.cast_signed()))?,
                        Part::UInt => visit(key, LogValue::UInt(cell))?,
                        Part::Float => visit(key, LogValue::Float(f64::from_bits(cell)))?,
                        _ => visit(key, LogValue::Bool(cell != 0))?,
                    }
                }
            }
        }
        Some(())
    }

    /// Appends the payload that the log was stored with; `None` if a value is damaged.
    pub(crate) fn write_payload(&self, out: &mut Vec<u8>) -> Option<()> {
        write_log_start(self.utc_offset()?, self.level()?, out);
        messagepack::write_str(self.message()?, out);
        messagepack::write_map_head(self.len(), out);
        self.visit(|key, value| {
            messagepack::write_str(key, out);
            match value {
                LogValue::Bool(value) => messagepack::write_bool(value, out),
                LogValue::Int(value) => messagepack::write_int(value, out),
                LogValue::UInt(value) => messagepack::write_uint(value, out),
                LogValue::Float(value) => messagepack::write_float(value, out),
                LogValue::Text(text) => messagepack::write_str(text, out),
            }
            Some(())
        })
    }
}

/// The text at a place; `None` if that is not one of whole characters.
#[inline]
fn text_at(texts: &str, place: u64) -> Option<&str> {
    let start = usize::try_from(place & u64::from(u32::MAX)).ok()?;
    let end = usize::try_from(place >> 32).ok()?;
    texts.get(start..end)
}

/// The place of a text.
#[inline]
fn place(start: usize, end: usize) -> Option<u64> {
    let (start, end) = (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
    Some(u64::from(start) | u64::from(end) << 32)
}

impl DecodedLogs {
    /// The logs in `range`; `None` if one of them cannot be decoded this way. They are put into the memory of
    /// `spare`.
    pub(super) fn decode(
        shaped: &Shaped<'_>,
        range: &Range<usize>,
        payload_bytes: usize,
        spare: DecodedLogs,
    ) -> Option<DecodedLogs> {
        let DecodedLogs {
            texts,
            mut shapes,
            mut logs,
            mut cells,
            is_plain: _,
        } = spare;
        let mut texts = texts.into_bytes();
        texts.clear();
        shapes.clear();
        logs.clear();
        cells.clear();
        let mut decoder = Decoder {
            shaped,
            records: range.len(),
            texts,
            // Each entry of a dictionary is in one payload at least, and so is each other text.
            texts_bytes_max: payload_bytes.checked_mul(2)?,
            steps: shaped.shapes.iter().map(|_| None).collect(),
            entries: shaped.strings.iter().map(|_| None).collect(),
            next_values: shaped.values_before(range.start)?,
            cells,
        };
        shapes.resize_with(shaped.shapes.len(), LogShape::default);
        logs.reserve(range.len());
        for record in range.clone() {
            let shape = shaped.shape_of(record)?;
            if decoder.steps.get(shape)?.is_none() {
                *shapes.get_mut(shape)? = decoder.open(shape)?;
            }
            decoder.read(shape)?;
            let cells_end = u32::try_from(decoder.cells.len()).ok()?;
            logs.push((u32::try_from(shape).ok()?, cells_end));
        }
        Some(DecodedLogs {
            texts: String::from_utf8(decoder.texts).ok()?,
            shapes,
            logs,
            cells: decoder.cells,
            is_plain: OnceLock::new(),
        })
    }

    /// The approximate memory of this value, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.texts.len() + self.cells.len() * 8 + self.logs.len() * 8
    }

    /// The log number `index`.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<LogParts<'_>> {
        let start = match index.checked_sub(1) {
            Some(previous) => self.logs.get(previous)?.1 as usize,
            None => 0,
        };
        let (shape, end) = *self.logs.get(index)?;
        Some(LogParts {
            logs: self,
            shape: self.shapes.get(shape as usize)?,
            cells: self.cells.get(start..end as usize)?,
        })
    }
}

/// A value of a log, to be put into a cell.
struct Step<'a, 's> {
    source: Source<'a, 's>,
    slot: usize,
}

enum Source<'a, 's> {
    Number(Decoded<'s>),
    /// A text whose entry in the dictionary of this column is in the texts already.
    Entry(usize, Decoded<'s>),
    Text(TextSource<'a, 's>, &'s Strings<'a>),
}

struct Decoder<'a, 's> {
    shaped: &'s Shaped<'a>,
    /// The number of logs that are decoded.
    records: usize,
    texts: Vec<u8>,
    texts_bytes_max: usize,
    /// The steps of each shape, once it is used.
    steps: Vec<Option<Vec<Step<'a, 's>>>>,
    /// The places of the entries of dictionaries, each for one column of strings.
    entries: Vec<Option<Vec<u64>>>,
    /// The index of the next value of each slot.
    next_values: Vec<usize>,
    cells: Vec<u64>,
}

impl<'a, 's> Decoder<'a, 's> {
    /// Reads what the logs of a shape have in common.
    fn open(&mut self, index: usize) -> Option<LogShape> {
        let shape: &'s DecodedShape<'a> = self.shaped.shapes.get(index)?;
        let mut parts = shape.parts.iter().map(|it| (it.part, it.literals_end));
        let places = places(shape.literals, &mut parts)?;
        if !places.nulls.is_empty() || !places.objects.is_empty() {
            return None;
        }
        let (mut opened, mut steps) = (LogShape::default(), Vec::new());
        for (placed, place) in shape.leaves().zip(&places.leaves) {
            let slot = placed.slot;
            let field = match placed.part {
                Part::Str => {
                    let column = self.shaped.strings.get(placed.column)?;
                    if let Some(text) = column.constant() {
                        Field::Constant(std::str::from_utf8(text).ok()?.into())
                    } else {
                        let source = self.text_source(placed.column, column)?;
                        steps.push(Step { source, slot });
                        Field::Next(placed.part)
                    }
                }
                Part::Int | Part::UInt | Part::Float | Part::Bool => {
                    let values = self.shaped.ints.get(placed.column)?.decoded()?;
                    steps.push(Step {
                        source: Source::Number(values),
                        slot,
                    });
                    Field::Next(placed.part)
                }
                _ => return None,
            };
            match place {
                Place::Message => opened.message = Some(field),
                Place::Entry(Entry { path, .. }) => {
                    if let Field::Next(part) = field {
                        opened.differing.push(part);
                    }
                    opened.attributes.push((path.as_str().into(), field));
                }
                // The offset from UTC and the level, which come first.
                _ => {}
            }
        }
        *self.steps.get_mut(index)? = Some(steps);
        Some(opened)
    }

    fn text_source(&mut self, number: usize, column: &'s Strings<'a>) -> Option<Source<'a, 's>> {
        if let Some(indexes) = column.indexes_of_few(self.records) {
            if self.entries.get(number)?.is_none() {
                let entries = (0..column.entries()?).map(|entry| self.keep(column.entry(entry)?));
                let entries = entries.collect::<Option<Vec<u64>>>()?;
                *self.entries.get_mut(number)? = Some(entries);
            }
            return Some(Source::Entry(number, indexes));
        }
        Some(Source::Text(column.text_source(), column))
    }

    /// Adds a text and returns its place.
    fn keep(&mut self, text: &[u8]) -> Option<u64> {
        let start = self.texts.len();
        self.texts.extend_from_slice(text);
        self.end_text(start)
    }

    /// The place of the text from `start`.
    #[inline]
    fn end_text(&self, start: usize) -> Option<u64> {
        let end = self.texts.len();
        // Without this check, a damaged template could repeat a long text without end.
        (end <= self.texts_bytes_max).then_some(())?;
        place(start, end)
    }

    /// Appends the cells of the next log, which is of this shape.
    #[inline]
    fn read(&mut self, shape: usize) -> Option<()> {
        for step in self.steps.get(shape)?.as_ref()? {
            let next = self.next_values.get_mut(step.slot)?;
            let at = *next;
            *next += 1;
            let cell = match &step.source {
                Source::Number(values) => values.get(at)?,
                Source::Entry(number, indexes) => {
                    let index = usize::try_from(indexes.get(at)?).ok()?;
                    *self.entries.get(*number)?.as_ref()?.get(index)?
                }
                Source::Text(source, column) => {
                    let start = self.texts.len();
                    match source {
                        TextSource::Fixed(values) => values.append(at, &mut self.texts)?,
                        TextSource::Template(templates) => templates.append(at, &mut self.texts)?,
                        // Logs have no ids of spans.
                        TextSource::Ids(_) => return None,
                        TextSource::Other => column.append(at, &mut self.texts)?,
                    }
                    self.end_text(start)?
                }
            };
            self.cells.push(cell);
        }
        Some(())
    }
}
