//! The terminal that a program writes to: its colours, its size, the reader's time zone, and a pager.
//!
//! Every command gets a [`Screen`]. Its options are global, so they stand before or after the name of any
//! command.

use crate::{
    interrupt::{self, Interrupt, writing},
    output,
};
use anstyle::{AnsiColor, Style};
use gridctl_telemetry::{Timestamp, external::time::OffsetDateTime};
use gridctl_telemetry_server::{display::clock_millis, input::Zone};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    borrow::Cow,
    env,
    ffi::OsString,
    io::{self, BufWriter, IsTerminal, StdoutLock, Write},
    os::fd::AsFd,
    process::{Child, ChildStdin, Command, Stdio},
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The size of a terminal that does not know its own.
const COLUMNS_DEFAULT: u16 = 80;
const ROWS_DEFAULT: u16 = 24;
/// The pager where `PAGER` names none, and the options that it gets if `LESS` is not set: it ends by itself
/// if everything fits (F), passes colours (R) and leaves its last screen (X).
const PAGER_DEFAULT: &str = "less";
const LESS_DEFAULT: &str = "FRX";

/// The number of bytes that a pipe takes without waiting once it is ready, with those that standard output
/// keeps back because they are no whole line: no more than a page of memory.
const READY_BYTES: usize = 2048;

/// How long the output waits for its reader, before what it is read from is given back.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// Options of the output, for all commands.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ScreenArgs {
    /// When to print colours; `auto` means on a terminal, unless `NO_COLOR` is set
    #[arg(
        long,
        visible_alias = "colour",
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = HEADING
    )]
    color: ColorWhen,
    /// Print times in UTC, and read times without a zone as UTC; otherwise both are in the zone of this
    /// machine, or of `TZ`, on a terminal. JSON and output to a file or a pipe is in UTC
    #[arg(long, global = true, help_heading = HEADING)]
    utc: bool,
    /// Do not show long output in a pager (`PAGER`, by default less)
    #[arg(long, global = true, help_heading = HEADING)]
    no_pager: bool,
}

/// The heading of options that all commands have.
pub(crate) const HEADING: &str = "Options of all commands";

/// When to print colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum ColorWhen {
    #[default]
    Auto,
    Always,
    Never,
}

/// What a part of the output is, which decides its colour: the same in all commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A failure: an error's record, a failed span, lost records.
    Error,
    /// A warning.
    Warning,
    /// Something that works: a daemon that stores.
    Good,
    /// Text of little weight: times, ids, lines of a tree.
    Dim,
    /// A name: of a server, a stack, a span.
    Name,
    /// The part of a text that a search found.
    Match,
    /// A heading of a table, a total.
    Heading,
}

/// The terminal, or the file or pipe, that standard output is.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    is_terminal: bool,
    has_colors: bool,
    /// Of a terminal.
    columns: u16,
    rows: u16,
    /// The reader's zone, or UTC with `--utc`.
    zone: Zone,
    /// When the program started, so that all times in its arguments are relative to the same one.
    now: Timestamp,
    pager: Option<PagerCommand>,
}

