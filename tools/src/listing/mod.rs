//! Records in a list: what `logs` and `tail` share.
//!
//! A list is printed page by page. It closes its snapshot while its reader does not read on, so a pager that
//! is left open does not keep the database from reusing its space.

mod cursor_file;
mod reader;
mod render;
mod text;

pub(crate) use self::{
    render::{Format, Renderer, origin_fields, write_value},
    text::{Shown, write_text},
};

use self::{
    cursor_file::CursorFile,
    reader::{Ended, Reader, Stretch},
};
use crate::{
    Outcome,
    filters::{FilterArgs, Filters, SpanFilterArgs},
    interrupt::Interrupt,
    output::note,
    scope::{Scope, ScopeArgs, SignalParser},
    screen::{Output, Screen, WhenLong},
};
use anyhow::bail;
use gridctl_telemetry::{
    Query, ServerName, Signal, Snapshot,
    query::{Arrival, Arrivals},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The number of records before those that are followed, unless the command says another.
pub(crate) const LINES_DEFAULT: u64 = 10;
/// How often a list that follows asks for an interrupt, and tries again after an error.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(250);
/// How often a long list is noted in its cursor file, which takes a sync of the disk.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Which records are listed, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct ListingArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// The signal
    #[arg(long, default_value = "logs", value_parser = SignalParser)]
    signal: Signal,
    /// How records are shown
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
    /// Also show N records before and after each that matches, of the same servers, with -- between groups
    #[arg(long, short = 'C', value_name = "N", value_parser = context_parser())]
    context: Option<u32>,
    /// Also show N records after each that matches
    #[arg(long, short = 'A', value_name = "N", value_parser = context_parser())]
    after_context: Option<u32>,
    /// Also show N records before each that matches
    #[arg(long, short = 'B', value_name = "N", value_parser = context_parser())]
    before_context: Option<u32>,
    /// Show only records that arrived since the last run with this file, whatever their time is, and note
    /// in it how far this run came. With -n the first ones, so that the next run continues after them
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    #[command(flatten)]
    filters: FilterArgs,
    #[command(flatten)]
    spans: SpanFilterArgs,
}

/// How much of a list is printed, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The maximum number of records; the command's own default if `None`.
    pub(crate) lines: Option<u64>,
    /// Whether the newest records come first.
    pub(crate) is_reversed: bool,
    /// Whether new records follow until an interrupt.
    pub(crate) follows: bool,
    /// Whether all records are listed unless a number is given.
    pub(crate) lists_all: bool,
    pub(crate) format: Format,
}

fn context_parser() -> clap::builder::RangedI64ValueParser<u32> {
    // Records before a match are held in memory.
    clap::value_parser!(u32).range(..=10_000)
}

/// Reads the number of records of `-n`; `all` means all.
pub(crate) fn parse_lines(text: &str) -> Result<u64, String> {
    match text {
        "all" => Ok(u64::MAX),
        number => number
            .parse()
            .map_err(|_| "expected a number of records, or all".to_owned()),
    }
}

/// Prints the records that `args` asks for.
pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &ListingArgs,
    plan: Plan,
) -> anyhow::Result<Outcome> {
    let filters = args.filters.read(screen)?;
    let spans = args.spans.read(args.signal, screen)?;
    let format = args.output.unwrap_or(plan.format);
    let both = args.context.unwrap_or(0);
    let around = (
        args.before_context.unwrap_or(both) as usize,
        args.after_context.unwrap_or(both) as usize,
    );
    if around != (0, 0) && format.is_json() {
        bail!(
            "-A, -B and -C are for readers: a record between others would look like one that was found, so \
             use -o short, cat or verbose"
        );
    }
    let scope = args.scope.open(home)?;
    let cursor = args
        .cursor_file
        .as_deref()
        .map(|path| CursorFile::open(path, &scope.store))
        .transpose()?;
    let matching = filters.narrow(scope.query(args.signal));
    let matching = spans.into_iter().fold(matching, Query::filter);
    let unfiltered = Filters {
        range: filters.range,
        ..Filters::default()
    };
    let servers = shown_servers(&scope)?;
    let renderer = Renderer::new(screen, format, &filters.patterns, &servers);
    let around_query = unfiltered.narrow(scope.query(args.signal));
    let reader = Reader::new(renderer, matching, around_query, around, plan.is_reversed);
    let lines = match plan.lines {
        None if cursor.is_some() => None,
        None if plan.lists_all && !plan.follows => None,
        None if filters.range.since.is_some() => None,
        None => Some(LINES_DEFAULT),
        lines => lines,
    };
    let interrupt = if plan.follows || cursor.is_some() {
        Some(Interrupt::install()?)
    } else {
        None
    };
    let mut list = List {
        scope,
        reader,
        cursor,
        interrupt,
        lines,
        says_cut: plan.lines.is_some() && plan.lists_all,
        follows: plan.follows,
        notes: Vec::new(),
    };
    let when_long = if list.interrupt.is_some() {
        WhenLong::Scroll
    } else {
        WhenLong::Page
    };
    let outcome = screen.show(when_long, |out| list.print(out));
    // A pager would hide them.
    list.say_notes();
    outcome
}

