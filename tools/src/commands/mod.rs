//! The commands, one a file.

pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod wipe;

use gridctl_telemetry::{MigrationStep, Result, StoreOptions, list_stacks};
use std::path::Path;

/// How programs open a database.
fn store_options() -> StoreOptions {
    StoreOptions::for_tools().on_migration(|step: MigrationStep| {
        crate::output::note(&format!(
            "migrating the database to version {} of {}: {}",
            step.version, step.target, step.description
        ));
    })
}

/// The stack that is named, or all of them.
fn stacks(home: &Path, named: Option<&String>) -> Result<Vec<String>> {
    match named {
        Some(stack) => Ok(vec![stack.clone()]),
        None => list_stacks(home),
    }
}
