//! The file that remembers what was exported.
//!
//! Records are appended to files first, and what they then amount to is remembered afterwards, in
//! one step. What happens in between can be taken back: a file is announced before it is created,
//! and a rename before it is done. A run that is killed leaves files longer than is remembered; the
//! next run undoes the renames, cuts the files back, and exports again what was cut. So each record
//! is in the files once.
//!
//! Only the active files are remembered. What is rotated is done with, and whoever tidies up may
//! delete, move or compress it. What was exported stays exported when an active file is gone or was
//! changed, too: the export goes on in a new one.

use super::{
    first_line::Beginnings,
    written::{Found, Remembered, Written},
};
use crate::{
    flat::FileName,
    output::{AtomicFile, note, sync_folder_of},
};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// What was exported, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    version: u32,
    /// What was asked for. Another question cannot go on from here.
    pub(super) selection: String,
    /// Records with a lower sequence are exported.
    pub(super) next_sequence: u64,
    /// The active files, by their paths below the folder.
    pub(super) files: BTreeMap<String, Remembered>,
    /// Renames since, which may or may not have been done: from, to.
    pub(super) rotating: Vec<(String, String)>,
    /// How the files of NDJSON begin that were written.
    pub(super) beginnings: Beginnings,
}

const VERSION: u32 = 2;

impl Progress {
    /// Nothing exported yet.
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

    /// Reads what an earlier run remembered; `None` when there was none.
    pub(super) fn read(path: &Path, selection: &str) -> anyhow::Result<Option<Progress>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let progress: Progress = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} does not say how far an export was: name another file, and export to another \
                 folder",
                path.display()
            )
        })?;
        if progress.version != VERSION {
            bail!(
                "{} has version {}, not {VERSION}",
                path.display(),
                progress.version
            );
        }
        if progress.selection != selection {
            bail!(
                "{} is of another export ({}): go on with the same options, or name another file",
                path.display(),
                progress.selection
            );
        }
        Ok(Some(progress))
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = AtomicFile::create(path)?;
        file.write_bytes(&serde_json::to_vec_pretty(self)?)?;
        file.finish()
    }

    /// Brings the files below `folder` to what is remembered, and says what each has by then. A file
    /// that is not there any more has nothing.
    pub(super) fn restore(&mut self, folder: &Path) -> anyhow::Result<BTreeMap<String, Written>> {
        let rotating = std::mem::take(&mut self.rotating);
        let mut written = BTreeMap::new();
        for (name, remembered) in &mut self.files {
            let rotated: Vec<PathBuf> = rotating
                .iter()
                .filter(|(from, _)| from == name)
                .map(|(_, to)| folder.join(to))
                .collect();
            let restored = restore_file(&folder.join(name), *remembered, &rotated)?;
            *remembered = restored.remember();
            written.insert(name.clone(), restored);
        }
        Ok(written)
    }
}

/// Brings a file to what is remembered of it. Since then it may have been `rotated` to these names,
/// the oldest of which has what is remembered.
fn restore_file(
    path: &Path,
    remembered: Remembered,
    rotated: &[PathBuf],
) -> anyhow::Result<Written> {
    let cannot = || format!("cannot go on with {}", path.display());
    if let Some((first, later)) = rotated.split_first() {
        let before = remembered.find(first)?;
        // All that was begun after it is exported again.
        later.iter().try_for_each(|path| discard(path))?;
        match before {
            Found::AsWritten(..) => {
                discard(path)?;
                fs::rename(first, path).with_context(cannot)?;
            }
            Found::Gone | Found::Changed => {
                // Either the rename was not done, or this file is newer.
                if matches!(remembered.find(path)?, Found::Changed) {
                    discard(path)?;
                }
            }
        }
    }
    let found = remembered.find(path)?;
    Ok(match found {
        Found::AsWritten(file, written) => {
            file.set_len(remembered.bytes).with_context(cannot)?;
            written
        }
        Found::Gone => {
            // What was announced may never have been created.
            if !remembered.is_empty() {
                note_gone(path);
            }
            Written::default()
        }
        Found::Changed => {
            set_aside(path)?;
            Written::default()
        }
    })
}

/// Says that a file is gone, and what that means.
pub(super) fn note_gone(path: &Path) {
    note(&format!(
        "{} is gone; what was exported to it counts as exported, and the export goes on in a new \
         file",
        path.display()
    ));
}

/// Gives a file that was changed the name of a rotated one, and says so: it may hold what is nowhere
/// else. One that was emptied holds nothing and is removed.
pub(super) fn set_aside(path: &Path) -> anyhow::Result<()> {
    let bytes = path.symlink_metadata().map(|metadata| metadata.len());
    if bytes.is_ok_and(|bytes| bytes == 0) {
        note(&format!(
            "{} was emptied; what was exported to it counts as exported, and the export goes on in \
             it",
            path.display()
        ));
        return discard(path);
    }
    let target = rotated_path(path)?;
    fs::rename(path, &target)
        .and_then(|()| sync_folder_of(&target))
        .with_context(|| format!("cannot rename {}", path.display()))?;
    note(&format!(
        "{} was changed since the export wrote it: it is {} now, and the export goes on in a new \
         file",
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
        bail!("{} is no file of an export", path.display());
    };
    Ok(path.with_file_name(FileName::rotated_now(folder, signal)?))
}

/// Removes a file whose records will be exported again, if it is there.
fn discard(path: &Path) -> anyhow::Result<()> {
    // Whether it is a file of ours at all.
    if matches!(Remembered::default().find(path)?, Found::Gone) {
        return Ok(());
    }
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// The path of a file as it is remembered.
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
