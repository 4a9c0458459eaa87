//! Secrets in one string.

use super::Rules;
use std::ops::Range;

/// What stands where a secret stood.
pub(super) const PLACEHOLDER: &str = "[REDACTED]";

/// How often a string is searched again after something in it was replaced.
const PASSES_MAX: usize = 8;
/// Quotes behind more backslashes than this are taken for part of a value.
const ESCAPES_MAX: usize = 8;

/// What a keyword announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    /// `Authorization: <scheme> <value>`.
    Authorization,
    /// `Bearer <value>`.
    Bearer,
    /// `token=<value>`. Its own variant because `token` counts something as often as it names
    /// something.
    Token,
    /// `credential=<value>`, `credentials=<value>`.
    Credential,
    /// `password=<value>` and the like.
    Secret,
}

impl Keyword {
    pub(super) const ALL: [(&str, Keyword); 10] = [
        ("authorization", Keyword::Authorization),
        ("bearer", Keyword::Bearer),
        ("token", Keyword::Token),
        ("credential", Keyword::Credential),
        ("password", Keyword::Secret),
        ("passwd", Keyword::Secret),
        ("secret", Keyword::Secret),
        ("api_key", Keyword::Secret),
        ("api-key", Keyword::Secret),
        ("apikey", Keyword::Secret),
    ];
}

/// What a key says about the value beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyNames {
    /// Nothing.
    Nothing,
    /// A secret, if the value is text: `token_value` may be one, `token_count` is a number.
    SecretText,
    /// A secret.
    Secret,
}

