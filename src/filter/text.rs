//! Patterns that are searched for in texts.

use super::plain::plain_text;
use crate::error::{Error, Result, excerpt};
use regex::{Regex, RegexBuilder};
use regex_syntax::{
    ParserBuilder,
    hir::{Class, Hir, HirKind},
};
use std::ops::Range;

/// Maximum length of a pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 64 << 10;
/// Maximum size of a compiled pattern, in bytes.
const COMPILED_BYTES_MAX: usize = 16 << 20;
/// Maximum nesting depth of a regular expression.
const NEST_MAX: u32 = 128;

/// A pattern that is searched for in texts: a part of a text, words, or a regular expression.
///
/// Upper and lower case are the same unless [`TextPattern::case_sensitive`] is called. Escape
/// sequences of terminals in a text are removed before it is searched, so they hide no word.
///
/// ```
/// use gridctl_telemetry::query::TextPattern;
///
/// assert!(TextPattern::substring("deadline")?.is_match("Context DEADLINE exceeded"));
/// assert!(!TextPattern::words("dead")?.is_match("context deadline exceeded"));
/// assert!(TextPattern::regex(r"in \d+ ms$")?.is_match("answered in 12 ms"));
/// # Ok::<(), gridctl_telemetry::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TextPattern {
    source: Source,
    is_case_sensitive: bool,
    regex: Regex,
    fragments: Vec<String>,
}

#[derive(Debug, Clone)]
enum Source {
    Substring(String),
    Words(String),
    Regex(String),
}

impl TextPattern {
    /// Matches texts that contain `text`.
    ///
    /// Fails with [`Error::InvalidFilter`] when `text` is longer than 64 KiB.
    pub fn substring(text: &str) -> Result<TextPattern> {
        TextPattern::compile(Source::Substring(text.to_owned()), false)
    }

    /// Matches texts that contain `text` between the boundaries of words: "dead" is not in
    /// "deadline". Letters, digits and underscores belong to a word.
    ///
    /// Fails like [`TextPattern::substring`].
    pub fn words(text: &str) -> Result<TextPattern> {
        TextPattern::compile(Source::Words(text.to_owned()), false)
    }

    /// Matches texts in which the regular expression `pattern` is found, in the syntax of the crate
    /// [`regex`](https://docs.rs/regex/latest/regex/#syntax), which has neither look-around nor back
    /// references, and whose searches take linear time.
    ///
    /// Fails with [`Error::InvalidFilter`] when the pattern is not a regular expression, is longer
    /// than 64 KiB, or is too large when it is compiled.
    pub fn regex(pattern: &str) -> Result<TextPattern> {
        TextPattern::compile(Source::Regex(pattern.to_owned()), false)
    }

    /// Distinguishes upper and lower case.
    ///
    /// Fails like the function that made this pattern.
    pub fn case_sensitive(self) -> Result<TextPattern> {
        TextPattern::compile(self.source, true)
    }

    fn compile(source: Source, is_case_sensitive: bool) -> Result<TextPattern> {
        let (Source::Substring(text) | Source::Words(text) | Source::Regex(text)) = &source;
        let invalid = |reason: String| Error::InvalidFilter {
            text: excerpt(text),
            reason,
        };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(invalid(format!(
                "the pattern has {} bytes, and the maximum is {PATTERN_BYTES_MAX}",
                text.len()
            )));
        }
        let pattern = match &source {
            Source::Substring(text) => regex::escape(text),
            Source::Words(text) => {
                format!(r"\b{{start-half}}{}\b{{end-half}}", regex::escape(text))
            }
            Source::Regex(pattern) => pattern.clone(),
        };
        let regex = RegexBuilder::new(&pattern)
            .case_insensitive(!is_case_sensitive)
            .size_limit(COMPILED_BYTES_MAX)
            .nest_limit(NEST_MAX)
            .build()
            .map_err(|error| invalid(reason_of(&error)))?;
        let fragments = match &source {
            Source::Substring(text) | Source::Words(text) => {
                let mut found = Fragments::default();
                found.push(text);
                found.end_run();
                found.complete
            }
            Source::Regex(pattern) => fragments_of(pattern),
        };
        Ok(TextPattern {
            source,
            is_case_sensitive,
            regex,
            fragments,
        })
    }

    /// Whether the pattern is found in `text`.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(&plain_text(text))
    }

    /// Where the pattern is found in [`plain_text`](crate::query::plain_text) of `text`: byte ranges
    /// that do not overlap, without empty ones.
    #[must_use]
    pub fn find_all(&self, text: &str) -> Vec<Range<usize>> {
        self.regex
            .find_iter(&plain_text(text))
            .map(|found| found.range())
            .filter(|range| !range.is_empty())
            .collect()
    }

    /// Whether the pattern distinguishes upper and lower case.
    #[must_use]
    pub fn is_case_sensitive(&self) -> bool {
        self.is_case_sensitive
    }

    /// ASCII texts that every match contains when both are folded by [`fold`]. They may be short, and
    /// there may be none.
    pub(crate) fn fragments(&self) -> &[String] {
        &self.fragments
    }
}

/// The text in lower case, as far as the letters of ASCII are concerned: also U+017F (long s) and
/// U+212A (kelvin sign), which are an s and a k when case does not matter.
pub(crate) fn fold(text: &str) -> String {
    text.chars()
        .map(|char| match char {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            _ => char.to_ascii_lowercase(),
        })
        .collect()
}

