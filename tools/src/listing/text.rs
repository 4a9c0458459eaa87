//! Untrusted texts with highlighted matches.

use anstyle::Style;
use gridctl_telemetry::query::{TextPattern, plain_text};
use gridctl_telemetry_server::display::{found_in, must_escape};
use std::fmt::Write as _;

/// The styles of a text, and what is highlighted in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) base: Style,
    pub(crate) found: Style,
    pub(crate) patterns: &'a [TextPattern],
}

/// Appends a text. Escape sequences of terminals are left out, line breaks are followed by `indent`, and
/// all other characters that a terminal could obey are escaped.
pub(crate) fn write_text(text: &str, indent: &str, shown: Shown<'_>, out: &mut String) {
    write_with(text, shown, out, |char, next, out| match char {
        '\n' => {
            out.push('\n');
            out.push_str(indent);
        }
        '\r' if next == Some('\n') => {}
        '\t' => out.push('\t'),
        char if must_escape(char) => out.extend(char.escape_unicode()),
        char => out.push(char),
    });
}

/// Appends a value on one line, in double quotes where its end would not be seen without them.
pub(crate) fn write_quoted(text: &str, shown: Shown<'_>, out: &mut String) {
    let is_plain = |char: char| !(char.is_whitespace() || matches!(char, '"' | '=' | '\\'));
    let is_quoted = text.is_empty() || !text.chars().all(is_plain);
    if is_quoted {
        out.push('"');
    }
    write_with(text, shown, out, |char, _, out| match char {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '"' | '\\' if is_quoted => out.extend(['\\', char]),
        char if must_escape(char) => out.extend(char.escape_unicode()),
        char => out.push(char),
    });
    if is_quoted {
        out.push('"');
    }
}

/// Appends each character of a text with `push`, which is told the one after it.
fn write_with(
    text: &str,
    shown: Shown<'_>,
    out: &mut String,
    push: impl Fn(char, Option<char>, &mut String),
) {
    let plain = plain_text(text.trim_end_matches(['\n', '\r']));
    let mut write = |part: &str, style: Style| {
        if part.is_empty() {
            return;
        }
        let _ = write!(out, "{style}");
        let mut chars = part.chars().peekable();
        while let Some(char) = chars.next() {
            push(char, chars.peek().copied(), out);
        }
        let _ = write!(out, "{style:#}");
    };
    let mut end = 0;
    for found in found_in(&plain, shown.patterns) {
        write(plain.get(end..found.start).unwrap_or_default(), shown.base);
        write(plain.get(found.clone()).unwrap_or_default(), shown.found);
        end = found.end;
    }
    write(plain.get(end..).unwrap_or_default(), shown.base);
}

#[cfg(test)]
mod tests {
    use super::*;
    use anstyle::AnsiColor;

    fn text(text: &str, patterns: &[&str]) -> String {
        let patterns: Vec<TextPattern> = patterns
            .iter()
            .map(|pattern| TextPattern::regex(pattern).unwrap())
            .collect();
        let shown = Shown {
            base: Style::new(),
            found: AnsiColor::Red.on_default(),
            patterns: &patterns,
        };
        let mut out = String::new();
        write_text(text, "  ", shown, &mut out);
        out.replace("\u{1b}[31m", "<").replace("\u{1b}[0m", ">")
    }

    fn quoted(text: &str) -> String {
        let shown = Shown {
            base: Style::new(),
            found: Style::new(),
            patterns: &[],
        };
        let mut out = String::new();
        write_quoted(text, shown, &mut out);
        out
    }

    #[test]
    fn matches_are_highlighted_and_commands_are_not_obeyed() {
        for (shown, expected) in [
            (text("a deadline", &["dead"]), "a <dead>line"),
            (text("er\u{1b}[31mr\u{1b}[0mor", &["error"]), "<error>"),
            (text("abc", &["ab", "bc", "x"]), "<abc>"),
            (text("aba", &["a", "b*"]), "<aba>"),
            (
                text("\u{1b}[2J\u{9b}31mx\u{202e}", &["x"]),
                "\\u{9b}31m<x>\\u{202e}",
            ),
            (
                text("one\r\ntwo\nthree\n", &["two"]),
                "one\n  <two>\n  three",
            ),
            (text("a\tb\rc", &[]), "a\tb\\u{d}c"),
            (text("", &[""]), ""),
        ] {
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn values_are_quoted_where_their_end_would_not_be_seen() {
        for (text, expected) in [
            ("search", "search"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("a=\"b\\\"", r#""a=\"b\\\"""#),
            ("one\n\ttwo", r#""one\n\ttwo""#),
            ("\u{7}", "\\u{7}"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
