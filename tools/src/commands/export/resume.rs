//! The file that stores the progress of an export.
//!
//! Records are appended to files first, and then the new progress is stored in one step. Steps in
//! between can be undone: the progress file names a new file before it is created, and a rename before
//! it is done. A killed run leaves files that are longer than the stored progress. The next run undoes
//! the renames, truncates the files, and exports the removed records again, so that each record is in
//! the files once.
//!
//! The progress covers only the active files. Rotated files are finished, and may be deleted, moved or
//! compressed. Exported records also count as exported if an active file was deleted or changed: the
//! export continues in a new file.

use super::{
    first_line::Beginnings,
    written::{Found, Remembered, Written},
};
use crate::{flat::FileName, output::note};
use anyhow::{Context, bail};
use gridctl_telemetry_files::{AtomicFile, HeldFolder, lock_beside, read_named};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Component, Path, PathBuf},
};

/// The progress of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    version: u32,
    /// The options that select records. An export with other options cannot be resumed from here.
    pub(super) selection: String,
    /// Records with a lower sequence are exported.
    pub(super) next_sequence: u64,
    /// The active files, by their paths below the folder.
    pub(super) files: BTreeMap<String, Remembered>,
    /// Renames that may or may not have been done since: from, to.
    pub(super) rotating: Vec<(String, String)>,
    /// The beginnings of the NDJSON files that were written.
    pub(super) beginnings: Beginnings,
}

const VERSION: u32 = 2;

/// What an export stores between its runs.
pub(super) trait Stored: Serialize + DeserializeOwned {
    const VERSION: u32;

    /// The version that it was stored with.
    fn version(&self) -> u32;

    /// The options that select records, as the run said them that stored it.
    fn selection(&self) -> &str;

    /// The files that it is about, by their paths below the folder of the export.
    fn names(&self) -> impl Iterator<Item = &String>;

    /// Whether the export writes files of this name.
    fn is_own(file_name: &str) -> bool;
}

/// The progress file of this run.
pub(super) struct Taken<P> {
    /// What an earlier run stored; `None` when there was none.
    pub(super) progress: Option<P>,
    /// Another run of the same export, which would write the same records, is refused until this is dropped.
    pub(super) lock: Option<File>,
}

/// Takes the progress file for this run, if it has one.
///
/// Fails when another run uses it, and when another export stored it.
pub(super) fn take<P: Stored>(path: Option<&Path>, selection: &str) -> anyhow::Result<Taken<P>> {
    let Some(path) = path else {
        return Ok(Taken {
            progress: None,
            lock: None,
        });
    };
    let Some(lock) = lock_beside(path)? else {
        bail!(
            "another export uses {}: wait until it has ended, or name another file, and export to another folder",
            path.display()
        );
    };
    Ok(Taken {
        progress: read(path, selection)?,
        lock: Some(lock),
    })
}

fn read<P: Stored>(path: &Path, selection: &str) -> anyhow::Result<Option<P>> {
    let Some(text) = read_named(path)? else {
        return Ok(None);
    };
    let progress: P = serde_json::from_slice(&text).with_context(|| {
        format!(
            "{} is not the progress file of an export: name another file, and export to another \
             folder",
            path.display()
        )
    })?;
    if progress.version() != P::VERSION {
        bail!(
            "{} has the version {}, and only {} is known: name another file, and export to \
             another folder",
            path.display(),
            progress.version(),
            P::VERSION
        );
    }
    if progress.selection() != selection {
        bail!(
            "{} belongs to another export ({}): use the same options, or name another file",
            path.display(),
            progress.selection()
        );
    }
    if let Some(name) = progress.names().find(|name| !is_below::<P>(name)) {
        bail!(
            "{} names the file {name:?}, which no export writes: name another file, and export to \
             another folder",
            path.display()
        );
    }
    Ok(Some(progress))
}

/// Stores the progress in one step.
pub(super) fn write<P: Stored>(progress: &P, path: &Path) -> anyhow::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_bytes(&serde_json::to_vec_pretty(progress)?)?;
    file.finish()
}

impl Stored for Progress {
    const VERSION: u32 = VERSION;

    fn version(&self) -> u32 {
        self.version
    }

    fn selection(&self) -> &str {
        &self.selection
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let renamed = self.rotating.iter().flat_map(|(from, to)| [from, to]);
        self.files.keys().chain(renamed)
    }

    fn is_own(file_name: &str) -> bool {
        FileName::parse(file_name).is_some()
    }
}

impl Progress {
    /// The progress of an export without records.
    pub(super) fn new(selection: String) -> Progress {
        Progress {
            version: VERSION,
            selection,
            next_sequence: 0,
            files: BTreeMap::new(),
            rotating: Vec::new(),
            beginnings: Beginnings::new(),
        }
    }

