//! Output to terminals.

use crate::{interrupt::writing, screen::Screen};
use gridctl_telemetry_server::display::escape;
use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

/// JSON in which the characters that a terminal could obey are escaped: the same JSON.
pub(crate) fn escape_json(json: &str, out: &mut Vec<u8>) {
    for char in json.chars() {
        let mut bytes = [0; 4];
        if char == '\n' || escape(char.encode_utf8(&mut bytes)).len() == char.len_utf8() {
            out.extend_from_slice(char.encode_utf8(&mut bytes).as_bytes());
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        }
    }
}

/// Writes JSON: as it is to a file or a pipe, and escaped to a terminal.
pub(crate) fn write_json(json: &[u8], screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    if !screen.is_terminal() {
        return out.write_all(json);
    }
    let mut escaped = Vec::with_capacity(json.len());
    escape_json(&String::from_utf8_lossy(json), &mut escaped);
    out.write_all(&escaped)
}

/// An error and its causes in one line. A cause that the text before it has already said is left out.
pub(crate) fn message_of(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut message, cause| {
        let cause = cause.to_string();
        if !message.contains(&cause) {
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&cause);
        }
        message
    })
}

/// The notes that wait until a pager has ended; `None` while there is no pager.
static HELD_NOTES: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Prints a line to stderr. Ignores errors: a message that cannot be printed must not end a command.
pub(crate) fn note(message: &str) {
    let message = escape(message);
    let mut held = HELD_NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *held {
        Some(notes) => notes.push(message),
        None => {
            let _ = writing(|| writeln!(io::stderr(), "{message}"));
        }
    }
}

/// Keeps notes back from now on: they would be printed across the page that a pager shows.
pub(crate) fn hold_notes() {
    let mut held = HELD_NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    held.get_or_insert_default();
}

/// Prints the notes that were kept back, and no longer keeps any.
pub(crate) fn release_notes() {
    let held = HELD_NOTES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    for message in held.into_iter().flatten() {
        let _ = writing(|| writeln!(io::stderr(), "{message}"));
    }
}

/// A progress bar on stderr; hidden if stderr is not a terminal.
pub(crate) fn progress_bar(length: u64, template: &str) -> indicatif::ProgressBar {
    if !io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(length);
    if let Ok(style) = indicatif::ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_each_cause_once() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let told = anyhow::Error::from(full()).context("cannot write a");
        assert_eq!(message_of(&told), format!("cannot write a: {}", full()));
        let twice = told.context(format!("cannot export: cannot write a: {}", full()));
        assert_eq!(
            message_of(&twice),
            format!("cannot export: cannot write a: {}", full())
        );
    }
}
