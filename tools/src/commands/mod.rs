//! The commands, one file each.

pub(crate) mod calls;
pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod count;
pub(crate) mod demo;
pub(crate) mod export;
#[cfg(feature = "forward")]
pub(crate) mod forward;
pub(crate) mod import;
pub(crate) mod logs;
pub(crate) mod losses;
pub(crate) mod man;
#[cfg(feature = "mcp")]
pub(crate) mod mcp;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod trace;
pub(crate) mod traces;
pub(crate) mod usage;
pub(crate) mod verify;
pub(crate) mod wipe;

use crate::{
    interrupt::Interrupt,
    output::{note, write_json},
    screen::Screen,
};
use gridctl_telemetry::{
    Result, StoreOptions,
    maintenance::MigrationStep,
    query::{Arrival, Arrivals},
};
use serde::Serialize;
use std::{io::Write, time::Duration};

/// How often a command that waits asks for an interrupt.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(250);

/// Options of a store that the programs open.
pub(crate) fn store_options() -> StoreOptions {
    StoreOptions::for_tools().on_migration(|step: MigrationStep| {
        note(&format!(
            "migrating the database to version {} of {}: {}",
            step.version, step.target, step.description
        ));
    })
}

/// Waits until records have arrived; `None` on an interrupt, which ends following.
fn wait_for_arrival(arrivals: &mut Arrivals, interrupt: &Interrupt) -> Result<Option<Arrival>> {
    while !interrupt.requested() {
        if let Some(arrival) = arrivals.next_timeout(INTERRUPT_INTERVAL)? {
            return Ok(Some(arrival));
        }
    }
    Ok(None)
}

/// Prints a value as JSON, indented.
fn print_json(value: &impl Serialize, screen: &Screen, out: &mut impl Write) -> anyhow::Result<()> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    Ok(write_json(&json, screen, out)?)
}
