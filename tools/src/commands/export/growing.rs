//! An export that can be continued: its files grow by whole lines, and their progress is stored.

use super::{
    Chunk, Export, Options,
    first_line::{self, Beginnings},
    resume::{self, Progress, name_below, note_gone, rotated_path, set_aside},
    select,
    source::Source,
    wait_for_arrival,
    written::{Found, Remembered, Written},
};
use crate::folders::Folders;
use anyhow::{Context, bail};
use gridctl_telemetry::{ServerName, Signal, Store};
use gridctl_telemetry_files::HeldFolder;
use gridctl_telemetry_server::display::escape;
use rustix::fs::Stat;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write,
    path::Path,
};

/// Exports new records, and continues with later ones if asked to follow. Returns whether the export
/// ended by itself; after an interrupt, the stored progress is that of the last complete round.
pub(super) fn export<'s>(
    export: &mut Export,
    store: &'s Store,
    mut source: Source<'s>,
    args: &Options,
    folder: &Path,
) -> anyhow::Result<bool> {
    let mut files = Files::open(args, folder)?;
    if files.committed.next_sequence > source.end() {
        bail!(
            "the database is not the one that was exported before, because it has fewer records: name \
             another --resume file, and export to another folder"
        );
    }
    let mut arrivals = store.arrivals(source.end())?;
    loop {
        for series in select(source.snapshot()?, &args.wanted)? {
            export
                .run
                .bar
                .set_message(escape(&format!("{} {}", series.server, series.signal)));
            let query = args
                .wanted
                .query(series.signal, [&series.server])
                .since_sequence(files.committed.next_sequence);
            let mut file = None;
            let done = export.copy(&mut source, &query, |chunk, _| {
                files.append(&mut file, &series.server, series.signal, chunk)
            })?;
            if let Some(file) = file {
                file.sync_all()?;
            }
            if !done {
                // The progress does not include the last appends, and the next run removes them.
                crate::output::note("interrupted");
                return Ok(false);
            }
        }
        files.commit(source.end())?;
        export.counts.files = files.touched.len() as u64;
        if !args.given.follow {
            return Ok(true);
        }
        match wait_for_arrival(&mut arrivals, &export.run.interrupt)? {
            Some(arrival) if arrival.is_replaced => {
                bail!("the database was replaced by another one: export it to another folder")
            }
            Some(arrival) => source = Source::new(store, arrival.snapshot)?,
            None => return Ok(true),
        }
    }
}

struct Files<'a> {
    args: &'a Options<'a>,
    folder: &'a Path,
    /// The same folder, which a rename does not replace.
    held: HeldFolder,
    folders: Folders,
    /// The stored progress.
    committed: Progress,
    /// The state of each active file, by its path below the folder.
    written: BTreeMap<String, Written>,
    beginnings: Beginnings,
    /// The files that records were appended to.
    touched: BTreeSet<String>,
    _lock: Option<File>,
}

