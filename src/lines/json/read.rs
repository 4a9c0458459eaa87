//! A strict JSON reader that is pulled through one line.

use super::{
    error::{JsonError, JsonReason, JsonResult},
    scan::{is_number, number_end, plain_end},
};
use std::{borrow::Cow, collections::HashMap, fmt};

/// How deep arrays and objects may be nested unless a format says otherwise.
pub(crate) const NESTING_MAX: u32 = 128;

/// Reads one JSON text (RFC 8259), in which it is as strict as the RFC: no comments, no trailing
/// commas, no halves of surrogate pairs, nothing behind the value.
///
/// Each `read_…` consumes one value, with the white space before it, or fails with the offset at
/// which the value begins or breaks the grammar. Strings are borrowed from the line unless they
/// contain escapes, numbers stay text, and objects show their entries in order, duplicates
/// included. After an error the position is unspecified: the line is lost.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    position: usize,
    depth: u32,
    depth_max: u32,
    /// Whether damaged text is repaired.
    tolerant: bool,
    repairs: u64,
    /// How many more items and entries may be read.
    items_left: u32,
    /// How many more bytes of strings may be read.
    text_left: usize,
    /// How many more bytes of memory messages may take.
    memory_left: usize,
    /// Where long arrays and objects begin that were passed over, and where they end. A list of records is passed over
    /// to find what stands behind it, once for each object around it.
    passed: HashMap<usize, usize>,
}

/// The length from which the end of an array or object is remembered, in bytes.
const LONG_BYTES: usize = 4096;
/// How deep such an array or object lies at most, from where reading has passed over it: the records of an envelope are
/// at a depth of six.
const LONG_DEPTH_MAX: usize = 8;

/// A position between two tokens, to come back to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark {
    position: usize,
    depth: u32,
}

/// How far a value was checked that may go on in another text.
#[derive(Debug, Default)]
pub(crate) struct Skim {
    /// The arrays and objects that are open; true for an object.
    open: Vec<bool>,
    next: Next,
}

/// What comes next in a value.
#[derive(Debug, Clone, Copy, Default)]
enum Next {
    #[default]
    Value,
    /// An array's first item, or its end.
    FirstItem,
    /// An object's first key, or its end.
    FirstKey,
    Key,
    Colon,
    /// A comma, or the end of the array or object.
    Comma,
}

/// The kind of a JSON value, as its first character tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A JSON number as it was written, so that none is too large or too precise to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number<'a>(&'a str);

impl<'a> Reader<'a> {
    /// A reader at the start of `line`, which may nest [`NESTING_MAX`] deep. Fails when the line is
    /// not UTF-8.
    pub(crate) fn new(line: &'a [u8]) -> JsonResult<Reader<'a>> {
        Reader::with_nesting_max(line, NESTING_MAX)
    }

    /// A reader at the start of `line`, which may nest `depth_max` deep. Fails when the line is not
    /// UTF-8.
    pub(crate) fn with_nesting_max(line: &'a [u8], depth_max: u32) -> JsonResult<Reader<'a>> {
        let text = std::str::from_utf8(line)
            .map_err(|error| JsonError::new(error.valid_up_to(), JsonReason::InvalidUtf8))?;
        Ok(Reader {
            text,
            position: 0,
            depth: 0,
            depth_max,
            tolerant: false,
            repairs: 0,
            items_left: u32::MAX,
            text_left: usize::MAX,
            memory_left: usize::MAX,
            passed: HashMap::new(),
        })
    }

    /// A reader at the start of `text`, which repairs what is damaged in it and counts the repairs:
    /// half of a surrogate pair is read as U+FFFD, an unknown escape and a control character as the
    /// text that stands there, and `NaN` and `Infinity` without quotes as doubles. Messages that
    /// would be nested deeper than `depth_max` are read as empty ones, values as null.
    pub(crate) fn tolerant(text: &'a str, depth_max: u32) -> Reader<'a> {
        Reader {
            text,
            position: 0,
            depth: 0,
            depth_max,
            tolerant: true,
            repairs: 0,
            items_left: u32::MAX,
            text_left: usize::MAX,
            memory_left: usize::MAX,
            passed: HashMap::new(),
        }
    }

    /// How often damaged text was repaired.
    pub(crate) fn repairs(&self) -> u64 {
        self.repairs
    }

    /// Lets no more than `items` items of arrays and entries of objects be read from here on, and no more
    /// than `text_bytes` bytes of strings: in memory each item takes more than its two bytes of text.
    pub(crate) fn allow(&mut self, items: u32, text_bytes: usize) {
        self.items_left = items;
        self.text_left = text_bytes;
    }

    /// Lets any number of items and bytes be read from here on.
    pub(crate) fn allow_all(&mut self) {
        self.allow(u32::MAX, usize::MAX);
    }

    /// Lets messages that are read from here on take no more than `bytes` bytes of memory, their texts not
    /// counted.
    pub(crate) fn allow_memory(&mut self, bytes: usize) {
        self.memory_left = bytes;
    }

    /// Counts `bytes` bytes of memory that a message takes. Fails when that is more than allowed.
    pub(crate) fn count_memory(&mut self, bytes: usize) -> JsonResult<()> {
        match self.memory_left.checked_sub(bytes) {
            Some(left) => self.memory_left = left,
            None => return Err(self.error(JsonReason::TooMuchMemory)),
        }
        Ok(())
    }

    /// Changes how deep arrays and objects may be nested from here on.
    pub(crate) fn set_nesting_max(&mut self, depth_max: u32) {
        self.depth_max = depth_max;
    }

    /// Where the reader stands, between two tokens.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            position: self.position,
            depth: self.depth,
        }
    }

    /// Goes back, or forth, to where the reader stood.
    pub(crate) fn go_to(&mut self, mark: Mark) {
        self.position = mark.position;
        self.depth = mark.depth;
    }

    /// The text from `mark` to where the reader stands.
    pub(crate) fn since(&self, mark: Mark) -> &'a str {
        self.slice(mark.position, self.position)
    }

