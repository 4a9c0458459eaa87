//! `verify`: check that every record can be read, and export what can be read of a damaged stack.

use super::{export::whole::refuse_others, store_options};
use crate::{
    Outcome,
    flat::Packing,
    folders::Folders,
    interrupt::Interrupt,
    output::{note, progress_bar},
    scope,
    screen::Screen,
};
use anyhow::Context;
use gridctl_telemetry::{
    Error, ServerName, Signal, Store,
    home::list_stacks,
    lines::{LineFormat, LineWriter},
    maintenance::{Finding, Verified, VerifyOptions},
    query::RawRecord,
};
use gridctl_telemetry_files::{AtomicFile, SealedFile};
use gridctl_telemetry_server::display::escape;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// The number of bytes that are collected before they are written.
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stack to verify, or the path of a file that was set aside because it is damaged [default: all]
    stack: Option<String>,
    /// Also write all records that can be read to DIR/STACK/SERVER/SIGNAL.jsonl, and pass over what is
    /// damaged
    #[arg(long, value_name = "DIR")]
    salvage: Option<PathBuf>,
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let set_aside = args.stack.as_deref().filter(|stack| stack.contains('/'));
    if let Some(path) = set_aside {
        let interrupt = silenced()?;
        let shown = Path::new(path).file_name().unwrap_or_default();
        let shown = shown.to_string_lossy();
        let opened = Store::open_set_aside(Path::new(path), store_options()).map(Some);
        return verify(screen, args, &shown, opened, &interrupt, out);
    }
    let known = list_stacks(home)?;
    let stacks = match &args.stack {
        Some(_) => vec![scope::pick_stack(home, args.stack.as_ref(), &known)?],
        None => known,
    };
    if stacks.is_empty() {
        writeln!(out, "No telemetry.")?;
        return Ok(Outcome::Done);
    }
    let interrupt = silenced()?;
    let mut outcome = Outcome::Done;
    for stack in stacks {
        let opened = Store::open_read_only(home, &stack, store_options());
        match verify(screen, args, &stack, opened, &interrupt, out)? {
            Outcome::Interrupted => return Ok(Outcome::Interrupted),
            Outcome::Problems => outcome = Outcome::Problems,
            Outcome::Done => {}
        }
        out.flush()?;
    }
    Ok(outcome)
}

/// Silences panics: the engine panics at some damage, which becomes a finding.
fn silenced() -> anyhow::Result<Interrupt> {
    let interrupt = Interrupt::install()?;
    std::panic::set_hook(Box::new(|_| {}));
    Ok(interrupt)
}

/// Verifies the store of `stack`, if it can be opened.
fn verify(
    screen: &Screen,
    args: &Args,
    stack: &str,
    opened: Result<Option<Store>, Error>,
    interrupt: &Interrupt,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let shown = escape(stack);
    let store = match opened {
        Ok(Some(store)) => store,
        Ok(None) => return Ok(Outcome::Done),
        Err(Error::Corrupt { what, .. }) => {
            writeln!(out, "{shown}: cannot open the database: {}", escape(&what))?;
            writeln!(out, "{shown}: 1 finding")?;
            return Ok(Outcome::Problems);
        }
        Err(error) => return Err(error.into()),
    };
    let bar = progress_bar(
        0,
        "{msg} {wide_bar} {human_pos}/{human_len} records, {per_sec}, {eta} left",
    );
    bar.set_message(shown.clone());
    let (position, flag) = (bar.clone(), interrupt.clone());
    let options = VerifyOptions::default()
        .on_progress(move |progress| {
            position.set_length(progress.total_records);
            position.set_position(progress.read_records);
        })
        .cancel_when(move || flag.requested());
    let (mut told, mut lost, mut lost_unknown) = (Ok(()), 0, false);
    let mut tell = |finding: Finding| {
        match finding.records {
            Some(records) => lost += records,
            None => lost_unknown = true,
        }
        let line = describe(stack, &finding, screen);
        bar.suspend(|| {
            if told.is_ok() {
                told = writeln!(out, "{line}");
            }
        });
    };
    let verified = match &args.salvage {
        None => store.verify(&options, &mut tell),
        Some(folder) => {
            let mut salvage = Salvage::new(&folder.join(stack));
            let verified = store.salvage(&options, &mut tell, |record| salvage.add(record));
            if verified.is_ok() {
                let (records, files) = salvage.finish()?;
                note(&format!(
                    "{stack}: salvaged {records} records to {files} files"
                ));
            }
            verified
        }
    };
    bar.finish_and_clear();
    told?;
    let verified = match verified {
        Ok(verified) => verified,
        Err(Error::Cancelled { .. }) => {
            note("interrupted; not everything was verified");
            return Ok(Outcome::Interrupted);
        }
        Err(error) => return Err(error.into()),
    };
    let Verified {
        records,
        findings,
        has_checked_pages,
        ..
    } = verified;
    if !has_checked_pages {
        note(&format!(
            "{stack}: a daemon writes: the checksums of pages were not verified"
        ));
    }
    if findings == 0 {
        writeln!(out, "{shown}: OK, {records} records")?;
        return Ok(Outcome::Done);
    }
    let plural = if findings == 1 { "" } else { "s" };
    let more = if lost_unknown { "at least " } else { "" };
    writeln!(
        out,
        "{shown}: {findings} finding{plural}, {more}{lost} records cannot be read, {records} can"
    )?;
    Ok(Outcome::Problems)
}

