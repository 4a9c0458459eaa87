//! `export-parquet`: write stored records as Parquet files for other engines.
//!
//! ```text
//! DIR/stack=STACK/signal=SIGNAL/date=DAY/STACK-DATABASE-TIME-SEQUENCE.parquet
//! ```
//!
//! DATABASE tells the database from all others, and TIME and SEQUENCE are those of the first record, so the exports
//! of any number of machines fit in one folder. DAY is that under whose time the store keeps the record, in UTC: of
//! a span that of its end.
//!
//! A file is written under a temporary name, synced and renamed, so a reader never sees a part of it. With a progress
//! file, what is complete at a *checkpoint* (a day or a file is full, or a signal is done) appears in three steps:
//!
//! 1. all its files are complete and synced, under temporary names;
//! 2. the progress names the files and the record that they end with;
//! 3. they are renamed.
//!
//! A run that is killed before the second step leaves temporary files, which the next run removes; after it, the next
//! run renames what is not renamed yet. So each record is in the files once. One round exports the records that are
//! stored when it begins, and a killed round is continued to the same end before the next one begins: records that
//! arrive later, with any time, are in the next round.
//!
//! Without a progress file, all files appear at the end, or none.

use super::{
    Run, SCAN_BYTES, Selection, SelectionArgs, losses_of, note_exported, note_lost,
    resume::{self, Stored, name_below},
    select,
    source::Source,
    unlisted,
};
use crate::{
    Outcome, damage,
    folders::refuse_links,
    output::note,
    screen::{Output, Screen},
};
use anyhow::{Context, bail};
use gridctl_telemetry::{
    Signal, Snapshot, Store, Timestamp,
    query::{Cursor, RawRecord},
    send,
};
use gridctl_telemetry_files::{AtomicFile, HeldFolder, SealedFile, private_folder};
use gridctl_telemetry_parquet::{Error, Origin, ParquetFile, Rows, Table};
use gridctl_telemetry_server::display::escape;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The size of the rows in memory from which on they are written as row groups, in bytes: some 100,000 logs. Beside
/// them are those that are being written, the encoded bytes of one column, and the blocks that the scan holds.
const ROWS_BYTES: usize = 16 << 20;
/// A record from this size on is not added to other rows, in bytes.
const LARGE_BYTES: usize = 4 << 20;
/// An export never uses more memory than this, in bytes, unless for a record that is larger than some MiB. Vectors can
/// have twice the room that they need.
const MEMORY_BYTES_MAX: usize = 256 << 20;
const _: () = assert!(2 * (2 * ROWS_BYTES + LARGE_BYTES) + SCAN_BYTES < MEMORY_BYTES_MAX / 2);

const NANOS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000_000;
/// What a name keeps as it is. The rest is percent-encoded, which readers of partitions decode.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// The part of an encoded stack's name that is also in the names of files.
const NAME_BYTES_MAX: usize = 100;
/// The longest name of a folder, in bytes.
const FOLDER_BYTES_MAX: usize = 255;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Write DIR/stack=STACK/signal=SIGNAL/date=DAY/NAME.parquet. Many machines can export to one folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Store the progress in FILE: a later run with the same FILE exports only new records, each record
    /// once, even if this run is killed
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Begin a new file at this size, in MiB
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    max_size_mb: u64,
}

/// The progress of an export.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    version: u32,
    /// The options that select records.
    selection: String,
    /// The database that is exported.
    database: String,
    /// Records with a lower sequence are exported.
    next_sequence: u64,
    /// The round that is not complete.
    round: Option<Round>,
    /// Complete files that may not have their names yet: from, to.
    placing: Vec<(String, String)>,
    /// Files that may not be complete.
    writing: Vec<String>,
}

/// The export of all records from the progress's sequence on up to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Round {
    /// The first sequence that is not part of it.
    end: u64,
    /// The signals that are complete.
    done: Vec<Signal>,
    /// The last record of the next signal that is in a complete file.
    after: Option<String>,
}

impl Stored for Progress {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }

    fn selection(&self) -> &str {
        &self.selection
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let placing = self.placing.iter().flat_map(|(from, to)| [from, to]);
        placing.chain(&self.writing)
    }

    fn is_own(name: &str) -> bool {
        let extension = Path::new(name).extension();
        extension == Some(OsStr::new("parquet"))
            || (name.starts_with('.') && extension == Some(OsStr::new("part")))
    }
}