/// The reason in one line: the crate draws the pattern with a marker below it.
fn reason_of(error: &regex::Error) -> String {
    match error {
        regex::Error::Syntax(drawing) => {
            let last = drawing.lines().last().unwrap_or_default();
            format!(
                "not a regular expression: {}",
                last.trim_start_matches("error: ")
            )
        }
        regex::Error::CompiledTooBig(bytes) => {
            format!("the compiled pattern has more than {bytes} bytes: use a simpler one")
        }
        other => other.to_string(),
    }
}

/// Texts that every match of a regular expression contains.
fn fragments_of(pattern: &str) -> Vec<String> {
    let parsed = ParserBuilder::new()
        .nest_limit(NEST_MAX)
        .build()
        .parse(pattern);
    let mut found = Fragments::default();
    if let Ok(hir) = parsed {
        found.add(&hir);
        found.end_run();
    }
    found.complete
}

#[derive(Default)]
struct Fragments {
    complete: Vec<String>,
    run: String,
}

impl Fragments {
    fn add(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                Ok(text) => self.push(text),
                Err(_) => self.end_run(),
            },
            HirKind::Class(class) => match only_letter(class) {
                Some(letter) => self.push(letter.encode_utf8(&mut [0; 4])),
                None => self.end_run(),
            },
            HirKind::Capture(capture) => self.add(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.add(part)),
            HirKind::Repetition(repetition) => {
                self.end_run();
                if repetition.min > 0 {
                    self.add(&repetition.sub);
                    self.end_run();
                }
            }
            HirKind::Alternation(_) => self.end_run(),
        }
    }

    /// Adds a part of every match. Only ASCII is folded, so a character beyond it can be another one in
    /// a match.
    fn push(&mut self, text: &str) {
        for char in fold(text).chars() {
            if char.is_ascii() {
                self.run.push(char);
            } else {
                self.end_run();
            }
        }
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            self.complete.push(std::mem::take(&mut self.run));
        }
    }
}

/// The letter that all characters of a class are when case does not matter: `(?i)k` is such a class.
fn only_letter(class: &Class) -> Option<char> {
    let Class::Unicode(class) = class else {
        return None;
    };
    let mut letters = class
        .iter()
        .flat_map(|range| range.start()..=range.end())
        // A letter of ASCII has at most three forms.
        .take(4)
        .map(|char| fold(char.encode_utf8(&mut [0; 4])).chars().next());
    let first = letters.next()??;
    letters.all(|letter| letter == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_documented() {
        let substring = |pattern: &str| TextPattern::substring(pattern).unwrap();
        let words = |pattern: &str| TextPattern::words(pattern).unwrap();
        let regex = |pattern: &str| TextPattern::regex(pattern).unwrap();
        for (pattern, text, expected) in [
            (substring("dead"), "a DEADline", true),
            (substring("a.c"), "abc", false),
            (substring("error"), "er\u{1b}[31mror", true),
            (substring("[31m"), "er\u{1b}[31mror", false),
            (substring("ß"), "STRAẞE", true),
            (substring("\u{212a}elvin"), "kelvin", true),
            (substring("kelvin"), "\u{212a}ELVIN", true),
            (substring(""), "", true),
            (words("dead"), "a deadline", false),
            (words("dead"), "is dead.", true),
            (
                words("connection refused"),
                "dial: connection refused (os)",
                true,
            ),
            (words("(os)"), "refused (os)", true),
            (words("os"), "refused (os)", true),
            (regex("^a.c$"), "ABC", true),
            (regex("(?-i)a"), "A", false),
            (substring("Dead").case_sensitive().unwrap(), "dead", false),
            (substring("Dead").case_sensitive().unwrap(), "Dead", true),
        ] {
            assert_eq!(pattern.is_match(text), expected, "{pattern:?} in {text:?}");
        }
        assert_eq!(substring("o").find_all("f\u{1b}[1moo b"), [1..2, 2..3]);
        assert!(regex("x*").find_all("abc").is_empty());
    }

    #[test]
    fn bad_patterns_are_refused_with_the_reason() {
        for (pattern, expected) in [
            ("a(", "unclosed group"),
            ("[z-a]", "invalid character class range"),
            ("(?=a)", "look-around"),
            (r"\w{1000}{1000}", "compiled pattern"),
            (&format!("{}{}", "(".repeat(200), ")".repeat(200)), "nest"),
            (&"x".repeat((10 << 20) + 1), "has 10485761 bytes"),
        ] {
            let error = TextPattern::regex(pattern).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.len() < 400, "{}", error.len());
        }
        assert!(TextPattern::substring("a(").is_ok());
    }

    #[test]
    fn fragments_are_in_every_match() {
        for (pattern, expected) in [
            ("time.*OUT", &["time", "out"][..]),
            (r"\bquasar \d+", &["quasar "]),
            ("(?i)quaſar", &["quasar"]),
            ("übermut", &["bermut"]),
            ("a|x", &[]),
            ("(?i)Kelvin", &["kelvin"]),
            ("a(bc)+d", &["a", "bc", "d"]),
            ("a(bc)?d", &["a", "d"]),
            ("re(tr)y", &["retry"]),
            ("[aA]b", &["ab"]),
            ("", &[]),
        ] {
            assert_eq!(fragments_of(pattern), expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn every_match_has_every_fragment(
            pattern in "(\\(\\?i\\))?[abkKsſ]{1,3}(\\[ab\\]|\\.|[kK]+|\\(ab|sk\\)|\\(a\\|s\\))?[sS?*+]?",
            text in "[abkKsSſ\u{212a} ]{0,12}",
        ) {
            if let Ok(pattern) = TextPattern::regex(&pattern) && pattern.is_match(&text) {
                for fragment in pattern.fragments() {
                    prop_assert!(fold(&text).contains(fragment), "{:?} {:?}", pattern, text);
                }
            }
        }
    }
}