impl Screen {
    pub(crate) fn new(args: &ScreenArgs) -> Screen {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let known = |length: u16, default| if length == 0 { default } else { length };
        Screen {
            is_terminal,
            has_colors: match args.color {
                ColorWhen::Always => true,
                ColorWhen::Never => false,
                ColorWhen::Auto => is_terminal && !is_dumb && !is_set("NO_COLOR"),
            },
            columns: known(size.map_or(0, |size| size.ws_col), COLUMNS_DEFAULT),
            rows: known(size.map_or(0, |size| size.ws_row), ROWS_DEFAULT),
            zone: if args.utc { Zone::UTC } else { Zone::system() },
            now: Timestamp::now(),
            pager: (is_terminal && !is_dumb && !args.no_pager)
                .then(PagerCommand::find)
                .flatten(),
        }
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The number of columns of the terminal; `None` for a file or a pipe, whose lines are never cut.
    pub(crate) fn width(&self) -> Option<usize> {
        self.is_terminal.then_some(usize::from(self.columns))
    }

    /// The style of a part: `let red = screen.style(Role::Error)`, then `{red}text{red:#}`. Writes nothing
    /// where there are no colours.
    pub(crate) fn style(&self, role: Role) -> Style {
        if !self.has_colors {
            return Style::new();
        }
        match role {
            Role::Error => AnsiColor::Red.on_default().bold(),
            Role::Warning => AnsiColor::Yellow.on_default(),
            Role::Good => AnsiColor::Green.on_default(),
            Role::Dim => Style::new().dimmed(),
            Role::Name => AnsiColor::Cyan.on_default(),
            Role::Match => AnsiColor::Red.on_default().bold().underline(),
            Role::Heading => Style::new().bold(),
        }
    }

    /// When the program started.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// A time as people write it, see [`Timestamp::parse_written`], in the reader's zone.
    pub(crate) fn parse_time(&self, text: &str) -> gridctl_telemetry::Result<Timestamp> {
        self.zone.parse(text, self.now)
    }

    /// The reader's zone, in which days begin; UTC with `--utc`.
    pub(crate) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// A time as a reader's calendar and clock show it: in the reader's zone on a terminal, else in UTC.
    pub(crate) fn local(&self, time: Timestamp) -> OffsetDateTime {
        if self.is_terminal {
            self.zone.local(time)
        } else {
            time.into()
        }
    }

    /// A time in RFC 3339: in the reader's zone on a terminal, else in UTC.
    pub(crate) fn time(&self, time: Timestamp) -> String {
        time.to_rfc3339_in(self.local(time).offset())
    }

    /// A time to the second: `2026-05-08 14:03:20` in the reader's zone on a terminal, else RFC 3339 in UTC,
    /// which a program can read.
    pub(crate) fn brief_time(&self, time: Timestamp) -> String {
        if !self.is_terminal {
            return time.to_string();
        }
        let mut text = self.clock_time(time);
        text.truncate("2026-05-08 14:03:20".len());
        text
    }

    /// A time to the millisecond without its zone, `2026-05-08 14:03:20.500`: in the reader's zone on a
    /// terminal, else in UTC. Always 23 columns for the years of timestamps.
    pub(crate) fn clock_time(&self, time: Timestamp) -> String {
        clock_millis(self.local(time))
    }

    /// Runs a command that prints to standard output.
    pub(crate) fn show<T>(
        &self,
        when_long: WhenLong,
        run: impl FnOnce(&mut Output) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut out = match (&self.pager, when_long) {
            (Some(command), WhenLong::Page) => {
                Output::held(command.clone(), self.columns, self.rows)
            }
            _ => Output::direct(),
        };
        let outcome = run(&mut out);
        // A pager that the reader has quit before the end has shown enough: that is a closed pipe.
        let ended = out.finish();
        let value = outcome?;
        ended?;
        Ok(value)
    }
}

/// What happens to output that is longer than the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenLong {
    /// A pager shows it. Not for commands that ask or follow: output appears when it fills the terminal,
    /// or when the command ends.
    Page,
    /// The terminal scrolls.
    Scroll,
}

/// Whether standard output is a terminal too narrow for two columns of text.
pub(crate) fn is_narrow() -> bool {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.is_ok_and(|size| (1..60).contains(&size.ws_col))
}

/// Whether an environment variable is set and not empty.
fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// A text within `columns` columns: a longer one is cut and ends in `…`. The text must be escaped.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if text.width() <= columns {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    let mut used = 1;
    for char in text.chars() {
        used += char.width().unwrap_or(0);
        if used > columns {
            break;
        }
        kept.push(char);
    }
    if columns > 0 {
        kept.push('…');
    }
    Cow::Owned(kept)
}

/// A pager and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PagerCommand(Vec<OsString>);

impl PagerCommand {
    /// `PAGER`, else less; `None` if `PAGER` is empty or `cat`, as for git.
    fn find() -> Option<PagerCommand> {
        PagerCommand::parse(env::var("PAGER").ok().as_deref())
    }

    fn parse(pager: Option<&str>) -> Option<PagerCommand> {
        let pager = pager.unwrap_or(PAGER_DEFAULT).trim();
        if pager.is_empty() || pager == "cat" {
            return None;
        }
        let needs_shell = |char: char| "|&;<>()$`\\\"'*?[#~=%{}!\n".contains(char);
        Some(PagerCommand(if pager.contains(needs_shell) {
            vec!["sh".into(), "-c".into(), pager.into()]
        } else {
            // Without a shell, a pager that is not installed is known before it gets the output.
            pager.split_whitespace().map(Into::into).collect()
        }))
    }

    fn spawn(&self) -> Option<Child> {
        let (program, args) = self.0.split_first()?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped());
        if !is_set("LESS") {
            command.env("LESS", LESS_DEFAULT);
        }
        command.spawn().ok()
    }
}

/// Standard output, or a pager in front of it.
#[derive(Debug)]
pub(crate) struct Output(Target);