    /// Whether nothing but white space is left.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.next_byte().is_none()
    }

    /// Whether an array or object that begins here would be nested too deep, for a reader that
    /// repairs; it is skipped then.
    pub(crate) fn skip_if_too_deep(&mut self) -> JsonResult<bool> {
        let too_deep = self.tolerant
            && self.depth >= self.depth_max
            && matches!(self.next_byte(), Some(b'[' | b'{'));
        if too_deep {
            self.repairs += 1;
            self.skip_value()?;
        }
        Ok(too_deep)
    }

    /// The double that stands here without quotes, for a reader that repairs: `NaN`, `Infinity` or
    /// `-Infinity`, as Python writes them.
    pub(crate) fn take_bare_double(&mut self) -> Option<f64> {
        if !self.tolerant || !matches!(self.next_byte(), Some(b'N' | b'I' | b'-')) {
            return None;
        }
        let rest = self.text.get(self.position..)?;
        let (name, value) = [
            ("NaN", f64::NAN),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ]
        .into_iter()
        .find(|(name, _)| rest.starts_with(name))?;
        self.position += name.len();
        self.repairs += 1;
        Some(value)
    }

    /// Checks on what began in an earlier text, or begins here, as far as this text goes. Says
    /// whether the value is complete; the reader then stands after it.
    pub(crate) fn skim(&mut self, skim: &mut Skim) -> JsonResult<bool> {
        // Where the outer ones of those begin that were opened in this text.
        let mut starts = [0; LONG_DEPTH_MAX];
        let mut opened: usize = 0;
        while let Some(byte) = self.next_byte() {
            let in_object = skim.open.last().copied();
            let ended = match (skim.next, byte, in_object) {
                (Next::FirstItem, b']', _)
                | (Next::FirstKey, b'}', _)
                | (Next::Comma, b']', Some(false))
                | (Next::Comma, b'}', Some(true)) => {
                    self.position += 1;
                    skim.open.pop();
                    if let Some(depth) = opened.checked_sub(1) {
                        opened = depth;
                        self.note_passed(starts.get(depth).copied());
                    }
                    true
                }
                (Next::FirstKey | Next::Key, b'"', _) => {
                    self.skip_string()?;
                    skim.next = Next::Colon;
                    false
                }
                (Next::FirstKey | Next::Key, ..) => {
                    return Err(self.unexpected("a key in quotes"));
                }
                (Next::Colon, b':', _) => {
                    self.position += 1;
                    skim.next = Next::Value;
                    false
                }
                (Next::Colon, ..) => return Err(self.unexpected("':'")),
                (Next::Comma, b',', Some(in_object)) => {
                    self.position += 1;
                    skim.next = if in_object { Next::Key } else { Next::Value };
                    false
                }
                (Next::Comma, _, Some(true)) => return Err(self.unexpected("',' or '}'")),
                (Next::Comma, ..) => return Err(self.unexpected("',' or ']'")),
                (Next::Value | Next::FirstItem, b'[' | b'{', _) => {
                    // Looking for each of those inside would take longer than it spares.
                    if opened == 0
                        && let Some(end) = self.passed.get(&self.position)
                    {
                        self.position = *end;
                        true
                    } else {
                        if let Some(start) = starts.get_mut(opened) {
                            *start = self.position;
                        }
                        opened += 1;
                        self.position += 1;
                        skim.open.push(byte == b'{');
                        skim.next = match byte {
                            b'{' => Next::FirstKey,
                            _ => Next::FirstItem,
                        };
                        false
                    }
                }
                (Next::Value | Next::FirstItem, ..) => {
                    self.skip_scalar()?;
                    true
                }
            };
            if ended {
                if skim.open.is_empty() {
                    return Ok(true);
                }
                skim.next = Next::Comma;
            }
        }
        Ok(false)
    }

    /// Remembers that a long array or object begins at `start` and ends here.
    fn note_passed(&mut self, start: Option<usize>) {
        if let Some(start) = start
            && self.position - start >= LONG_BYTES
        {
            self.passed.insert(start, self.position);
        }
    }

    /// Ends the reading. Fails when anything but white space is left.
    pub(crate) fn finish(mut self) -> JsonResult<()> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.error(JsonReason::TrailingText)),
        }
    }

    /// The kind of the next value, which stays unread.
    pub(crate) fn peek(&mut self) -> JsonResult<Kind> {
        self.next_byte()
            .and_then(Kind::of_first_byte)
            .ok_or_else(|| self.unexpected("a value"))
    }

    /// The offset at which the next value begins, for errors about it that are found after it was
    /// read.
    pub(crate) fn offset(&mut self) -> usize {
        self.skip_whitespace();
        self.position
    }

    /// What is left of the line, from the next value on.
    pub(crate) fn rest(&mut self) -> &'a str {
        let start = self.offset();
        self.slice(start, self.text.len())
    }

    /// An error about the value that begins at `offset`: JSON, but not what the format asks for.
    #[cold]
    pub(crate) fn refuse(
        offset: usize,
        reason: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> JsonError {
        JsonError::new(offset, JsonReason::Refused(reason.into()))
    }

    /// An error that says which kind of value was `expected` where the next value stands.
    #[cold]
    pub(crate) fn wrong_kind(&mut self, expected: &'static str) -> JsonError {
        match self.next_byte().and_then(Kind::of_first_byte) {
            Some(found) => self.error(JsonReason::WrongKind { expected, found }),
            None => self.unexpected(expected),
        }
    }

    /// Consumes a `null` when one comes next, and says whether it did.
    pub(crate) fn take_null(&mut self) -> JsonResult<bool> {
        match self.next_byte() {
            Some(b'n') => self.literal("null").map(|()| true),
            _ => Ok(false),
        }
    }

    /// Reads `true` or `false`.
    pub(crate) fn read_bool(&mut self) -> JsonResult<bool> {
        match self.next_byte() {
            Some(b't') => self.literal("true").map(|()| true),
            Some(b'f') => self.literal("false").map(|()| false),
            _ => Err(self.wrong_kind("true or false")),
        }
    }

    /// Reads a number.
    pub(crate) fn read_number(&mut self) -> JsonResult<Number<'a>> {
        match self.next_byte() {
            Some(b'-' | b'0'..=b'9') => {}
            _ => return Err(self.wrong_kind("a number")),
        }
        let start = self.position;
        match number_end(self.text.as_bytes(), start) {
            Ok(end) => {
                self.position = end;
                Ok(Number(self.slice(start, end)))
            }
            Err(broken) => Err(JsonError::new(broken, JsonReason::MalformedNumber)),
        }
    }

    /// Reads a string.
    pub(crate) fn read_string(&mut self) -> JsonResult<Cow<'a, str>> {
        if self.next_byte() != Some(b'"') {
            return Err(self.wrong_kind("a string"));
        }
        let start = self.position + 1;
        let end = plain_end(self.text.as_bytes(), start);
        if self.text.as_bytes().get(end) == Some(&b'"') {
            self.count_text(end - start)?;
            self.position = end + 1;
            return Ok(Cow::Borrowed(self.slice(start, end)));
        }
        self.read_escaped(start, end).map(Cow::Owned)
    }

    /// Reads an array. `item` is called before each item with the item's index, and must read the
    /// item, whole.
    pub(crate) fn read_array(
        &mut self,
        mut item: impl FnMut(&mut Self, usize) -> JsonResult<()>,
    ) -> JsonResult<()> {
        if self.next_byte() != Some(b'[') {
            return Err(self.wrong_kind("an array"));
        }
        self.open()?;
        if self.next_byte() != Some(b']') {
            for index in 0_usize.. {
                self.count_item()?;
                item(self, index).map_err(|error| error.under_index(index))?;
                match self.next_byte() {
                    Some(b',') => self.position += 1,
                    Some(b']') => break,
                    _ => return Err(self.unexpected("',' or ']'")),
                }
            }
        }
        self.close();
        Ok(())
    }

    /// Reads an object. `entry` is called at each entry with its key, in order and also for a key
    /// that came before, and must read the entry's value, whole.
    pub(crate) fn read_object(
        &mut self,
        mut entry: impl FnMut(&mut Self, Cow<'a, str>) -> JsonResult<()>,
    ) -> JsonResult<()> {
        if self.next_byte() != Some(b'{') {
            return Err(self.wrong_kind("an object"));
        }
        self.open()?;
        if self.next_byte() != Some(b'}') {
            loop {
                if self.next_byte() != Some(b'"') {
                    return Err(self.unexpected("a key in quotes"));
                }
                let key_start = self.position;
                let key = self.read_string()?;
                if self.next_byte() != Some(b':') {
                    return Err(self.unexpected("':'"));
                }
                self.position += 1;
                self.count_item()?;
                entry(self, key).map_err(|error| self.under_key_at(error, key_start))?;
                match self.next_byte() {
                    Some(b',') => self.position += 1,
                    Some(b'}') => break,
                    _ => return Err(self.unexpected("',' or '}'")),
                }
            }
        }
        self.close();
        Ok(())
    }

    /// Reads any value and drops it, however deep it is nested. It must be valid all the same.
    pub(crate) fn skip_value(&mut self) -> JsonResult<()> {
        let mut skim = Skim::default();
        if self.skim(&mut skim)? {
            return Ok(());
        }
        Err(self.unexpected(match skim.next {
            Next::Value | Next::FirstItem => "a value",
            Next::FirstKey | Next::Key => "a key in quotes",
            Next::Colon => "':'",
            Next::Comma if skim.open.last() == Some(&true) => "',' or '}'",
            Next::Comma => "',' or ']'",
        }))
    }

    /// Skips a value that is no array and no object.
    fn skip_scalar(&mut self) -> JsonResult<()> {
        let repairs = self.repairs;
        if self.take_bare_double().is_some() {
            // It was not read.
            self.repairs = repairs;
            return Ok(());
        }
        match self.peek()? {
            Kind::Null => self.literal("null"),
            Kind::Bool => self.read_bool().map(drop),
            Kind::Number => self.read_number().map(drop),
            _ => self.skip_string(),
        }
    }

    /// Skips the string that begins here.
    fn skip_string(&mut self) -> JsonResult<()> {
        if !self.tolerant {
            return self.read_string().map(drop);
        }
        let bytes = self.text.as_bytes();
        let mut end = self.position + 1;
        loop {
            end = plain_end(bytes, end);
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => {
                    self.position = bytes.len();
                    return Err(self.unexpected("the string's closing quote"));
                }
            }
        }
        self.position = end + 1;
        Ok(())
    }

    /// The first byte behind white space, at which the position then stands.
    #[inline]
    fn next_byte(&mut self) -> Option<u8> {
        // Programs write no white space between tokens.
        match self.text.as_bytes().get(self.position) {
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => {
                self.skip_whitespace();
                self.text.as_bytes().get(self.position).copied()
            }
        }
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.as_bytes().get(self.position) {
            self.position += 1;
        }
    }

    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    fn count_item(&mut self) -> JsonResult<()> {
        match self.items_left.checked_sub(1) {
            Some(left) => self.items_left = left,
            None => return Err(self.error(JsonReason::TooManyValues)),
        }
        Ok(())
    }

    fn count_text(&mut self, bytes: usize) -> JsonResult<()> {
        match self.text_left.checked_sub(bytes) {
            Some(left) => self.text_left = left,
            None => return Err(self.error(JsonReason::TooMuchText)),
        }
        Ok(())
    }

    /// Steps into the array or object that opens here.
    fn open(&mut self) -> JsonResult<()> {
        // Unbounded recursion on a hostile line would overflow the stack, which aborts the process.
        if self.depth >= self.depth_max {
            return Err(self.error(JsonReason::TooDeep {
                max: self.depth_max,
            }));
        }
        self.depth += 1;
        self.position += 1;
        Ok(())
    }

    /// Steps out of the array or object that closes here.
    fn close(&mut self) {
        self.depth -= 1;
        self.position += 1;
    }

    fn literal(&mut self, literal: &'static str) -> JsonResult<()> {
        let end = self.position + literal.len();
        if self.text.get(self.position..end) != Some(literal) {
            return Err(self.unexpected("a value"));
        }
        self.position = end;
        Ok(())
    }

    /// Reads on in a string that began at `start` and is plain up to `plain_until`.
    fn read_escaped(&mut self, start: usize, plain_until: usize) -> JsonResult<String> {
        let mut text = String::new();
        let (mut start, mut end) = (start, plain_until);
        loop {
            self.count_text(end - start + 1)?;
            text.push_str(self.slice(start, end));
            self.position = end;
            match self.text.as_bytes().get(end) {
                Some(b'"') => {
                    self.position = end + 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.read_escape()?),
                Some(&control) if self.tolerant => {
                    self.repairs += 1;
                    self.position += 1;
                    text.push(char::from(control));
                }
                Some(&control) => return Err(self.error(JsonReason::ControlCharacter(control))),
                None => return Err(self.unexpected("the string's closing quote")),
            }
            start = self.position;
            end = plain_end(self.text.as_bytes(), start);
        }
    }

    /// Reads the escape that begins here.
    fn read_escape(&mut self) -> JsonResult<char> {
        let escaped = match self.text.as_bytes().get(self.position + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.read_unicode_escape(),
            Some(_) => return self.repaired(JsonReason::UnknownEscape, '\\', 1),
            None => {
                self.position += 1;
                return Err(self.unexpected("an escaped character"));
            }
        };
        self.position += 2;
        Ok(escaped)
    }

    /// Reads the `\uXXXX` that begins here, with its second half when it is a surrogate's first.
    fn read_unicode_escape(&mut self) -> JsonResult<char> {
        let Some(unit) = self.code_unit(self.position) else {
            return self.repaired(JsonReason::UnknownEscape, '\\', 1);
        };
        let code_point = if let 0xd800..=0xdbff = unit {
            match self.code_unit(self.position + 6) {
                Some(low @ 0xdc00..=0xdfff) => 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00),
                _ => {
                    return self.repaired(
                        JsonReason::LoneSurrogate,
                        char::REPLACEMENT_CHARACTER,
                        6,
                    );
                }
            }
        } else {
            unit
        };
        let Some(escaped) = char::from_u32(code_point) else {
            return self.repaired(JsonReason::LoneSurrogate, char::REPLACEMENT_CHARACTER, 6);
        };
        self.position += if code_point > 0xffff { 12 } else { 6 };
        Ok(escaped)
    }

    /// The number in the `\uXXXX` at `position`, when one stands there.
    fn code_unit(&self, position: usize) -> Option<u32> {
        let digits = self
            .text
            .get(position..position + 6)?
            .strip_prefix("\\u")
            // `from_str_radix` takes a sign as well.
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    }

    /// Reads `bytes` bytes that are damaged as `char`, if this reader repairs.
    #[cold]
    fn repaired(&mut self, reason: JsonReason, char: char, bytes: usize) -> JsonResult<char> {
        if !self.tolerant {
            return Err(self.error(reason));
        }
        self.repairs += 1;
        self.position += bytes;
        Ok(char)
    }

    #[cold]
    fn error(&self, reason: JsonReason) -> JsonError {
        JsonError::new(self.position, reason)
    }

    #[cold]
    fn unexpected(&self, expected: &'static str) -> JsonError {
        let found = self.text.get(self.position..).unwrap_or_default();
        self.error(match found.chars().next() {
            Some(found) => JsonReason::Unexpected { expected, found },
            None => JsonReason::UnexpectedEnd { expected },
        })
    }

    /// Adds the key that stands at `key_start`. It is read a second time, for lines without errors
    /// must not pay for keeping it.
    #[cold]
    fn under_key_at(&self, error: JsonError, key_start: usize) -> JsonError {
        let mut again = Reader {
            position: key_start,
            passed: HashMap::new(),
            ..*self
        };
        match again.read_string() {
            Ok(key) => error.under_key(&key),
            Err(_) => error,
        }
    }
}

