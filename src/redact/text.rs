//! Secrets in one string.

use super::{
    Rules,
    literals::{self, Keyword, Literal, PLACEHOLDER},
    names::{KeyNames, key_names},
    shapes::Shape,
};
use std::ops::Range;

/// How often a string is searched again after something in it was replaced.
const PASSES_MAX: usize = 8;
/// Quotes after more backslashes than this are taken for part of a value: JSON that was escaped
/// five times has 31.
const ESCAPES_MAX: usize = 31;
/// How far a key in text goes on before and after a keyword.
const KEY_BYTES_MAX: usize = 64;
/// The most bytes of a short text.
const SHORT_BYTES_MAX: usize = 64;
/// More than the longest of [`SCHEMES`] has.
const SCHEME_BYTES_MAX: usize = 24;
/// A `key` in the query of a URL is a secret from this length on.
const QUERY_KEY_BYTES_MIN: usize = 16;

/// A number of so few digits is a count.
const COUNT_BYTES_MAX: usize = 3;
/// How long the name before `("…")` is at most.
const NAME_BYTES_MAX: usize = 16;
/// How many doubled quotes a value in YAML has at most.
const DOUBLED_QUOTES_MAX: usize = 8;

/// Words that are no value of the option of a command line before them.
const PROSE_AFTER_OPTIONS: &[&str] = &[
    "flag",
    "flags",
    "option",
    "options",
    "argument",
    "arguments",
    "parameter",
    "value",
    "is",
    "was",
    "to",
    "or",
    "and",
    "for",
    "in",
    "with",
    "from",
    "on",
    "not",
    "if",
    "when",
    "must",
    "can",
    "cannot",
    "requires",
    "has",
    "as",
    "instead",
];

/// Names after which `Authorization:` has a value: they stay.
const SCHEMES: &[&str] = &[
    "basic",
    "bearer",
    "digest",
    "negotiate",
    "ntlm",
    "hoba",
    "mutual",
    "oauth",
    "token",
    "apikey",
    "api-key",
    "key",
    "jwt",
    "dpop",
    "gnap",
    "hawk",
    "vapid",
    "sharedkey",
    "bot",
    "splunk",
    "aws4-hmac-sha256",
    "scram-sha-1",
    "scram-sha-256",
];

/// Which rules apply to a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Apply {
    /// Keywords, shapes and registered values.
    All,
    /// Shapes and registered values.
    Shapes,
}

impl Rules {
    /// Replaces the secrets in `text`, and says whether there were any.
    pub(super) fn redact_text(&self, text: &mut String, apply: Apply) -> bool {
        match self.redacted(text.as_bytes(), apply) {
            Some(redacted) => {
                // Ranges begin and end at ASCII characters or around whole values, so what is left
                // of UTF-8 is UTF-8.
                *text = String::from_utf8(redacted).unwrap_or_else(|_| PLACEHOLDER.to_owned());
                true
            }
            None => false,
        }
    }

    /// Replaces the secrets in `bytes`, in which keywords count if they are text, and says whether
    /// there were any.
    pub(super) fn redact_bytes(&self, bytes: &mut Vec<u8>) -> bool {
        if !self.may_contain_secret(bytes) {
            return false;
        }
        let is_text = std::str::from_utf8(bytes).is_ok();
        let apply = if is_text { Apply::All } else { Apply::Shapes };
        match self.redacted(bytes, apply) {
            Some(redacted) => {
                *bytes = redacted;
                true
            }
            None => false,
        }
    }

    /// Whether `text` has secrets.
    pub(super) fn finds(&self, text: &[u8], apply: Apply) -> bool {
        self.pass(text, apply).is_some()
    }