#[derive(Debug)]
enum Target {
    Nowhere,
    Direct(BufWriter<StdoutLock<'static>>),
    /// Output that fits the screen so far.
    Held {
        command: PagerCommand,
        bytes: Vec<u8>,
        measure: Measure,
    },
    Paged {
        child: Child,
        /// `None` when the output has ended.
        pipe: Option<BufWriter<ChildStdin>>,
    },
}

impl Output {
    fn direct() -> Output {
        Output(Target::Direct(BufWriter::with_capacity(
            64 << 10,
            io::stdout().lock(),
        )))
    }

    /// Output that is discarded.
    pub(crate) fn nowhere() -> Output {
        Output(Target::Nowhere)
    }

    fn held(command: PagerCommand, columns: u16, rows: u16) -> Output {
        Output(Target::Held {
            command,
            bytes: Vec::new(),
            measure: Measure::new(columns, rows),
        })
    }

    /// Passes on the held output: to the pager if it is longer than the screen.
    fn release(&mut self) -> io::Result<()> {
        let Target::Held {
            command,
            bytes,
            measure,
        } = &mut self.0
        else {
            return Ok(());
        };
        let bytes = std::mem::take(bytes);
        let child = if measure.is_full() {
            interrupt::start_pager(|| command.spawn())
        } else {
            None
        };
        *self = match child {
            Some(mut child) => {
                output::hold_notes();
                let pipe = child.stdin.take().map(BufWriter::new);
                Output(Target::Paged { child, pipe })
            }
            None => Output::direct(),
        };
        self.write_all(&bytes)
    }

    /// Writes bytes while they are read: until the reader has taken none for half a second, or an interrupt.
    /// Returns how many were written. For commands that would keep something for as long as a pager is left
    /// open.
    fn write_while_read(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        for chunk in bytes.chunks(READY_BYTES) {
            // Nothing may be left in a buffer, which would be written together with the next bytes.
            self.flush()?;
            if !self.is_ready() || Interrupt::is_requested() {
                break;
            }
            self.write_all(chunk)?;
            written += chunk.len();
        }
        Ok(written)
    }

    /// Writes bytes, and calls `when_unread` each time that the reader has taken none for half a second.
    /// Returns whether all were written, which they are unless there is an interrupt.
    pub(crate) fn write_patiently(
        &mut self,
        bytes: &[u8],
        mut when_unread: impl FnMut(),
    ) -> io::Result<bool> {
        let mut rest = bytes;
        loop {
            let written = self.write_while_read(rest)?;
            rest = rest.get(written..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(true);
            }
            when_unread();
            if Interrupt::is_requested() {
                return Ok(false);
            }
        }
    }

    /// Whether the output takes some bytes at once, or fails to.
    fn is_ready(&self) -> bool {
        let stdout = io::stdout();
        let fd = match &self.0 {
            Target::Direct(_) => stdout.as_fd(),
            Target::Paged {
                pipe: Some(pipe), ..
            } => pipe.get_ref().as_fd(),
            Target::Nowhere | Target::Held { .. } | Target::Paged { pipe: None, .. } => {
                return true;
            }
        };
        let mut state = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
        match poll(&mut state, Some(&PATIENCE)) {
            Ok(ready) => ready > 0,
            Err(Errno::INTR) => false,
            // If that cannot be known, it is written and may wait.
            Err(_) => true,
        }
    }