pub(crate) fn run(
    home: &Path,
    screen: &Screen,
    args: &Args,
    _out: &mut Output,
) -> anyhow::Result<Outcome> {
    let (store, wanted) = args.selection.open(home, screen)?;
    let snapshot = store.snapshot()?;
    let selected = select(&snapshot, &wanted)?;
    if selected.is_empty() && args.resume.is_none() {
        note("no records to export");
        return Ok(Outcome::Problems);
    }
    let mut run = Run::begin(&selected)?;
    run.note_damage(unlisted(&snapshot)?);
    let lost = losses_of(&snapshot, &wanted, screen)?;
    let mut files = Files::open(args, &wanted, &snapshot)?;
    let done = files.export(&mut run, &store, snapshot)?;
    run.bar.finish_and_clear();
    if done || args.resume.is_some() {
        note_exported(files.records, files.placed, files.bytes);
    }
    if !done {
        note(match &args.resume {
            Some(_) => "interrupted: the next run with the same --resume file continues",
            None => "interrupted; the export was discarded",
        });
    }
    note_lost(lost);
    Ok(match (done, files.records) {
        (false, _) => Outcome::Interrupted,
        (true, _) if !run.damage.is_empty() => Outcome::Problems,
        (true, 0) if args.resume.is_none() => Outcome::Problems,
        (true, _) => Outcome::Done,
    })
}

/// A file that is being written.
struct Open {
    file: ParquetFile<AtomicFile>,
    path: PathBuf,
}

impl Open {
    fn cannot(&self) -> String {
        format!("cannot write {}", self.path.display())
    }
}

struct Files<'a> {
    args: &'a Args,
    wanted: &'a Selection,
    held: HeldFolder,
    /// The name of the stack as it is in names.
    stack: String,
    database: String,
    progress: Progress,
    rows: Rows,
    open: BTreeMap<Table, Open>,
    /// The first and the last record since the last checkpoint.
    since: Option<(Cursor, Timestamp, u64)>,
    last: Option<Cursor>,
    /// The complete files of an export without a progress file.
    sealed: Vec<SealedFile>,
    records: u64,
    placed: u64,
    bytes: u64,
    _lock: Option<File>,
}