    /// `text` without its secrets, unless it has none.
    fn redacted(&self, text: &[u8], apply: Apply) -> Option<Vec<u8>> {
        // A short text takes no longer to search than to ask whether that is needed.
        if text.len() > SHORT_BYTES_MAX && !self.may_contain_secret(text) {
            return None;
        }
        let mut redacted = self.pass(text, apply)?;
        // What is replaced can be a part of what surrounds it, such as the quote that ended another
        // value, so the result may have a secret in its turn.
        for _ in 1..PASSES_MAX {
            match self.pass(&redacted, apply) {
                Some(again) => redacted = again,
                None => return Some(redacted),
            }
        }
        Some(PLACEHOLDER.into())
    }

    fn pass(&self, text: &[u8], apply: Apply) -> Option<Vec<u8>> {
        let mut finder = Finder::new(text);
        for (literal, range) in literals::find(text) {
            match literal {
                Literal::Keyword(keyword) if apply == Apply::All => finder.keyword(keyword, range),
                // In a key too: a URL with a token is one, whatever it stands for.
                Literal::Keyword(keyword) if finder.in_query(range.start) => {
                    finder.keyword(keyword, range);
                }
                Literal::Keyword(_) => {}
                Literal::Shape(shape) => finder.shape(shape, range),
                Literal::Placeholder => finder.ranges.push(range),
            }
        }
        if self.values.find(text, &mut finder.ranges).is_err() {
            finder.push(0..text.len());
        }
        finder.replaced()
    }
}

/// Finds the ranges of a text that are replaced. It looks at each byte a bounded number of times,
/// whatever the text: the length of a record is the only bound that whoever writes it obeys.
struct Finder<'a> {
    text: &'a [u8],
    /// What is replaced. A placeholder is, by itself; so a value that is a part of it leaves it be.
    ranges: Vec<Range<usize>>,
    /// Where the last secret that was known by its shape ends.
    shapes_from: usize,
    /// From where on a bracket is looked for.
    brackets_from: usize,
    /// From where on a block of YAML is looked for.
    blocks_from: usize,
    /// The rest of the text is replaced from here on.
    cut: usize,
    /// The parameters after the last `Authorization:`, which are replaced.
    parameters: Range<usize>,
    /// A quote that ends a word, and where the backslashes before it begin.
    escapes: (usize, usize),
    word_end: NextEnd,
    json_end: NextEnd,
    query_end: NextEnd,
    line_end: NextEnd,
    name_end: NextEnd,
    element_end: NextEnd,
    encoded_end: NextEnd,
}

/// The last two searches for the end of a word, each of which is the answer for everything inside
/// that word. Two, because `Authorization:` takes two words.
#[derive(Default)]
struct NextEnd {
    searched: [Range<usize>; 2],
}

impl NextEnd {
    /// Where `ends` first holds from `start` on.
    fn find(&mut self, text: &[u8], start: usize, ends: impl Fn(usize, u8) -> bool) -> usize {
        let known =
            |range: &&Range<usize>| !range.is_empty() && (range.start..=range.end).contains(&start);
        if let Some(range) = self.searched.iter().find(known) {
            return range.end;
        }
        let rest = text.iter().enumerate().skip(start);
        let end = rest
            .map(|(at, byte)| (at, *byte))
            .find(|(at, byte)| ends(*at, *byte));
        let end = end.map_or(text.len(), |(at, _)| at).max(start);
        let [last, _] = std::mem::take(&mut self.searched);
        self.searched = [start..end, last];
        end
    }
}