    /// Ends the output, and waits until the reader has quit the pager.
    fn finish(mut self) -> io::Result<()> {
        self.release()?;
        match self.0 {
            Target::Direct(mut out) => writing(|| out.flush()),
            Target::Nowhere | Target::Held { .. } => Ok(()),
            Target::Paged {
                mut child,
                mut pipe,
            } => {
                let flushed = pipe.as_mut().map_or(Ok(()), Write::flush);
                drop(pipe);
                let ended = interrupt::wait_for_pager(&mut child);
                output::release_notes();
                ended?;
                if Interrupt::is_requested() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                flushed
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Target::Nowhere => Ok(bytes.len()),
            Target::Direct(out) => writing(|| out.write(bytes)),
            Target::Held {
                bytes: held,
                measure,
                ..
            } => {
                held.extend_from_slice(bytes);
                measure.add(bytes);
                if measure.is_full() {
                    self.release()?;
                }
                Ok(bytes.len())
            }
            Target::Paged { pipe, .. } => match pipe {
                Some(pipe) => pipe.write(bytes),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
        }
    }

    /// Held output stays held until there is more than a screen of it, or the command ends.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Target::Direct(out) => writing(|| out.flush()),
            Target::Nowhere | Target::Held { .. } => Ok(()),
            Target::Paged { pipe, .. } => pipe.as_mut().map_or(Ok(()), Write::flush),
        }
    }
}

/// The number of rows that output takes on a terminal.
#[derive(Debug)]
struct Measure {
    columns: usize,
    rows_left: usize,
    /// The columns used in the present line, and whether an escape sequence is open.
    column: usize,
    is_in_sequence: bool,
}

impl Measure {
    fn new(columns: u16, rows: u16) -> Measure {
        Measure {
            columns: usize::from(columns).max(1),
            // The prompt of the shell takes the last row.
            rows_left: usize::from(rows).saturating_sub(1),
            column: 0,
            is_in_sequence: false,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.is_in_sequence {
                // A style ends with `m`.
                self.is_in_sequence = !byte.is_ascii_alphabetic();
            } else if byte == b'\n' {
                self.next_row();
            } else if byte == 0x1b {
                self.is_in_sequence = true;
            } else if byte & 0xc0 != 0x80 {
                // The first byte of a character. A wide one counts as one column: then a pager is used a
                // little later, and the terminal scrolls.
                if self.column == self.columns {
                    self.next_row();
                }
                self.column += 1;
            }
        }
    }

    fn next_row(&mut self) {
        self.rows_left = self.rows_left.saturating_sub(1);
        self.column = 0;
    }

    fn is_full(&self) -> bool {
        self.rows_left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(zone: &str) -> Screen {
        Screen {
            is_terminal: true,
            has_colors: false,
            columns: 80,
            rows: 24,
            zone: Zone::posix(zone).unwrap(),
            now: "2026-05-08T12:00:00Z".parse().unwrap(),
            pager: None,
        }
    }

    #[test]
    fn times_are_read_and_shown_in_the_readers_zone() {
        // Central European time and its summer time.
        let screen = screen("CET-1CEST,M3.5.0,M10.5.0/3");
        let read = |text| screen.parse_time(text).unwrap();
        for (text, utc, shown) in [
            ("12:00", "2026-05-08T10:00:00Z", "2026-05-08 12:00:00.000"),
            (
                "2026-01-08",
                "2026-01-07T23:00:00Z",
                "2026-01-08 00:00:00.000",
            ),
        ] {
            assert_eq!(read(text).to_string(), utc, "{text}");
            assert_eq!(screen.clock_time(read(text)), shown, "{text}");
        }
        assert_eq!(screen.time(read("12:00")), "2026-05-08T12:00:00+02:00");
        for extreme in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(screen.clock_time(extreme).len(), 23);
        }
        let pipe = Screen {
            is_terminal: false,
            ..screen
        };
        assert_eq!(
            pipe.time("2026-05-08T12:00:00Z".parse().unwrap()),
            "2026-05-08T12:00:00Z"
        );
        assert_eq!(
            pipe.parse_time("12:00").unwrap().to_string(),
            "2026-05-08T10:00:00Z"
        );
        assert_eq!(pipe.width(), None);
    }

    #[test]
    fn long_texts_are_cut_by_columns() {
        for (text, columns, expected) in [
            ("github", 6, "github"),
            ("github", 5, "gith…"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(cut(text, columns), expected, "{text} {columns}");
        }
    }

    #[test]
    fn a_pager_is_named_as_for_git() {
        let words = |pager| PagerCommand::parse(pager).map(|command| command.0);
        assert_eq!(words(None), Some(vec!["less".into()]));
        assert_eq!(
            words(Some("less -S")),
            Some(vec!["less".into(), "-S".into()])
        );
        let shell = Some(vec!["sh".into(), "-c".into(), "less | cat".into()]);
        assert_eq!(words(Some("less | cat")), shell);
        for none in ["", " ", "cat"] {
            assert_eq!(words(Some(none)), None);
        }
    }

    #[test]
    fn a_screen_is_full_by_rows_and_by_wrapped_lines() {
        let is_full = |text: &str| {
            let mut measure = Measure::new(4, 3);
            measure.add(text.as_bytes());
            measure.is_full()
        };
        assert!(!is_full("a\nb"));
        assert!(is_full("a\nb\n"));
        assert!(!is_full("abcdabcd"));
        assert!(is_full("abcdabcda"));
        assert!(!is_full("\u{1b}[31mabcd\u{1b}[0m\n\u{1b}[1mä\u{1b}[0m"));
    }
}
