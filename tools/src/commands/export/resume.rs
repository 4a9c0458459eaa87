//! The file that remembers what was exported.
//!
//! Records are appended to files first, and what they then amount to is remembered afterwards, in
//! one step. What happens in between can be taken back: a file is announced before it is created,
//! and a rename before it is done. A run that is killed leaves files longer than is remembered; the
//! next run undoes the renames, cuts the files back, and exports again what was cut. So each record
//! is in the files once.

use crate::output::AtomicFile;
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
    /// The length of each file, by its path below the folder.
    pub(super) files: BTreeMap<String, u64>,
    /// Renames since, which may or may not have been done: from, to.
    pub(super) rotating: Vec<(String, String)>,
}

const VERSION: u32 = 1;

impl Progress {
    /// Nothing exported yet.
    pub(super) fn new(selection: String) -> Progress {
        Progress {
            version: VERSION,
            selection,
            next_sequence: 0,
            files: BTreeMap::new(),
            rotating: Vec::new(),
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
        let progress: Progress = serde_json::from_slice(&text)
            .with_context(|| format!("{} does not say how far an export was", path.display()))?;
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

    /// Brings the files below `folder` to what is remembered.
    pub(super) fn restore(&mut self, folder: &Path) -> anyhow::Result<()> {
        for (from, to) in std::mem::take(&mut self.rotating).iter().rev() {
            let to = folder.join(to);
            if to.exists() {
                // What stands under the old name by now was begun after the rename.
                fs::rename(&to, folder.join(from))
                    .with_context(|| format!("cannot rename {}", to.display()))?;
            }
        }
        for (name, bytes) in &self.files {
            let path = folder.join(name);
            let cannot = || format!("cannot go on with {}", path.display());
            let file = match fs::OpenOptions::new().write(true).open(&path) {
                Ok(file) => file,
                // Announced, and never created.
                Err(error) if *bytes == 0 && error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(cannot),
            };
            let length = file.metadata().with_context(cannot)?.len();
            if length < *bytes {
                bail!(
                    "{} has {length} bytes, and {bytes} were exported to it: it was changed since",
                    path.display()
                );
            }
            file.set_len(*bytes).with_context(cannot)?;
        }
        Ok(())
    }
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
