//! Texts from records, which may try to look like something else.

use gridctl_telemetry::query::{TextPattern, plain_text};
use std::ops::Range;

/// Untrusted text, with all characters escaped that a terminal could take for a command.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if must_escape(char) {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

/// An untrusted name on one line, without the escape sequences of terminals in it.
#[must_use]
pub fn escape_name(name: &str) -> String {
    escape(&plain_text(name))
}

/// Whether a terminal could take a character for a command, or it is or makes other text invisible.
#[must_use]
pub fn must_escape(char: char) -> bool {
    char.is_control() || is_invisible(char)
}

/// Characters that are not shown, or that break, reorder or hide the text around them: Unicode's format
/// characters, line and paragraph separators, tags, fillers and characters for private use.
fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}'
    )
}

/// Where any of the patterns is found in [`plain_text`], in order and without overlaps.
#[must_use]
pub fn found_in(plain: &str, patterns: &[TextPattern]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = patterns
        .iter()
        .flat_map(|pattern| pattern.find_all(plain))
        .collect();
    found.sort_by_key(|range| range.start);
    found.dedup_by(|next, last| {
        let overlaps = next.start <= last.end;
        if overlaps {
            last.end = last.end.max(next.end);
        }
        overlaps
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_get_no_commands() {
        assert_eq!(
            escape("a\u{1b}[31mb\u{202e}c\n"),
            "a\\u{1b}[31mb\\u{202e}c\\u{a}"
        );
        for hidden in [
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{61c}',
            '\u{2028}',
            '\u{2029}',
            '\u{2066}',
            '\u{3164}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            let text = escape(&format!("a{hidden}b"));
            assert_eq!(text, format!("a{}b", hidden.escape_unicode()));
        }
        for shown in ["日本 ok", "e\u{301}", "\u{1f600}", "«ß»", "नमस्ते"] {
            assert_eq!(escape(shown), shown);
        }
    }
}
