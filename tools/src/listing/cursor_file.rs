//! The file that says how far a list came, so that the next one continues after it.
//!
//! It counts by arrival and not by time: a record that arrives late with an old time is shown, too. It is
//! written after the records are, so an orderly end repeats none, and `kill -9` repeats at most a page.

use super::reader::Stretch;
use crate::output::note;
use anyhow::{Context, bail};
use gridctl_telemetry::{Store, Timestamp, query::Cursor};
use gridctl_telemetry_files::{AtomicFile, read_named};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

const VERSION: u32 = 1;

/// A cursor file, and what it says.
#[derive(Debug)]
pub(super) struct CursorFile {
    path: PathBuf,
    stack: String,
    database: Database,
    position: Option<Position>,
}

/// How far a list came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Position {
    version: u32,
    stack: String,
    database: Database,
    /// Records with a lower sequence were printed.
    since_sequence: u64,
    /// Records with a lower sequence were printed up to `after`.
    end_sequence: u64,
    after: Option<Cursor>,
}

/// Which file a database is: another one counts its records from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Database {
    inode: u64,
    /// Tells files apart that have the same inode one after the other. Not all file systems know it.
    created: Option<Timestamp>,
}

impl Database {
    fn of(store: &Store) -> anyhow::Result<Database> {
        let path = store.path();
        let metadata =
            fs::metadata(&path).with_context(|| format!("cannot examine {}", path.display()))?;
        Ok(Database {
            inode: metadata.ino(),
            created: metadata.created().ok().map(Timestamp::from),
        })
    }
}

impl CursorFile {
    /// Reads the file, which need not exist.
    ///
    /// Fails when it is something else, and when it belongs to another stack.
    pub(super) fn open(path: &Path, store: &Store) -> anyhow::Result<CursorFile> {
        let mut file = CursorFile {
            path: path.to_owned(),
            stack: store.stack().to_owned(),
            database: Database::of(store)?,
            position: None,
        };
        let Some(text) = read_named(path)? else {
            return Ok(file);
        };
        let position: Position = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is not a file of --cursor-file: name another, or delete it to begin anew",
                path.display()
            )
        })?;
        if position.version != VERSION {
            bail!(
                "{} has the version {}, and only {VERSION} is known: name another file, or delete it to \
                 begin anew",
                path.display(),
                position.version
            );
        }
        if position.stack != file.stack {
            bail!(
                "{} belongs to the stack {:?}: name a file for each stack",
                path.display(),
                position.stack
            );
        }
        if position.database == file.database {
            file.position = Some(position);
        } else {
            note(&format!(
                "the database is another one than {} is about: the list begins anew",
                path.display()
            ));
        }
        Ok(file)
    }

    /// What is left to print of the records before `end`; `None` on the first run.
    pub(super) fn stretches(&self, end: u64) -> Option<Vec<Stretch>> {
        let position = self.position.as_ref()?;
        let mut begun = Stretch::between(position.since_sequence, position.end_sequence);
        (begun.found, begun.read) = (position.after, position.after);
        let rest = Stretch::between(position.end_sequence, end);
        let stretches = [begun, rest];
        Some(
            stretches
                .into_iter()
                .filter(|stretch| stretch.since_sequence < stretch.end_sequence)
                .collect(),
        )
    }

    /// The database was replaced: from now on, positions are those of the new one.
    pub(super) fn examine(&mut self, store: &Store) -> anyhow::Result<()> {
        self.database = Database::of(store)?;
        Ok(())
    }

    /// Notes that the records of a stretch are printed up to its last one.
    pub(super) fn save(&mut self, stretch: Stretch) -> anyhow::Result<()> {
        let position = Position {
            version: VERSION,
            stack: self.stack.clone(),
            database: self.database.clone(),
            since_sequence: stretch.since_sequence,
            end_sequence: stretch.end_sequence,
            after: stretch.read,
        };
        if self.position.as_ref() == Some(&position) {
            return Ok(());
        }
        let mut file = AtomicFile::create(&self.path)?;
        file.write_bytes(&serde_json::to_vec_pretty(&position)?)?;
        file.finish()?;
        self.position = Some(position);
        Ok(())
    }
}