/// Which rules apply to a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Apply {
    /// Keywords and registered values.
    All,
    /// Registered values alone.
    Values,
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

    /// Replaces the registered values in `bytes`, and says whether there were any.
    pub(super) fn redact_bytes(&self, bytes: &mut Vec<u8>) -> bool {
        match self.redacted(bytes, Apply::Values) {
            Some(redacted) => {
                *bytes = redacted;
                true
            }
            None => false,
        }
    }

    /// What `key` says about the value beside it.
    pub(super) fn key_names(&self, key: &str) -> KeyNames {
        let mut names = KeyNames::Nothing;
        for found in self.automaton.find_overlapping_iter(key) {
            match Keyword::ALL.get(found.pattern().as_usize()) {
                None => {}
                Some((_, Keyword::Token)) => match key.as_bytes().get(found.end()) {
                    None => return KeyNames::Secret,
                    // Tokens are counted.
                    Some(b's' | b'S') => {}
                    Some(_) => names = KeyNames::SecretText,
                },
                Some(_) => return KeyNames::Secret,
            }
        }
        names
    }

    /// `text` without its secrets, unless it has none.
    fn redacted(&self, text: &[u8], apply: Apply) -> Option<Vec<u8>> {
        if !self.may_contain_secret(text) {
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
        for found in self.automaton.find_overlapping_iter(text) {
            let pattern = found.pattern().as_usize();
            if let Some((_, keyword)) = Keyword::ALL.get(pattern) {
                if apply == Apply::All {
                    finder.keyword(*keyword, found.end());
                }
                continue;
            }
            // The automaton ignores case, a value does not.
            let value = match pattern.checked_sub(Keyword::ALL.len() + 1) {
                Some(index) => self.values.get(index).map_or("", String::as_str),
                None => PLACEHOLDER,
            };
            if text.get(found.range()) == Some(value.as_bytes()) {
                finder.ranges.push(found.range());
            }
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
    /// From where on a bracket is looked for.
    brackets_from: usize,
    word_end: NextEnd,
    json_end: NextEnd,
}

/// The last search for the end of a word, which is the answer for everything inside that word.
#[derive(Default)]
struct NextEnd {
    searched: Range<usize>,
}

impl<'a> Finder<'a> {
    fn new(text: &'a [u8]) -> Finder<'a> {
        Finder {
            text,
            ranges: Vec::new(),
            brackets_from: 0,
            word_end: NextEnd::default(),
            json_end: NextEnd::default(),
        }
    }

    /// Takes in what follows a keyword that ends at `at`.
    fn keyword(&mut self, keyword: Keyword, at: usize) {
        if keyword == Keyword::Bearer {
            let value = self.skip(at, is_space);
            if value > at {
                self.value(value, false);
            }
            return;
        }
        let plural = keyword == Keyword::Credential && matches!(self.byte(at), Some(b's' | b'S'));
        let closed = self.skip(at + usize::from(plural), |byte| {
            matches!(byte, b'\\' | b'"' | b'\'' | b'`' | b']' | b')')
        });
        let key_is_quoted = self.slice(at, closed).iter().copied().any(is_quote);
        let separator = self.skip(closed, is_space);
        let mut behind = self.skip(separator, |byte| matches!(byte, b'=' | b':'));
        if behind == separator {
            return;
        }
        if self.byte(behind) == Some(b'>') {
            behind += 1;
        }
        let value = self.skip(behind, is_space);
        if keyword == Keyword::Authorization {
            self.authorization(value, key_is_quoted);
        } else {
            self.value(value, key_is_quoted);
        }
    }

    /// Takes in the value that begins at `start`: what is quoted, what is in brackets, or a word.
    fn value(&mut self, start: usize, key_is_quoted: bool) {
        let end = if let Some((content, end)) = self.quoted(start) {
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

    /// Takes in what follows `Authorization:`, a scheme and a value or a value alone.
    fn authorization(&mut self, start: usize, key_is_quoted: bool) {
        if let Some((content, _)) = self.quoted(start) {
            let scheme_end = self.word_end(content.start, false);
            let value = self.skip(scheme_end, is_space);
            if value < content.end {
                self.push(value..content.end);
            } else {
                self.push(content);
            }
            return;
        }
        let scheme_end = self.word_end(start, key_is_quoted);
        let is_blank = |byte| matches!(byte, b' ' | b'\t');
        let value = self.skip(scheme_end, is_blank);
        if self.byte(value).is_none_or(is_space) || value == scheme_end {
            self.push(start..scheme_end);
            return;
        }
        let mut end = self.word_end(value, key_is_quoted);
        // `Digest username="x", response="y"`: parameters, with commas between them.
        while end > value && self.byte(end - 1) == Some(b',') {
            let next = self.skip(end, is_blank);
            let next_end = self.word_end(next, key_is_quoted);
            if !self.slice(next, next_end).contains(&b'=') {
                break;
            }
            end = next_end;
        }
        self.push(value..end);
    }

    /// What stands in the quotes that open at `start`, and where they end. Quotes can be escaped, as
    /// in JSON inside of JSON: they close with a quote behind no more backslashes than opened them.
    fn quoted(&self, start: usize) -> Option<(Range<usize>, usize)> {
        let opening = self.skip(start, |byte| byte == b'\\');
        let escapes = opening - start;
        let quote = self.byte(opening).filter(|byte| is_quote(*byte))?;
        if escapes > ESCAPES_MAX {
            return None;
        }
        let content = opening + 1;
        let mut backslashes = 0;
        for (index, byte) in self.text.iter().enumerate().skip(content) {
            if *byte == quote && backslashes <= escapes {
                return Some((content..index - backslashes, index + 1));
            }
            backslashes = if *byte == b'\\' { backslashes + 1 } else { 0 };
        }
        Some((content..self.text.len(), self.text.len()))
    }

    /// Where the bracket that opens at `start` closes, if it does.
    fn bracketed(&mut self, start: usize) -> Option<usize> {
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
        // Prose has lone brackets. Nothing behind this one needs another search to the text's end.
        self.brackets_from = self.text.len();
        None
    }

    /// The end of the word that begins at `start`. A value in JSON without quotes ends sooner.
    fn word_end(&mut self, start: usize, in_json: bool) -> usize {
        let (last, ends): (_, fn(u8) -> bool) = if in_json {
            (&mut self.json_end, |byte| {
                is_space(byte) || matches!(byte, b',' | b'}' | b']')
            })
        } else {
            (&mut self.word_end, is_space)
        };
        if !(last.searched.start..=last.searched.end).contains(&start) || last.searched.is_empty() {
            let rest = self.text.get(start..).unwrap_or_default();
            let length = rest.iter().position(|byte| ends(*byte));
            last.searched = start..start + length.unwrap_or(rest.len());
        }
        last.searched.end
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
        self.text.get(start..end).unwrap_or_default()
    }

    fn push(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.ranges.push(range);
        }
    }

    /// The text with its ranges replaced, each run of ranges that touch by one placeholder. `None`
    /// when that changes nothing.
    fn replaced(mut self) -> Option<Vec<u8>> {
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

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}