impl Files<'_> {
    fn open<'a>(args: &'a Options<'a>, folder: &'a Path) -> anyhow::Result<Files<'a>> {
        let format = format!("{:?}", args.given.format);
        let selection = args.wanted.describe(&format);
        let taken = resume::take(args.given.resume.as_deref(), &selection)?;
        let mut committed = taken.progress.unwrap_or_else(|| Progress::new(selection));
        let before = committed.clone();
        let held = HeldFolder::create(folder)?;
        let written = committed.restore(&held, folder)?;
        let files = Files {
            args,
            folder,
            held,
            folders: Folders::below(folder.join(&args.wanted.stack)),
            written,
            beginnings: committed.beginnings.clone(),
            touched: BTreeSet::new(),
            committed,
            _lock: taken.lock,
        };
        if files.committed != before {
            files.remember()?;
        }
        Ok(files)
    }

    /// Appends lines to the file of a series, which stays open in `file` between calls.
    fn append(
        &mut self,
        file: &mut Option<File>,
        server: &ServerName,
        signal: Signal,
        chunk: Chunk<'_>,
    ) -> anyhow::Result<()> {
        let path = self.folders.path(server).join(format!("{signal}.jsonl"));
        let name = name_below(self.folder, &path)?;
        if file.is_none() {
            *file = self.go_on(&path, &name)?;
        }
        let bytes = self.written.get(&name).map_or(0, |written| written.bytes);
        let is_full = bytes.saturating_add(chunk.lines.len() as u64) > self.args.file_bytes_max();
        if bytes > 0
            && is_full
            && let Some(full) = file.take()
        {
            self.rotate(&full, &name, &path)?;
        }
        let open = match file {
            Some(open) => open,
            none => {
                self.folders.create(server)?;
                none.insert(self.begin(&path, &name)?)
            }
        };
        let written = self.written.entry(name.clone()).or_default();
        let first;
        let lines = if written.bytes == 0 {
            let beginning = self.args.beginning(server, signal, &chunk);
            let has_resource = self.args.begins_with_resource(signal);
            first = first_line::marked(chunk.lines, beginning, has_resource, &mut self.beginnings);
            &first
        } else {
            chunk.lines
        };
        open.write_all(lines)
            .with_context(|| format!("cannot write {}", path.display()))?;
        written.append(lines);
        self.touched.insert(name);
        Ok(())
    }

    /// Opens a file that lines were written to; `None` when a new file must be begun.
    fn go_on(&mut self, path: &Path, name: &str) -> anyhow::Result<Option<File>> {
        let Some(written) = self.written.get(name) else {
            return Ok(None);
        };
        match written.remember().find(&self.held, path)? {
            Found::AsWritten(file, _) if file.metadata()?.len() == written.bytes => {
                return Ok(Some(file));
            }
            Found::AsWritten(..) | Found::Changed => set_aside(&self.held, path)?,
            Found::Gone if written.bytes > 0 => note_gone(path),
            Found::Gone => {}
        }
        self.written.insert(name.to_owned(), Written::default());
        Ok(None)
    }

    fn begin(&mut self, path: &Path, name: &str) -> anyhow::Result<File> {
        // An unknown file is the user's, or of an export that was not resumed: appending to it would
        // duplicate records.
        let cannot = || format!("cannot create {}", path.display());
        if self.held.entry(path).with_context(cannot)?.is_some() {
            bail!(
                "{} is there already, and is not a file of this export: move it away",
                path.display()
            );
        }
        // After a rename, the progress of this name is that of the renamed file.
        if !self.committed.rotating.iter().any(|(from, _)| from == name) {
            let files = &mut self.committed.files;
            files.insert(name.to_owned(), Remembered::default());
            self.remember()?;
        }
        self.held.create_file(path).with_context(cannot)
    }

    /// Renames a full file to the name of a rotated one.
    fn rotate(&mut self, full: &File, name: &str, path: &Path) -> anyhow::Result<()> {
        full.sync_all()?;
        self.written.insert(name.to_owned(), Written::default());
        let there = self.held.entry(path)?;
        let written = rustix::fs::fstat(full).map_err(std::io::Error::from)?;
        let is_it = |stat: &Stat| (stat.st_dev, stat.st_ino) == (written.st_dev, written.st_ino);
        if !there.as_ref().is_some_and(is_it) {
            // The file was moved while it was written to, which replaces the rotation.
            if there.is_none() {
                note_gone(path);
            }
            return Ok(());
        }
        let target = rotated_path(path)?;
        let target_name = name_below(self.folder, &target)?;
        self.committed
            .rotating
            .push((name.to_owned(), target_name.clone()));
        self.remember()?;
        self.held
            .rename(path, &target)
            .with_context(|| format!("cannot rename {}", path.display()))?;
        self.touched.insert(target_name);
        Ok(())
    }

    /// Stores the progress with everything that was appended, which must be on the disk.
    fn commit(&mut self, next_sequence: u64) -> anyhow::Result<()> {
        self.committed.next_sequence = next_sequence;
        self.committed.files = self
            .written
            .iter()
            .map(|(name, written)| (name.clone(), written.remember()))
            .collect();
        self.committed.rotating.clear();
        self.committed.beginnings.clone_from(&self.beginnings);
        self.remember()
    }

    fn remember(&self) -> anyhow::Result<()> {
        self.args
            .given
            .resume
            .as_ref()
            .map_or(Ok(()), |path| resume::write(&self.committed, path))
    }
}