/// The servers whose names have to be told apart.
fn shown_servers(scope: &Scope) -> gridctl_telemetry::Result<Vec<ServerName>> {
    if scope.servers.is_empty() {
        // More may come.
        let mut servers = scope.store.snapshot()?.servers()?;
        if let [only] = &servers[..] {
            let only = only.clone();
            servers.push(only);
        }
        return Ok(servers);
    }
    Ok(scope.servers.clone())
}

/// A list that is being printed.
struct List<'a> {
    scope: Scope,
    reader: Reader<'a>,
    cursor: Option<CursorFile>,
    interrupt: Option<Interrupt>,
    /// The maximum number of records, before new ones follow.
    lines: Option<u64>,
    /// Whether it is worth saying that there are more.
    says_cut: bool,
    follows: bool,
    notes: Vec<String>,
}

impl List<'_> {
    fn print(&mut self, out: &mut Output) -> anyhow::Result<Outcome> {
        let snapshot = self.scope.store.snapshot()?;
        let end = snapshot.next_sequence()?;
        let known = self
            .cursor
            .as_ref()
            .and_then(|cursor| cursor.stretches(end));
        let ended = match known {
            Some(stretches) => {
                drop(snapshot);
                self.continued(stretches, out)?
            }
            None => self.first(snapshot, end, out)?,
        };
        out.flush()?;
        match ended {
            Ended::Interrupted => return Ok(Outcome::Interrupted),
            Ended::Complete if self.follows => {
                self.say_notes();
                self.follow(end, out)?;
                return Ok(self.outcome(true));
            }
            Ended::Complete | Ended::Cut => {}
        }
        if self.reader.printed() == 0 && self.lines != Some(0) {
            self.notes.push("no records match".to_owned());
        }
        Ok(self.outcome(self.reader.printed() > 0))
    }

    /// Prints the stored records, without a cursor that says where to begin.
    fn first(&mut self, snapshot: Snapshot, end: u64, out: &mut Output) -> anyhow::Result<Ended> {
        let mut stretch = Stretch::until(end);
        let mut left = self.lines;
        let mut is_cut = false;
        let mut is_printed = false;
        if let Some(lines) = self.lines.filter(|_| !self.reader.is_reversed()) {
            let mut text = Vec::new();
            let last = self
                .reader
                .last(&snapshot, &mut stretch, lines, &mut text)?;
            out.write_all(&text)?;
            (is_cut, is_printed) = (last.is_cut, last.is_printed);
            left = None;
        }
        drop(snapshot);
        if !is_printed {
            match self.list(&mut stretch, &mut left, out)? {
                Ended::Interrupted => return Ok(Ended::Interrupted),
                Ended::Cut => is_cut = true,
                Ended::Complete => {}
            }
        }
        if is_cut && self.says_cut {
            self.notes.push(format!(
                "more records match than the newest {}: raise -n, or leave it out to see all",
                self.lines.unwrap_or(0)
            ));
        }
        self.end_stretch(stretch)?;
        Ok(Ended::Complete)
    }

    /// Notes that a stretch is printed.
    fn end_stretch(&mut self, stretch: Stretch) -> anyhow::Result<()> {
        if self.follows {
            self.reader
                .hold_last(&self.scope.store.snapshot()?, stretch)?;
        }
        self.save(Stretch::after(stretch.end_sequence))
    }

    /// Prints what arrived since the last run.
    fn continued(&mut self, stretches: Vec<Stretch>, out: &mut Output) -> anyhow::Result<Ended> {
        let mut left = self.lines;
        for mut stretch in stretches {
            match self.list(&mut stretch, &mut left, out)? {
                Ended::Complete => self.end_stretch(stretch)?,
                Ended::Cut => {
                    self.notes.push(
                        "more records arrived: the next run continues after these".to_owned(),
                    );
                    return Ok(Ended::Cut);
                }
                Ended::Interrupted => return Ok(Ended::Interrupted),
            }
        }
        Ok(Ended::Complete)
    }

    /// Prints a stretch from the database that is open.
    fn list(
        &mut self,
        stretch: &mut Stretch,
        left: &mut Option<u64>,
        out: &mut Output,
    ) -> anyhow::Result<Ended> {
        let store = self.scope.store.clone();
        self.list_from(stretch, left, out, || Ok(Some(store.snapshot()?)))
    }

    /// Prints a stretch, page by page, from snapshots that `next` returns. While the output is not read, no
    /// snapshot is kept.
    fn list_from(
        &mut self,
        stretch: &mut Stretch,
        left: &mut Option<u64>,
        out: &mut Output,
        mut next: impl FnMut() -> gridctl_telemetry::Result<Option<Snapshot>>,
    ) -> anyhow::Result<Ended> {
        let mut scans = None;
        let mut text = Vec::new();
        let mut saved = Instant::now();
        loop {
            let open = match &mut scans {
                Some(open) => open,
                none => {
                    // Deleted, with all that is left to read.
                    let Some(snapshot) = next()? else {
                        return Ok(Ended::Complete);
                    };
                    none.insert(self.reader.open(snapshot, stretch)?)
                }
            };
            let before = *stretch;
            let ended = self.reader.page(open, stretch, left, &mut text)?;
            let is_old = open.is_old();
            if is_old {
                scans = None;
            }
            if !out.write_patiently(&text, || scans = None)? {
                // The next run repeats the part of the page that was read.
                self.save(before)?;
                return Ok(Ended::Interrupted);
            }
            text.clear();
            let is_interrupted = self.is_interrupted();
            let ended = ended.or(is_interrupted.then_some(Ended::Interrupted));
            // The caller notes a stretch that is complete.
            if ended.is_some_and(|ended| ended != Ended::Complete)
                || saved.elapsed() > SAVE_INTERVAL
            {
                out.flush()?;
                self.save(*stretch)?;
                saved = Instant::now();
            }
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    /// Prints new records until an interrupt. An error while the database is looked at is noted once, and
    /// the list continues when it is over: a restart of the daemon, a folder that is gone for a moment.
    fn follow(&mut self, end: u64, out: &mut Output) -> anyhow::Result<()> {
        let mut arrivals = self.scope.store.arrivals(end)?;
        let mut last_error = None;
        while let Some(arrival) = self.wait(&mut arrivals, &mut last_error) {
            if last_error.take().is_some() {
                note("the database can be read again");
            }
            let Arrival {
                snapshot,
                since_sequence,
                is_replaced,
                ..
            } = arrival;
            if is_replaced {
                self.reader.forget();
                if let Some(cursor) = &mut self.cursor {
                    cursor.examine(&self.scope.store)?;
                }
            }
            let end = snapshot.next_sequence()?;
            let mut stretch = Stretch::between(since_sequence, end);
            let mut first = Some(snapshot);
            let ended = self.list_from(&mut stretch, &mut None, out, || match first.take() {
                Some(snapshot) => Ok(Some(snapshot)),
                None => arrivals.snapshot(),
            })?;
            out.flush()?;
            self.say_notes();
            if ended == Ended::Interrupted {
                return Ok(());
            }
            if let Some(snapshot) = arrivals.snapshot()? {
                self.reader.hold_last(&snapshot, stretch)?;
            }
            self.save(Stretch::after(end))?;
        }
        Ok(())
    }

    /// Waits for an arrival; `None` on an interrupt, and when the output has no reader any more.
    fn wait(&self, arrivals: &mut Arrivals, last_error: &mut Option<String>) -> Option<Arrival> {
        while !self.is_interrupted() && has_reader() {
            match arrivals.next_timeout(INTERRUPT_INTERVAL) {
                Ok(Some(arrival)) => return Some(arrival),
                Ok(None) => {}
                Err(error) => {
                    let error = error.to_string();
                    if last_error.as_ref() != Some(&error) {
                        note(&format!("{error}; still waiting"));
                    }
                    *last_error = Some(error);
                    thread::sleep(INTERRUPT_INTERVAL);
                }
            }
        }
        None
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Interrupt::requested)
    }

    fn save(&mut self, stretch: Stretch) -> anyhow::Result<()> {
        match &mut self.cursor {
            Some(cursor) => cursor.save(stretch),
            None => Ok(()),
        }
    }

    fn outcome(&self, is_found: bool) -> Outcome {
        if is_found && !self.reader.is_damaged() {
            Outcome::Done
        } else {
            Outcome::Problems
        }
    }

    /// Prints what is to be said beside the records, each once.
    fn say_notes(&mut self) {
        self.notes.extend(self.reader.take_notes());
        for said in self.notes.drain(..) {
            note(&said);
        }
    }
}

/// Whether the output still has a reader. A list that waits for records writes nothing that would fail, and
/// would outlive `head`, to which it writes.
fn has_reader() -> bool {
    let stdout = io::stdout();
    let mut state = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec::default();
    let is_known = poll(&mut state, Some(&now)).is_ok();
    let gone = PollFlags::ERR | PollFlags::HUP;
    !is_known || !state.iter().any(|fd| fd.revents().intersects(gone))
}