impl<'a> Finder<'a> {
    fn new(text: &'a [u8]) -> Finder<'a> {
        Finder {
            text,
            ranges: Vec::new(),
            shapes_from: 0,
            brackets_from: 0,
            blocks_from: 0,
            cut: usize::MAX,
            parameters: 0..0,
            escapes: (0, 0),
            word_end: NextEnd::default(),
            json_end: NextEnd::default(),
            query_end: NextEnd::default(),
            line_end: NextEnd::default(),
            name_end: NextEnd::default(),
            element_end: NextEnd::default(),
            encoded_end: NextEnd::default(),
        }
    }

    /// Takes in the secret that begins with the literal at `literal`.
    fn shape(&mut self, shape: Shape, literal: Range<usize>) {
        if literal.start < self.shapes_from {
            return;
        }
        if let Some(range) = shape.find(self.text, literal) {
            self.shapes_from = range.end;
            self.push(range);
        }
    }

    /// Takes in what follows the keyword at `range`.
    fn keyword(&mut self, keyword: Keyword, range: Range<usize>) {
        let at = range.end;
        if at >= self.cut {
            return;
        }
        match keyword {
            Keyword::Bearer => {
                let value = self.skip(at, is_space);
                if value > at {
                    self.bearer(value);
                }
                return;
            }
            Keyword::Parameter => {
                // `Pwd` is one of a connection string as well.
                let word = self.word_start(range.start);
                let in_connection = word == range.start
                    && self.slice(0, word).ends_with(b";")
                    && self.slice(word, at).eq_ignore_ascii_case(b"pwd=");
                if in_connection || self.in_query(range.start) {
                    self.parameter(at, 1);
                }
                return;
            }
            Keyword::Part => {
                if self.byte(at) == Some(b'=') && self.in_query(range.start) {
                    self.parameter(at + 1, QUERY_KEY_BYTES_MIN);
                    return;
                }
                // `authorization` is a keyword of its own.
                if !self
                    .slice(at, at + b"orization".len())
                    .eq_ignore_ascii_case(b"orization")
                {
                    self.key(range);
                }
                return;
            }
            _ => {}
        }
        let plural = keyword == Keyword::Credential && matches!(self.byte(at), Some(b's' | b'S'));
        let closed = self.skip(at + usize::from(plural), |byte| {
            matches!(byte, b'\\' | b'"' | b'\'' | b'`' | b']' | b')')
        });
        let key_is_quoted = self.slice(at, closed).iter().copied().any(is_quote);
        let separator = self.skip(closed, is_space);
        let mut after = self.skip(separator, |byte| matches!(byte, b'=' | b':'));
        if after == separator {
            let pair = key_is_quoted && self.pair(keyword, separator);
            if !pair
                && !self.option(range.start, closed, key_is_quoted)
                && !self.element(range.start, at)
            {
                self.encoded(at);
                self.key(range);
            }
            return;
        }
        if self.is_no_key(&range) {
            return;
        }
        if self.byte(after) == Some(b'>') {
            after += 1;
        }
        let value = self.skip(after, is_space);
        match keyword {
            Keyword::Authorization => self.authorization(range.start, value, key_is_quoted),
            Keyword::Cookie if key_is_quoted => self.value(value, true),
            Keyword::Cookie => {
                if self.byte(separator) == Some(b':') {
                    self.cookie(range.start, value);
                }
            }
            _ if !key_is_quoted && self.in_query(range.start) => self.parameter(value, 1),
            _ if self.is_no_secret(&range, value) => {}
            _ => self.value(value, key_is_quoted),
        }
    }

    /// Whether the keyword at `range` stands in one of the phrases in which it announces nothing.
    fn is_no_key(&self, range: &Range<usize>) -> bool {
        let before = self.slice(range.start.saturating_sub("unexpected ".len()), range.start);
        match self.byte(range.start) {
            Some(b't' | b'T') => before.eq_ignore_ascii_case(b"unexpected "),
            Some(b'p' | b'P') => before.ends_with(b"/etc/"),
            _ => false,
        }
    }

    /// Whether the value at `start` of the keyword at `range` is none: a truth value, null, or a
    /// small number beside what is counted, such as tokens and secrets.
    fn is_no_secret(&self, range: &Range<usize>, start: usize) -> bool {
        let end = start
            + run_length(self.slice(start, start + 10), |byte| {
                byte.is_ascii_alphanumeric()
            });
        let ends = self
            .byte(end)
            .is_none_or(|byte| is_space(byte) || b",;)}]".contains(&byte));
        let word = self.slice(start, end);
        let is_password = matches!(self.byte(range.start), Some(b'p' | b'P'));
        let is_count = word.len() <= COUNT_BYTES_MAX && word.iter().all(u8::is_ascii_digit);
        ends && !word.is_empty()
            && ((is_count && !is_password)
                || [
                    &b"true"[..],
                    b"false",
                    b"null",
                    b"nil",
                    b"none",
                    b"undefined",
                ]
                .iter()
                .any(|none| word.eq_ignore_ascii_case(none)))
    }

    /// Takes in the value of an entry whose name ends before `start`, and says whether that is one:
    /// `"name":"Authorization","value":"…"`, `name="password" value="…"`, `["Authorization","…"]`.
    fn pair(&mut self, keyword: Keyword, start: usize) -> bool {
        let comma = start + usize::from(self.byte(start) == Some(b','));
        let next = self.skip(comma, |byte| {
            is_space(byte) || is_quote(byte) || byte == b'\\'
        });
        let name = self.slice(next, next + b"value".len());
        if name.eq_ignore_ascii_case(b"value") {
            let closed = next + name.len();
            let closed = self.skip(closed, |byte| {
                byte == b'\\' || is_quote(byte) || is_space(byte)
            });
            let value = self.skip(closed, |byte| matches!(byte, b'=' | b':') || is_space(byte));
            let Some((content, _)) = self.quoted(value).filter(|_| value > closed) else {
                return false;
            };
            self.push(content);
            return true;
        }
        let is_header = matches!(keyword, Keyword::Authorization | Keyword::Cookie);
        let value = self.skip(comma, is_space);
        match self.quoted(value) {
            Some((content, _)) if is_header && comma > start => {
                self.push(content);
                true
            }
            _ => false,
        }
    }

    /// Takes in the value of an option on a command line that the keyword at `keyword` ends, and says
    /// whether that is one: `--password x`, `"--password","x"`.
    fn option(&mut self, keyword: usize, closed: usize, is_quoted: bool) -> bool {
        let follows = self
            .byte(closed)
            .is_some_and(|byte| b" \t,".contains(&byte));
        if !follows
            || !self
                .slice(self.word_start(keyword), keyword)
                .starts_with(b"--")
        {
            return false;
        }
        let spaces = self.skip(closed, |byte| matches!(byte, b' ' | b'\t'));
        let comma = is_quoted && self.byte(spaces) == Some(b',');
        let start = self.skip(spaces + usize::from(comma), is_space);
        let quoted = self.quoted(start);
        if is_quoted && (!comma || quoted.is_none()) || start == closed {
            return false;
        }
        if let Some((content, _)) = quoted {
            self.push(content);
            return true;
        }
        let end = self.word_end(start, false);
        let word = self.slice(start, end);
        let is_prose = word.first().is_none_or(|byte| b"-<[|&>$".contains(byte))
            || word
                .iter()
                .all(|byte| byte.is_ascii_uppercase() || b"_]".contains(byte))
            || PROSE_AFTER_OPTIONS
                .iter()
                .any(|prose| word.eq_ignore_ascii_case(prose.as_bytes()));
        if !is_prose {
            self.push(start..end);
        }
        !is_prose
    }

    /// Takes in the text of an XML element whose name the keyword at `keyword` ends at `end`, and says
    /// whether that is one.
    fn element(&mut self, keyword: usize, end: usize) -> bool {
        if self.byte(end) != Some(b'>') {
            return false;
        }
        let before = self.slice(keyword.saturating_sub(KEY_BYTES_MAX), keyword);
        let mut name = before.iter().rev();
        let is_in_name = |byte: &u8| is_in_key(*byte) || *byte == b':';
        if name.find(|byte| !is_in_name(byte)) != Some(&b'<') {
            return false;
        }
        let text = self.text;
        let close = self.element_end.find(text, end + 1, |_, byte| byte == b'<');
        let is_element = self.byte(close + 1) == Some(b'/');
        if is_element {
            self.push(end + 1..close);
        }
        is_element
    }

    /// Takes in the value of a parameter in a URL that is encoded in a URL: `token%3D…`.
    fn encoded(&mut self, at: usize) {
        let value = at + b"%3D".len();
        if !self.slice(at, value).eq_ignore_ascii_case(b"%3D") {
            return;
        }
        let text = self.text;
        let end = self.encoded_end.find(text, value, |at, byte| {
            ends_parameter(byte) || byte == b'%' && text.get(at + 1..at + 3) == Some(b"26")
        });
        self.push(value..end);
    }

    /// Takes in the value of a key that a keyword is only a part of: `"OPENAI_KEY":"…"` in JSON and
    /// `OPENAI_KEY=…` of an environment.
    fn key(&mut self, part: Range<usize>) {
        let rest = self.slice(part.end, part.end + KEY_BYTES_MAX);
        let end = part.end + run_length(rest, is_in_key);
        let closed = self.skip(end, |byte| byte == b'\\' || is_quote(byte));
        let is_quoted = self.slice(end, closed).iter().copied().any(is_quote);
        let separator = self.skip(closed, is_space);
        let after = self.skip(separator, |byte| matches!(byte, b'=' | b':'));
        if after == separator {
            return;
        }
        let name = self.slice(self.word_start(part.start), end);
        // `OPENAI_KEY=…` or `OPENAI_KEY: …`, while `AUTH: …` is prose.
        let is_environment = separator == end
            && name.iter().any(u8::is_ascii_uppercase)
            && !name
                .iter()
                .any(|byte| byte.is_ascii_lowercase() || *byte == b'.')
            && (self.byte(separator) == Some(b'=') || name.contains(&b'_'));
        if !is_quoted && !is_environment {
            return;
        }
        let value = self.skip(after, is_space);
        let names = std::str::from_utf8(name).map_or(KeyNames::Nothing, key_names);
        if names != KeyNames::Secret {
            return;
        }
        // A number or an object in JSON is no text.
        if !is_quoted || self.quoted(value).is_some() {
            self.value(value, is_quoted);
        }
    }

    /// Takes in the value that begins at `start`: what is quoted, what is in brackets, or a word.
    fn value(&mut self, start: usize, key_is_quoted: bool) {
        if self.block(start) {
            return;
        }
        // `Some("…")`
        let name = self.slice(start, start + NAME_BYTES_MAX);
        let name = start + run_length(name, |byte| byte.is_ascii_alphanumeric());
        let in_parentheses = (self.byte(name) == Some(b'(')).then(|| self.quoted(name + 1));
        if let Some((content, _)) = in_parentheses.flatten() {
            self.push(content);
            return;
        }
        let end = if let Some((mut content, mut end)) = self.quoted(start) {
            // In YAML a doubled quote is one in the text.
            for _ in 0..DOUBLED_QUOTES_MAX {
                if self.byte(start) != Some(b'\'') || self.byte(end) != Some(b'\'') {
                    break;
                }
                let Some((more, next)) = self.quoted(end) else {
                    break;
                };
                (content.end, end) = (more.end, next);
            }
            self.push(content);
            end
        } else if let Some(end) = self.bracketed(start) {
            self.push(start..end);
            end
        } else {
            start
        };
        // In JSON a quote or a bracket ends the value. In a shell more of it may follow.
        let ended = end > start
            && (key_is_quoted
                || self
                    .byte(end)
                    .is_none_or(|byte| is_quote(byte) || b"\\,;:&)}]>|".contains(&byte)));
        if !ended {
            let word_end = self.word_end(end, key_is_quoted);
            self.push(end..word_end);
        }
    }

    /// Takes in the lines of a block of YAML, `|` and further lines that are indented, if `start` is
    /// where one begins.
    fn block(&mut self, start: usize) -> bool {
        if start < self.blocks_from || !matches!(self.byte(start), Some(b'|' | b'>')) {
            return false;
        }
        let head = self.skip(start + 1, |byte| matches!(byte, b'+' | b'-' | b'0'..=b'9'));
        let lines = self.skip(head, |byte| matches!(byte, b' ' | b'\r'));
        if self.byte(lines) != Some(b'\n') {
            return false;
        }
        let is_blank = |byte| matches!(byte, b' ' | b'\t');
        let first = self.skip(lines + 1, is_blank);
        let indent = first - (lines + 1);
        let mut end = first;
        let mut line = lines + 1;
        while indent > 0 && self.skip(line, is_blank) >= line + indent {
            let rest = self.text.get(line..).unwrap_or_default();
            let length = rest.iter().position(|byte| *byte == b'\n');
            end = length.map_or(self.text.len(), |length| line + length);
            line = end + 1;
        }
        self.blocks_from = end;
        self.push(first..end);
        end > first
    }

    /// Takes in the value that follows `Bearer`. It ends with no bracket: one that does is around it.
    fn bearer(&mut self, start: usize) {
        let opens = |byte| is_quote(byte) || matches!(byte, b'\\' | b'[' | b'{');
        if self.byte(start).is_some_and(opens) {
            self.value(start, false);
            return;
        }
        let end = self.word_end(start, false);
        let word = self.slice(start, end);
        let last = word.iter().rposition(|byte| !b"])}".contains(byte));
        self.push(start..start + last.map_or(0, |at| at + 1));
    }

    /// Takes in the value of a parameter in the query of a URL, if it has at least `bytes_min`.
    fn parameter(&mut self, start: usize, bytes_min: usize) {
        let end = self
            .query_end
            .find(self.text, start, |_, byte| ends_parameter(byte));
        if end >= start + bytes_min {
            self.push(start..end);
        }
    }

    /// Takes in what follows `Authorization:`: a scheme, which stays, and a value; or up to two
    /// words.
    fn authorization(&mut self, keyword: usize, start: usize, key_is_quoted: bool) {
        let content = if let Some((content, _)) = self.quoted(start) {
            Some(content)
        } else if let Some(end) = self.bracketed(start) {
            Some(start + 1..end - 1)
        } else if key_is_quoted {
            None
        } else {
            self.quote_around(keyword)
                .map(|end| start..self.line_end(start).min(end).max(start))
        };
        if let Some(content) = content {
            let words = self.slice(content.start, content.end);
            let words = words.get(..SCHEME_BYTES_MAX).unwrap_or(words);
            let scheme = words.iter().take_while(|byte| !is_space(**byte)).count();
            let scheme = content.start + scheme;
            let value = self.skip(scheme, is_space);
            if value < content.end && value > scheme && self.is_scheme(content.start..scheme) {
                self.push(value..content.end);
            } else {
                self.push(content);
            }
            return;
        }
        let first = self.word_end(start, key_is_quoted);
        let is_blank = |byte| matches!(byte, b' ' | b'\t');
        let value = self.skip(first, is_blank);
        let is_last = self.byte(value).is_none_or(is_space) || value == first;
        if is_last || self.slice(start, first).starts_with(PLACEHOLDER.as_bytes()) {
            self.push(start..first);
            return;
        }
        if !self.is_scheme(start..first) {
            let end = self.word_end(value, key_is_quoted);
            self.push(start..end);
            return;
        }
        if self.parameters.contains(&value) {
            return;
        }
        let mut end = self.parameter_end(value, key_is_quoted);
        // `Digest username="x", response="y"`: parameters, with commas between them.
        while end > value && self.byte(end - 1) == Some(b',') {
            let next = self.skip(end, is_blank);
            let next_end = self.parameter_end(next, key_is_quoted);
            if !self.slice(next, next_end).contains(&b'=') {
                break;
            }
            end = next_end;
        }
        self.parameters = value..end;
        self.push(value..end);
    }

    /// The end of the word at `start`, or of `name="…",` there.
    fn parameter_end(&mut self, start: usize, in_json: bool) -> usize {
        let end = self.word_end(start, in_json);
        let name = self.slice(start, end).iter().position(|byte| *byte == b'=');
        let opening = name.map(|at| start + at + 1);
        match opening.and_then(|at| self.quoted(at)) {
            Some((_, closed)) if closed > end || self.byte(closed) == Some(b',') => {
                closed + usize::from(self.byte(closed) == Some(b','))
            }
            _ => end,
        }
    }

    /// Takes in the cookies at `start`: to the end of the line, or of the quotes around it.
    fn cookie(&mut self, keyword: usize, start: usize) {
        let (start, line_end) = match self.bracketed(start) {
            Some(end) => (start + 1, end - 1),
            None => (start, self.line_end(start)),
        };
        let end = match self.quote_around(keyword) {
            Some(end) => line_end.min(end).max(start),
            None => line_end,
        };
        let name = self.name_end.find(self.text, start, |_, byte| {
            is_space(byte) || b"=;,\"".contains(&byte)
        });
        let is_cookie = name > start && self.byte(name) == Some(b'=') && name < end;
        if is_cookie || self.slice(start, end).starts_with(PLACEHOLDER.as_bytes()) {
            self.push(start..end);
        }
    }

    fn is_scheme(&self, word: Range<usize>) -> bool {
        SCHEMES.iter().any(|scheme| {
            self.slice(word.start, word.end)
                .eq_ignore_ascii_case(scheme.as_bytes())
        })
    }

    /// Where the key that the byte at `at` is a part of begins.
    fn word_start(&self, at: usize) -> usize {
        let before = self.slice(at.saturating_sub(KEY_BYTES_MAX), at);
        at - before
            .iter()
            .rev()
            .take_while(|byte| is_in_key(**byte))
            .count()
    }

    /// Whether the name at `at` is that of a parameter in the query of a URL.
    fn in_query(&self, at: usize) -> bool {
        let start = self.word_start(at);
        match self.slice(0, start) {
            [.., b'?' | b'&'] | [.., b'&', b'a', b'm', b'p', b';'] => true,
            // `&` in JSON that is fit for HTML.
            [.., b'\\'] => self.slice(start, at).starts_with(b"u0026"),
            _ => false,
        }
    }

    /// Where the quotes close that open right before the word that holds the byte at `at`.
    fn quote_around(&self, at: usize) -> Option<usize> {
        let start = self.word_start(at);
        let quote = self
            .byte(start.checked_sub(1)?)
            .filter(|byte| is_quote(*byte))?;
        let before = self.slice(0, start - 1);
        let escapes = before
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count();
        if escapes > ESCAPES_MAX {
            return None;
        }
        self.closing(start, quote, escapes)
            .map(|(content, _)| content.end)
    }

    /// What stands in the quotes that open at `start`, and where they end. Quotes can be escaped, as
    /// in JSON inside of JSON: they close with a quote after no more backslashes than opened them.
    fn quoted(&self, start: usize) -> Option<(Range<usize>, usize)> {
        let opening = self.skip(start, |byte| byte == b'\\');
        let quote = self.byte(opening).filter(|byte| is_quote(*byte))?;
        let escapes = opening - start;
        if escapes > ESCAPES_MAX {
            return None;
        }
        let content = opening + 1;
        let open = (content..self.text.len(), self.text.len());
        Some(self.closing(content, quote, escapes).unwrap_or(open))
    }

    /// The content that begins at `content`, and the end of the quote that closes it.
    fn closing(&self, content: usize, quote: u8, escapes: usize) -> Option<(Range<usize>, usize)> {
        let mut backslashes = 0;
        for (index, byte) in self.text.iter().enumerate().skip(content) {
            if *byte == quote && backslashes <= escapes {
                return Some((content..(index - backslashes).max(content), index + 1));
            }
            backslashes = if *byte == b'\\' { backslashes + 1 } else { 0 };
        }
        None
    }

    /// Where the bracket that opens at `start` closes, if it does.
    fn bracketed(&mut self, start: usize) -> Option<usize> {
        let replaced = start + PLACEHOLDER.len();
        if self.slice(start, replaced) == PLACEHOLDER.as_bytes() {
            return Some(replaced);
        }
        if start < self.brackets_from || !matches!(self.byte(start), Some(b'{' | b'[')) {
            return None;
        }
        let mut depth = 0_usize;
        let mut in_quotes = false;
        let mut escaped = false;
        for (index, byte) in self.text.iter().enumerate().skip(start) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = in_quotes,
                b'"' => in_quotes = !in_quotes,
                b'{' | b'[' if !in_quotes => depth += 1,
                b'}' | b']' if !in_quotes => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                self.brackets_from = index + 1;
                return Some(index + 1);
            }
        }
        // Prose has lone brackets. Nothing after this one needs another search to the text's end.
        self.brackets_from = self.text.len();
        None
    }

    /// The end of the word that begins at `start`: a space, or quotes that close around it. A value
    /// in JSON without quotes ends sooner.
    fn word_end(&mut self, start: usize, in_json: bool) -> usize {
        let text = self.text;
        if in_json {
            return self.json_end.find(text, start, |_, byte| {
                is_space(byte) || matches!(byte, b',' | b'}' | b']')
            });
        }
        let end = self.word_end.find(text, start, |at, byte| {
            is_space(byte)
                || is_quote(byte)
                    && at > start
                    && text
                        .get(at + 1)
                        .is_none_or(|next| is_space(*next) || b"\\,;:&)}]>|".contains(next))
        });
        if !self.byte(end).is_some_and(is_quote) {
            return end;
        }
        if self.escapes.0 != end {
            let word = self.slice(0, end).iter().rev();
            let escapes = word.take_while(|byte| **byte == b'\\').count();
            self.escapes = (end, end - escapes);
        }
        self.escapes.1.max(start)
    }

    /// The end of the line, also of one that ends with `\n` in escapes.
    fn line_end(&mut self, start: usize) -> usize {
        let text = self.text;
        self.line_end.find(text, start, |at, byte| {
            matches!(byte, b'\n' | b'\r')
                || byte == b'\\' && matches!(text.get(at + 1), Some(b'n' | b'r'))
        })
    }

    /// Where `pass` stops being true, from `start` on.
    fn skip(&self, start: usize, pass: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.iter().take_while(|byte| pass(**byte)).count()
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        self.text
            .get(start..end.min(self.text.len()))
            .unwrap_or_default()
    }

    fn push(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if range.end == self.text.len() {
            self.cut = self.cut.min(range.start);
        }
        self.ranges.push(range);
    }

    /// The text with its ranges replaced, each run of ranges that touch by one placeholder. `None`
    /// when that changes nothing.
    fn replaced(mut self) -> Option<Vec<u8>> {
        if self.ranges.is_empty() {
            return None;
        }
        self.ranges.sort_unstable_by_key(|range| range.start);
        let mut out = Vec::with_capacity(self.text.len());
        let mut copied = 0;
        let mut ranges = self.ranges.iter().peekable();
        while let Some(range) = ranges.next() {
            let mut end = range.end;
            while let Some(next) = ranges.next_if(|next| next.start <= end) {
                end = end.max(next.end);
            }
            out.extend_from_slice(self.slice(copied, range.start));
            out.extend_from_slice(PLACEHOLDER.as_bytes());
            copied = end;
        }
        out.extend_from_slice(self.slice(copied, self.text.len()));
        (out != self.text).then_some(out)
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn ends_parameter(byte: u8) -> bool {
    is_space(byte) || is_quote(byte) || b"&#\\<>".contains(&byte)
}

/// How many bytes of `text` pass before the first that does not.
fn run_length(text: &[u8], pass: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| pass(**byte)).count()
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

fn is_in_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}