    /// Restores the files below `folder` to the stored progress, and returns their state. A file that
    /// was deleted is empty.
    pub(super) fn restore(
        &mut self,
        held: &HeldFolder,
        folder: &Path,
    ) -> anyhow::Result<BTreeMap<String, Written>> {
        let rotating = std::mem::take(&mut self.rotating);
        let mut written = BTreeMap::new();
        for (name, remembered) in &mut self.files {
            let rotated: Vec<PathBuf> = rotating
                .iter()
                .filter(|(from, _)| from == name)
                .map(|(_, to)| folder.join(to))
                .collect();
            let restored = restore_file(held, &folder.join(name), *remembered, &rotated)?;
            *remembered = restored.remember();
            written.insert(name.clone(), restored);
        }
        Ok(written)
    }
}

/// Restores a file to its stored progress. Since then it may have been `rotated` to these names, the
/// oldest of which is the file that the progress is about.
fn restore_file(
    held: &HeldFolder,
    path: &Path,
    remembered: Remembered,
    rotated: &[PathBuf],
) -> anyhow::Result<Written> {
    let cannot = || format!("cannot continue {}", path.display());
    if let Some((first, later)) = rotated.split_first() {
        let before = remembered.find(held, first)?;
        // The records of all files begun after it are exported again.
        later.iter().try_for_each(|path| discard(held, path))?;
        match before {
            Found::AsWritten(..) => {
                discard(held, path)?;
                held.rename(first, path).with_context(cannot)?;
            }
            Found::Gone | Found::Changed => {
                // Either the rename was not done, or this file was begun after it.
                if matches!(remembered.find(held, path)?, Found::Changed) {
                    discard(held, path)?;
                }
            }
        }
    }
    let found = remembered.find(held, path)?;
    Ok(match found {
        Found::AsWritten(file, written) => {
            file.set_len(remembered.bytes).with_context(cannot)?;
            written
        }
        Found::Gone => {
            // A file that the progress names may never have been created.
            if !remembered.is_empty() {
                note_gone(path);
            }
            Written::default()
        }
        Found::Changed => {
            set_aside(held, path)?;
            Written::default()
        }
    })
}

/// Reports that a file is gone, and what follows.
pub(super) fn note_gone(path: &Path) {
    note(&format!(
        "{} is gone: its records count as exported, and the export continues in a new file",
        path.display()
    ));
}

/// Renames a changed file to the name of a rotated one, because it may hold records that no other file
/// has, and reports that. An empty file is removed.
pub(super) fn set_aside(held: &HeldFolder, path: &Path) -> anyhow::Result<()> {
    let entry = held.entry(path);
    if entry.is_ok_and(|entry| entry.is_some_and(|entry| entry.st_size == 0)) {
        note(&format!(
            "{} was emptied: its records count as exported, and the export continues in it",
            path.display()
        ));
        return discard(held, path);
    }
    let target = rotated_path(path)?;
    held.rename(path, &target)
        .with_context(|| format!("cannot rename {}", path.display()))?;
    note(&format!(
        "{} was changed since the export wrote it: it was renamed to {}, and the export continues \
         in a new file",
        path.display(),
        target.display()
    ));
    Ok(())
}

/// The path of an active file once it is rotated.
pub(super) fn rotated_path(path: &Path) -> anyhow::Result<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str());
    let signal = name.and_then(FileName::parse).map(|name| name.signal);
    let (Some(folder), Some(signal)) = (path.parent(), signal) else {
        bail!("{} is not a file of an export", path.display());
    };
    Ok(path.with_file_name(FileName::rotated_now(folder, signal)?))
}

/// Removes a file, if it exists, whose records will be exported again.
fn discard(held: &HeldFolder, path: &Path) -> anyhow::Result<()> {
    // Fails unless it is a plain file.
    if matches!(Remembered::default().find(held, path)?, Found::Gone) {
        return Ok(());
    }
    held.remove(path)
        .with_context(|| format!("cannot remove {}", path.display()))
}

/// Whether a name of a progress is that of a file of the layout below the folder of the export.
fn is_below<P: Stored>(name: &str) -> bool {
    let path = Path::new(name);
    let is_plain = |part| matches!(part, Component::Normal(_));
    let file_name = path.file_name().and_then(|name| name.to_str());
    path.components().all(is_plain) && file_name.is_some_and(P::is_own)
}

/// The path of a file as the progress stores it.
pub(super) fn name_below(folder: &Path, path: &Path) -> anyhow::Result<String> {
    let below: PathBuf = path
        .strip_prefix(folder)
        .context("a file outside its folder")?
        .into();
    below
        .into_os_string()
        .into_string()
        .ok()
        .context("a file whose name is not UTF-8")
}