impl Files<'_> {
    fn open<'a>(
        args: &'a Args,
        wanted: &'a Selection,
        snapshot: &Snapshot,
    ) -> anyhow::Result<Files<'a>> {
        let stack = utf8_percent_encode(&wanted.stack, NAME).to_string();
        if "stack=".len() + stack.len() > FOLDER_BYTES_MAX {
            bail!(
                "the name of the stack {:?} is too long for the name of a folder",
                wanted.stack
            );
        }
        let database_id = snapshot.database_id()?.unwrap_or_default();
        let database = format!("{database_id:016x}");
        let selection = wanted.describe("parquet");
        let taken = resume::take::<Progress>(args.resume.as_deref(), &selection)?;
        let is_new = taken.progress.is_none();
        let progress = taken.progress.unwrap_or_else(|| Progress {
            version: Progress::VERSION,
            selection,
            database: database.clone(),
            ..Progress::default()
        });
        if progress.database != database || progress.next_sequence > snapshot.next_sequence()? {
            bail!(
                "the database is not the one that was exported before ({}, and now {database}): name another \
                 --resume file",
                progress.database
            );
        }
        let mut files = Files {
            args,
            wanted,
            held: HeldFolder::create(&args.out)?,
            rows: Rows::new(Origin {
                attributes: send::origin(database_id),
            }),
            stack,
            database,
            progress,
            open: BTreeMap::new(),
            since: None,
            last: None,
            sealed: Vec::new(),
            records: 0,
            placed: 0,
            bytes: 0,
            _lock: taken.lock,
        };
        if is_new {
            files.refuse_others()?;
        } else {
            files.recover()?;
        }
        Ok(files)
    }

    /// The folder of a table.
    fn folder(&self, table: Table) -> PathBuf {
        let stack = format!("stack={}", self.stack);
        let signal = format!("signal={}", table.name());
        self.args.out.join(stack).join(signal)
    }

    /// Fails if the folder has records of this database: they would be there twice.
    fn refuse_others(&self) -> anyhow::Result<()> {
        let own = format!("-{}-", self.database);
        for table in Table::ALL {
            if !self.wanted.has_signal(signal_of(table)) {
                continue;
            }
            for day in entries(&self.folder(table))? {
                for file in entries(&day)? {
                    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
                    if name.contains(&own) && name.ends_with(".parquet") {
                        bail!(
                            "{} is there already, and has records of this database: pass the --resume file of \
                             the export that wrote it, or export to another folder",
                            file.display()
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends what a run that was killed had begun.
    fn recover(&mut self) -> anyhow::Result<()> {
        for (from, to) in std::mem::take(&mut self.progress.placing) {
            let (from, to) = (self.args.out.join(from), self.args.out.join(to));
            let cannot = || format!("cannot rename {}", from.display());
            if self.held.entry(&from).with_context(cannot)?.is_some() {
                self.held.rename(&from, &to).with_context(cannot)?;
            } else if self.held.entry(&to).with_context(cannot)?.is_none() {
                note(&format!(
                    "{} is gone: its records count as exported",
                    to.display()
                ));
            }
        }
        for name in std::mem::take(&mut self.progress.writing) {
            let path = self.args.out.join(name);
            match self.held.remove(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        self.remember()
    }

    fn remember(&self) -> anyhow::Result<()> {
        let path = self.args.resume.as_ref();
        path.map_or(Ok(()), |path| resume::write(&self.progress, path))
    }

    /// Exports the round that was not completed, and all records that are stored now. Returns whether the
    /// export ended by itself.
    fn export(&mut self, run: &mut Run, store: &Store, snapshot: Snapshot) -> anyhow::Result<bool> {
        if let Some(round) = self.progress.round.clone() {
            let source = Source::new(store, store.snapshot()?)?.until(round.end);
            if !self.round(run, source, round)? {
                return Ok(false);
            }
        }
        let source = Source::new(store, snapshot)?;
        let round = Round {
            end: source.end(),
            done: Vec::new(),
            after: None,
        };
        if !self.round(run, source, round)? {
            return Ok(false);
        }
        self.placed += self.sealed.len() as u64;
        for sealed in std::mem::take(&mut self.sealed) {
            sealed.place()?;
        }
        Ok(true)
    }

    fn round(
        &mut self,
        run: &mut Run,
        mut source: Source<'_>,
        round: Round,
    ) -> anyhow::Result<bool> {
        let end = round.end;
        self.progress.round = Some(round);
        for signal in Signal::ALL {
            let round = self.progress.round.as_ref();
            let is_done = round.is_some_and(|round| round.done.contains(&signal));
            if is_done || !self.wanted.has_signal(signal) {
                continue;
            }
            run.bar
                .set_message(escape(&format!("{} {signal}", self.wanted.stack)));
            let done = self.signal(run, &mut source, signal)?;
            if !done && self.args.resume.is_none() {
                return Ok(false);
            }
            self.checkpoint()?;
            if !done {
                return Ok(false);
            }
            if let Some(round) = &mut self.progress.round {
                round.done.push(signal);
                round.after = None;
            }
        }
        self.progress.round = None;
        self.progress.next_sequence = end;
        self.remember()?;
        Ok(true)
    }

    /// Exports the records of a signal. Returns whether all of them were.
    fn signal(
        &mut self,
        run: &mut Run,
        source: &mut Source<'_>,
        signal: Signal,
    ) -> anyhow::Result<bool> {
        let next_sequence = self.progress.next_sequence;
        let after = self.progress.round.as_ref();
        let after = after.and_then(|round| round.after.as_ref());
        let after: Option<Cursor> = after.map(|text| text.parse()).transpose()?;
        let mut query = self.wanted.query(signal, &self.wanted.servers);
        // The points of metrics say when their counters began, which earlier ones tell.
        if signal != Signal::Metrics {
            query = query.since_sequence(next_sequence);
            if let Some(after) = after {
                query = query.after(after);
            }
        }
        let bytes_max = self.args.max_size_mb << 20;
        let (is_done, damage) = source.batches(&query, |batch| {
            let records_before = self.records;
            for record in batch.iter() {
                let cursor = record.cursor();
                if record.sequence < next_sequence || after.is_some_and(|after| cursor <= after) {
                    self.rows.pass(&record)?;
                } else {
                    self.add(run, &record)?;
                }
            }
            if self.rows.bytes() >= ROWS_BYTES {
                self.flush()?;
            }
            let is_full = |open: &Open| open.file.bytes() >= bytes_max;
            if self.open.values().any(is_full) {
                self.checkpoint()?;
            }
            run.bar.inc(self.records - records_before);
            Ok(!run.interrupt.requested())
        })?;
        run.note_damage(damage.iter().map(damage::skipped).collect());
        Ok(is_done)
    }

    /// Adds the rows of a record.
    fn add(&mut self, run: &mut Run, record: &RawRecord<'_>) -> anyhow::Result<()> {
        let is_large = record.payload_bytes() >= LARGE_BYTES;
        if is_large {
            self.flush()?;
        }
        let (timestamp, sequence) = (record.timestamp, record.sequence);
        let begins = match &self.since {
            None => true,
            Some((_, begun, _)) => day_of(*begun) != day_of(timestamp),
        };
        if begins {
            self.checkpoint()?;
            self.since = Some((record.cursor(), timestamp, sequence));
        }
        match self.rows.push(record) {
            Ok(()) => self.records += 1,
            Err(Error::File(error)) => return Err(error.into()),
            Err(error) => run.note_damage(vec![(
                format!("{}: the record of {timestamp}: {error}", record.server),
                Some(1),
            )]),
        }
        self.last = Some(record.cursor());
        if is_large {
            self.flush()?;
            for open in self.open.values_mut() {
                open.file.wait().with_context(|| open.cannot())?;
            }
        }
        Ok(())
    }

    /// Begins to write all rows as row groups.
    fn flush(&mut self) -> anyhow::Result<()> {
        for table in self.rows.waiting() {
            if !self.open.contains_key(&table) {
                let begun = self.begin(table)?;
                self.open.insert(table, begun);
            }
            if let Some(open) = self.open.get_mut(&table) {
                self.rows
                    .flush(&mut open.file)
                    .with_context(|| open.cannot())?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, table: Table) -> anyhow::Result<Open> {
        let (_, timestamp, sequence) = self.since.context("rows of no record")?;
        let time = timestamp.to_string();
        let day = time.split('T').next().unwrap_or_default();
        let folder = self.folder(table).join(format!("date={day}"));
        let plain: String = time.chars().filter(|char| !"-:".contains(*char)).collect();
        let stack = self.stack.get(..NAME_BYTES_MAX).unwrap_or(&self.stack);
        let path = folder.join(format!(
            "{stack}-{}-{plain}-{sequence}.parquet",
            self.database
        ));
        let highest = self.args.out.join(format!("stack={}", self.stack));
        refuse_links(&folder, &highest)?;
        private_folder(&folder)?;
        refuse_links(&folder, &highest)?;
        let written = self.progress.writing.len();
        // Before the file is there: it would stay after a kill that comes between.
        let file = AtomicFile::create_after(&path, |temporary| {
            // The path of an earlier attempt belongs to another process.
            self.progress.writing.truncate(written);
            let temporary = name_below(&self.args.out, &beside(&path, temporary)?)?;
            self.progress.writing.push(temporary);
            self.remember()
        })?;
        let file = ParquetFile::begin(table, file)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Open { file, path })
    }

    /// Makes all records so far appear, in complete files.
    fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        self.since = None;
        let mut complete = Vec::new();
        for (_, open) in std::mem::take(&mut self.open) {
            let Open { file, path } = open;
            let cannot = || format!("cannot write {}", path.display());
            let file = file.finish().with_context(cannot)?;
            self.bytes += fs::metadata(file.temporary()).with_context(cannot)?.len();
            let sealed = file.seal(path.clone())?;
            if self.args.resume.is_none() {
                self.sealed.push(sealed);
            } else {
                complete.push((beside(&path, &sealed.keep()?)?, path));
            }
        }
        let (Some(round), Some(last)) = (&mut self.progress.round, self.last.take()) else {
            return Ok(());
        };
        sync_folders(
            &self.args.out,
            complete.iter().map(|(from, _)| from.as_path()),
        )?;
        round.after = Some(last.to_string());
        self.progress.writing.clear();
        self.progress.placing = (complete.iter())
            .map(|(from, to)| {
                Ok((
                    name_below(&self.args.out, from)?,
                    name_below(&self.args.out, to)?,
                ))
            })
            .collect::<anyhow::Result<_>>()?;
        self.remember()?;
        for (from, to) in complete {
            self.held
                .rename(&from, &to)
                .with_context(|| format!("cannot write {}", to.display()))?;
            self.placed += 1;
        }
        Ok(())
    }
}

/// Syncs the folders of files up to `highest`: a power loss must not undo the creation of what the progress names.
fn sync_folders<'a>(
    highest: &'a Path,
    files: impl IntoIterator<Item = &'a Path>,
) -> anyhow::Result<()> {
    let above = |file: &'a Path| {
        let folders = file.ancestors().skip(1);
        folders.take_while(move |folder| folder.starts_with(highest))
    };
    let folders: BTreeSet<&Path> = files.into_iter().flat_map(above).collect();
    for folder in folders {
        fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("cannot sync the folder {}", folder.display()))?;
    }
    Ok(())
}

/// The path of a file in the folder of `path`, which can be relative where that of the file is not.
fn beside(path: &Path, file: &Path) -> anyhow::Result<PathBuf> {
    let name = file.file_name().context("a file without a name")?;
    Ok(path.with_file_name(name))
}

fn signal_of(table: Table) -> Signal {
    match table {
        Table::Logs => Signal::Logs,
        Table::Traces => Signal::Traces,
        _ => Signal::Metrics,
    }
}

fn day_of(timestamp: Timestamp) -> i64 {
    timestamp.unix_nanos().div_euclid(NANOS_PER_DAY)
}

/// The paths in a folder; none when it does not exist.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read the folder {}", folder.display());
    let found = match fs::read_dir(folder) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).with_context(cannot),
    };
    found
        .map(|entry| Ok(entry.with_context(cannot)?.path()))
        .collect()
}