impl Kind {
    fn of_first_byte(byte: u8) -> Option<Kind> {
        match byte {
            b'n' => Some(Kind::Null),
            b't' | b'f' => Some(Kind::Bool),
            b'-' | b'0'..=b'9' => Some(Kind::Number),
            b'"' => Some(Kind::String),
            b'[' => Some(Kind::Array),
            b'{' => Some(Kind::Object),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        })
    }
}

impl<'a> Number<'a> {
    /// The number that `text` is, when it is a JSON number and nothing else.
    pub(crate) fn new(text: &'a str) -> Option<Number<'a>> {
        is_number(text).then_some(Number(text))
    }

    /// The number as it was written.
    pub(crate) fn text(self) -> &'a str {
        self.0
    }

    /// Its value, when it is written as an integer and fits.
    pub(crate) fn as_i64(self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// Its value, when it is written as an integer without a sign and fits.
    pub(crate) fn as_u64(self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// The nearest `f64`, when the number is within its finite range.
    pub(crate) fn as_f64(self) -> Option<f64> {
        self.0.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::value::read_value, *};

    fn skip(line: &[u8]) -> JsonResult<()> {
        let mut reader = Reader::new(line)?;
        reader.skip_value()?;
        reader.finish()
    }

    fn read(line: &[u8]) -> JsonResult<()> {
        let mut reader = Reader::new(line)?;
        read_value(&mut reader)?;
        reader.finish()
    }

    fn string(line: &str) -> JsonResult<String> {
        let mut reader = Reader::new(line.as_bytes())?;
        let text = reader.read_string()?.into_owned();
        reader.finish().map(|()| text)
    }

    #[test]
    fn takes_every_form_of_the_grammar() {
        for line in [
            "null",
            " true ",
            "false",
            "-0.5e+3",
            r#""""#,
            "[]",
            "{}",
            "[ 1 , [ ] , { } ]",
            "\t{\r\n\"a\" : [1,2] , \"a\":null}\n",
            r#"{"":{"é":"\u00e9\ud83d\ude00"}}"#,
        ] {
            assert!(skip(line.as_bytes()).is_ok(), "{line}");
        }
    }

    #[test]
    fn refuses_what_is_not_json_and_says_where() {
        for (line, offset, message) in [
            ("", 0, "expected a value, found the end of the line"),
            ("  ", 2, "expected a value, found the end of the line"),
            ("nul", 0, "expected a value, found 'n'"),
            ("True", 0, "expected a value, found 'T'"),
            ("NaN", 0, "expected a value, found 'N'"),
            ("'a'", 0, "expected a value, found '\\''"),
            ("[1,]", 3, "expected a value, found ']'"),
            ("[1 2]", 3, "expected ',' or ']', found '2'"),
            ("[1", 2, "expected ',' or ']', found the end of the line"),
            ("{\"a\":1,}", 7, "expected a key in quotes, found '}'"),
            ("{a:1}", 1, "expected a key in quotes, found 'a'"),
            ("{\"a\" 1}", 5, "expected ':', found '1'"),
            ("{\"a\":1 // no\n}", 7, "expected ',' or '}', found '/'"),
            ("01", 1, "malformed number"),
            ("1.", 2, "malformed number"),
            ("-", 1, "malformed number"),
            ("+1", 0, "expected a value, found '+'"),
            ("{} {}", 3, "more text behind the value"),
            ("1 1", 2, "more text behind the value"),
            ("\"a\nb\"", 2, "control character U+000A"),
            ("\"\\x\"", 1, "unknown escape"),
            ("\"\\u12g4\"", 1, "unknown escape"),
            ("\"\\u+123\"", 1, "unknown escape"),
            ("\"\\u12é\"", 1, "unknown escape"),
            ("\"\\ud800\"", 1, "half of a surrogate pair"),
            ("\"\\ud800\\u0041\"", 1, "half of a surrogate pair"),
            ("\"\\udc00\"", 1, "half of a surrogate pair"),
            ("\"ab", 3, "expected the string's closing quote"),
            ("\"ab\\", 4, "expected an escaped character"),
            ("\u{feff}{}", 0, "expected a value, found '\\u{feff}'"),
        ] {
            let error = skip(line.as_bytes()).expect_err(line);
            assert_eq!(error.offset(), offset, "{line}: {error}");
            assert!(error.to_string().starts_with(message), "{line}: {error}");
        }
        let error = skip(b"{\"a\":\"\xff\"}").expect_err("UTF-8");
        assert!(matches!(error.reason(), JsonReason::InvalidUtf8));
        assert_eq!(error.offset(), 6);
    }

    #[test]
    fn an_error_names_its_path() {
        let error = read(br#"{"a":[1,{"b\n":{"c":tru}}]}"#).expect_err("tru");
        assert_eq!(error.path(), r#"a[1]["b\n"].c"#);
        assert_eq!(error.offset(), 20);
    }

    #[test]
    fn nesting_is_bounded_at_its_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let max = NESTING_MAX as usize;
        assert!(read(nested(max).as_bytes()).is_ok());
        let error = read(nested(max + 1).as_bytes()).expect_err("too deep");
        assert!(matches!(error.reason(), JsonReason::TooDeep { .. }));
        assert_eq!(error.offset(), max);
        assert!(read("[".repeat(1_000_000).as_bytes()).is_err());
        // What was closed counts no more.
        assert!(read(format!("[{}[]]", "[[]],".repeat(200)).as_bytes()).is_ok());
        // What is skipped takes no stack.
        assert!(skip(nested(1_000_000).as_bytes()).is_ok());
        assert!(skip("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn damaged_text_is_repaired_and_counted() {
        for (line, text) in [
            (r#""smile \ud83d""#, "smile \u{fffd}"),
            (r#""\ud83d\u0041\udc00""#, "\u{fffd}A\u{fffd}"),
            ("\"a\tb\u{1}\"", "a\tb\u{1}"),
            (r#""C:\dir\u12""#, r"C:\dir\u12"),
        ] {
            let mut reader = Reader::tolerant(line, 1);
            assert_eq!(reader.read_string().expect("a string"), text);
            assert!(reader.repairs() > 0, "{line}");
            reader.finish().expect("nothing else");
        }
        let mut reader = Reader::tolerant(r#"[[1,[]],{"a":{"b":1}},NaN,-Infinity,-1]"#, 2);
        let value = read_value(&mut reader).expect("values");
        let debug = format!("{value:?}");
        assert_eq!(
            debug,
            "Array([Array([Int(1), Null]), Object([(\"a\", Null)]), Float(NaN), Float(-inf), Int(-1)])"
        );
        assert_eq!(reader.repairs(), 4);
    }

    #[test]
    fn a_value_is_checked_over_several_texts() {
        let mut skim = Skim::default();
        for (text, complete) in [
            ("{", false),
            ("  \"a\"", false),
            (":", false),
            ("[1,", false),
            ("{}]", false),
            (",\"b\":\"}\\\"\"", false),
            ("} {", true),
        ] {
            let mut reader = Reader::tolerant(text, 1);
            assert_eq!(reader.skim(&mut skim).expect(text), complete, "{text}");
        }
        for text in [
            "{\"a", "{1", "{\"a\" 1", "[1 2", "}", "[}", "{]", "[1,]", "tru",
        ] {
            let mut reader = Reader::tolerant(text, 1);
            assert!(reader.skim(&mut Skim::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_that_expands_is_refused() {
        let line = format!("[{}0]", "0,".repeat(1000));
        let mut reader = Reader::tolerant(&line, 1);
        reader.allow(1000, usize::MAX);
        let error = read_value(&mut reader).expect_err("1001 items");
        assert!(matches!(error.reason(), JsonReason::TooManyValues));
    }

    #[test]
    fn more_text_than_a_record_has_is_refused() {
        for text in [r#""0123456789""#, r#"{"01234":"56789"}"#, r#""01234\678""#] {
            let read = |bytes| {
                let mut reader = Reader::tolerant(text, 2);
                reader.allow(10, bytes);
                read_value(&mut reader)
            };
            read(10).expect("it fits");
            let error = read(9 - text.matches('\\').count()).expect_err("it is longer");
            assert!(matches!(error.reason(), JsonReason::TooMuchText), "{text}");
        }
    }

    #[test]
    fn what_was_passed_over_is_passed_over_again_with_its_end() {
        let long = format!(
            "[[\"]\\\"\",{{\"k\":[{}1]}}],\"x\"]",
            "1,".repeat(LONG_BYTES)
        );
        let text = format!("{{\"a\": {long} ,\"b\":[{long}],\"c\":{{\"d\":{long}}},\"e\":7}} true");
        let mut reader = Reader::new(text.as_bytes()).unwrap();
        for _ in 0..2 {
            reader.go_to(Mark::default());
            reader.skip_value().unwrap();
            assert_eq!(reader.rest().trim(), "true");
        }
        reader.go_to(Mark::default());
        let mut values = Vec::new();
        let entry = |reader: &mut Reader<'_>, key: Cow<'_, str>| {
            let start = reader.mark();
            reader.skip_value()?;
            values.push((key.into_owned(), reader.since(start).trim().to_owned()));
            Ok(())
        };
        reader.read_object(entry).unwrap();
        let expected = [
            ("a", long.clone()),
            ("b", format!("[{long}]")),
            ("c", format!("{{\"d\":{long}}}")),
            ("e", "7".to_owned()),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value));
        assert_eq!(values, expected);
        assert!(!reader.passed.is_empty());
        assert_eq!(reader.rest().trim(), "true");
    }

    #[test]
    fn strings_are_unescaped_and_borrowed_when_they_can_be() {
        let mut reader = Reader::new(br#"["plain","a\"\\\/\b\f\n\r\t\u0041\u20ac\uD83D\uDE00z"]"#)
            .expect("UTF-8");
        let mut strings = Vec::new();
        reader
            .read_array(|reader, _| {
                strings.push(reader.read_string()?);
                Ok(())
            })
            .expect("two strings");
        assert!(matches!(strings[0], Cow::Borrowed("plain")));
        assert_eq!(strings[1], "a\"\\/\u{8}\u{c}\n\r\tA€😀z");
        assert_eq!(string("\"\\u0000\"").expect("NUL"), "\0");
    }

    #[test]
    fn objects_show_every_entry_in_order() {
        let mut reader = Reader::new(br#"{"b":1,"a":2,"b":3}"#).expect("UTF-8");
        let mut seen = Vec::new();
        reader
            .read_object(|reader, key| {
                seen.push((key.into_owned(), reader.read_number()?.as_i64()));
                Ok(())
            })
            .expect("an object");
        let expected = [("b", 1), ("a", 2), ("b", 3)].map(|(k, v)| (k.to_owned(), Some(v)));
        assert_eq!(seen, expected);
    }

    #[test]
    fn numbers_keep_their_text() {
        let number = |text: &'static str| {
            let mut reader = Reader::new(text.as_bytes()).expect("UTF-8");
            reader.read_number().expect("a number")
        };
        assert_eq!(number("18446744073709551616").as_u64(), None);
        assert_eq!(number("18446744073709551615").as_u64(), Some(u64::MAX));
        assert_eq!(number("-9223372036854775808").as_i64(), Some(i64::MIN));
        assert_eq!(number("1.0").as_i64(), None);
        assert_eq!(number("1e400").as_f64(), None);
        assert_eq!(number("1e400").text(), "1e400");
    }

    #[test]
    fn a_value_of_another_kind_is_named() {
        let mut reader = Reader::new(b"{}").expect("UTF-8");
        let error = reader.read_string().expect_err("an object");
        assert_eq!(
            error.to_string(),
            "expected a string, found an object at byte 0"
        );
        let error = reader.read_number().expect_err("an object");
        assert_eq!(
            error.to_string(),
            "expected a number, found an object at byte 0"
        );
    }
}