/// A finding in one line.
fn describe(stack: &str, finding: &Finding, screen: &Screen) -> String {
    let server = finding.server.as_ref();
    let server = server.map_or_else(String::new, |it| format!("/{}", escape(it)));
    let signal = finding.signal;
    let signal = signal.map_or_else(String::new, |it| format!(" {it}"));
    let range = finding.range.map_or_else(String::new, |(first, last)| {
        format!(" {} to {}", screen.time(first), screen.time(last))
    });
    let lost = match finding.records {
        None => "cannot read some records: ".to_owned(),
        Some(0) => String::new(),
        Some(records) => format!("cannot read {records} records: "),
    };
    let (stack, what) = (escape(stack), escape(&finding.what));
    format!("{stack}{server}{signal}{range}: {lost}{what}")
}

/// Writes records to the files of their servers. The files appear together at the end.
struct Salvage {
    folders: Folders,
    writer: LineWriter,
    /// The server and the signal of the file that is written.
    current: Option<(ServerName, Signal, AtomicFile)>,
    lines: Vec<u8>,
    sealed: Vec<SealedFile>,
    records: u64,
    failed: Option<anyhow::Error>,
}

impl Salvage {
    fn new(folder: &Path) -> Salvage {
        Salvage {
            folders: Folders::below(folder.to_owned()),
            writer: LineWriter::new(LineFormat::Ndjson),
            current: None,
            lines: Vec::new(),
            sealed: Vec::new(),
            records: 0,
            failed: None,
        }
    }

    fn add(&mut self, record: &RawRecord<'_>) {
        if self.failed.is_none()
            && let Err(error) = self.write(record)
        {
            self.failed = Some(error);
        }
    }

    fn write(&mut self, record: &RawRecord<'_>) -> anyhow::Result<()> {
        let is_same = |(server, signal, _): &(ServerName, Signal, AtomicFile)| {
            server == record.server && *signal == record.signal
        };
        if !self.current.as_ref().is_some_and(is_same) {
            self.end_file()?;
            refuse_others(
                &self.folders.path(record.server),
                record.signal,
                Packing::Plain,
            )?;
            let folder = self.folders.create(record.server)?;
            let file = AtomicFile::create(&folder.join(record.signal.as_str()))?;
            self.current = Some((record.server.clone(), record.signal, file));
        }
        self.writer.write(record, &mut self.lines)?;
        self.records += 1;
        if self.lines.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.writer.finish(&mut self.lines);
        if let Some((_, _, file)) = &mut self.current {
            file.write_bytes(&self.lines)?;
        }
        self.lines.clear();
        Ok(())
    }

    fn end_file(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        if let Some((server, signal, file)) = self.current.take() {
            let path = self
                .folders
                .create(&server)?
                .join(format!("{signal}.jsonl"));
            self.sealed.push(file.seal(path)?);
        }
        Ok(())
    }

    /// Places the files. Returns the number of records and of files.
    fn finish(mut self) -> anyhow::Result<(u64, usize)> {
        if let Some(error) = self.failed.take() {
            return Err(error).context("cannot salvage");
        }
        self.end_file()?;
        let files = self.sealed.len();
        self.sealed.into_iter().try_for_each(SealedFile::place)?;
        Ok((self.records, files))
    }
}
