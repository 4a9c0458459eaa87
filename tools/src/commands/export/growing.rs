//! An export that goes on: its files grow by whole lines, and what they hold is remembered.

use super::{
    Args, Export,
    resume::{Progress, name_below},
    select, wait_for_arrival,
    whole::rotated_name,
};
use crate::output::{escape, folder_name, private_folder};
use anyhow::{Context, bail};
use gridctl_telemetry::{ServerName, Signal, Snapshot, Store, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Exports what is new, and goes on when it is asked to. Says whether it came to the end by itself;
/// what was exported is remembered also when it did not.
pub(super) fn export(
    export: &mut Export,
    store: &Store,
    mut snapshot: Snapshot,
    args: &Args,
    folder: &Path,
) -> anyhow::Result<bool> {
    let mut files = Files::open(args, folder)?;
    if files.committed.next_sequence > snapshot.next_sequence()? {
        bail!("the database is not the one that was exported before: it has fewer records");
    }
    loop {
        let next = snapshot.next_sequence()?;
        for series in select(&snapshot, args)? {
            export
                .bar
                .set_message(escape(&format!("{} {}", series.server, series.signal)));
            let query = args
                .query(series.signal, [&series.server])
                .since_sequence(files.committed.next_sequence);
            let mut file = None;
            let done = export.copy(&snapshot, &query, |lines| {
                files.append(&mut file, &series.server, series.signal, lines)
            })?;
            if let Some(file) = file {
                file.sync_all()?;
            }
            if !done {
                // What was appended is not remembered, and the next run cuts it off.
                crate::output::note("interrupted");
                return Ok(false);
            }
        }
        files.commit(next)?;
        export.counts.files = files.touched.len() as u64;
        if !args.follow {
            return Ok(true);
        }
        match wait_for_arrival(store, next, &export.interrupt)? {
            Some(newer) => snapshot = newer,
            None => return Ok(true),
        }
    }
}

struct Files<'a> {
    args: &'a Args,
    folder: &'a Path,
    /// What is remembered.
    committed: Progress,
    /// The length of each file, by its path below the folder.
    lengths: BTreeMap<String, u64>,
    /// The files that something was appended to.
    touched: BTreeSet<String>,
}

impl Files<'_> {
    fn open<'a>(args: &'a Args, folder: &'a Path) -> anyhow::Result<Files<'a>> {
        let selection = format!(
            "format {:?}, stack {:?}, servers {:?}, signals {:?}, since {:?}, until {:?}",
            args.format,
            args.stack,
            args.server,
            args.signal,
            args.since.map(|time| time.to_string()),
            args.until.map(|time| time.to_string())
        );
        let known = match &args.resume {
            Some(path) => Progress::read(path, &selection)?,
            None => None,
        };
        let committed = match known {
            Some(mut known) => {
                known.restore(folder)?;
                known
            }
            None => Progress::new(selection),
        };
        let lengths = committed.files.clone();
        Ok(Files {
            args,
            folder,
            committed,
            lengths,
            touched: BTreeSet::new(),
        })
    }

    /// Appends lines to the file of a series, which `file` keeps open from call to call.
    fn append(
        &mut self,
        file: &mut Option<File>,
        server: &ServerName,
        signal: Signal,
        lines: &[u8],
    ) -> anyhow::Result<()> {
        let folder = self
            .folder
            .join(&self.args.stack)
            .join(folder_name(server)?);
        let path = folder.join(format!("{signal}.jsonl"));
        let name = name_below(self.folder, &path)?;
        let bytes = self.lengths.get(&name).copied().unwrap_or(0);
        if bytes > 0 && bytes.saturating_add(lines.len() as u64) > self.args.file_bytes_max() {
            if let Some(full) = file.take() {
                full.sync_all()?;
            }
            self.rotate(&name, &path, signal)?;
        }
        let open = match file {
            Some(open) => open,
            none => {
                private_folder(&folder)?;
                none.insert(self.open_file(&path, &name)?)
            }
        };
        open.write_all(lines)
            .with_context(|| format!("cannot write {}", path.display()))?;
        *self.lengths.entry(name.clone()).or_default() += lines.len() as u64;
        self.touched.insert(name);
        Ok(())
    }

    fn open_file(&mut self, path: &Path, name: &str) -> anyhow::Result<File> {
        let mut options = fs::OpenOptions::new();
        options.append(true).mode(0o600);
        if self.lengths.contains_key(name) {
            options.create(true);
        } else {
            // A file that is there and not remembered is somebody else's, or of an export that was
            // not resumed: appending to it would give records twice.
            if path.symlink_metadata().is_ok() {
                bail!("{} is there already: move it away", path.display());
            }
            self.committed.files.entry(name.to_owned()).or_insert(0);
            self.remember()?;
            options.create_new(true);
        }
        self.lengths.entry(name.to_owned()).or_insert(0);
        options
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    /// Gives a full file the name of a rotated one.
    fn rotate(&mut self, name: &str, path: &Path, signal: Signal) -> anyhow::Result<()> {
        let mut time = Timestamp::now();
        let mut target = path.with_file_name(rotated_name(signal, time));
        while target.exists() {
            time = Timestamp::from_unix_nanos(time.unix_nanos() + 1_000_000);
            target = path.with_file_name(rotated_name(signal, time));
        }
        let target_name = name_below(self.folder, &target)?;
        self.committed
            .rotating
            .push((name.to_owned(), target_name.clone()));
        self.remember()?;
        fs::rename(path, &target).with_context(|| format!("cannot rename {}", path.display()))?;
        let bytes = self.lengths.insert(name.to_owned(), 0).unwrap_or(0);
        self.lengths.insert(target_name.clone(), bytes);
        self.touched.insert(target_name);
        Ok(())
    }

    /// Remembers everything that was appended, which must be on the disk.
    fn commit(&mut self, next_sequence: u64) -> anyhow::Result<()> {
        self.committed.next_sequence = next_sequence;
        self.committed.files.clone_from(&self.lengths);
        self.committed.rotating.clear();
        self.remember()
    }

    fn remember(&self) -> anyhow::Result<()> {
        self.args
            .resume
            .as_ref()
            .map_or(Ok(()), |path| self.committed.write(path))
    }
}
