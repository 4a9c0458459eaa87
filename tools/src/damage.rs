//! What is said about parts of a store that cannot be read.

use crate::output::note;
use gridctl_telemetry::{Store, query::Damage};

/// The number of damaged parts that are named at once.
const NAMED_MAX: usize = 20;

/// A part of the store that cannot be read: what it is, and how many records were in it if that is known.
pub(crate) type Damaged = (String, Option<u64>);

/// Says on stderr what a reader skipped, each part once. Returns whether there is any.
pub(crate) fn note_skipped(damage: &[Damage]) -> bool {
    let mut parts: Vec<Damaged> = Vec::new();
    for part in damage.iter().map(skipped) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let is_damaged = !parts.is_empty();
    for line in describe(parts) {
        note(&line);
    }
    is_damaged
}

/// Says on stderr that a store is known to be damaged: some of the damage hides records without an error.
pub(crate) fn note_known(store: &Store) {
    // A store that cannot say is about to fail anyway.
    let known = store
        .snapshot()
        .and_then(|snapshot| snapshot.known_damage());
    if let Ok([first, rest @ ..]) = known.as_deref() {
        let more = match rest.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        note(&format!(
            "warning: this store is known to be damaged, and records may be missing: {first}{more}; `verify` \
             checks all of it"
        ));
    }
}

/// What a reader skipped.
pub(crate) fn skipped(damage: &Damage) -> Damaged {
    let what = match &damage.server {
        Some(server) => format!("{server}: {}", damage.what),
        None => damage.what.clone(),
    };
    (what, damage.records)
}

/// A line for each part, and one for those beyond the first twenty.
pub(crate) fn describe(parts: Vec<Damaged>) -> Vec<String> {
    let rest = parts.len().saturating_sub(NAMED_MAX);
    let mut lines: Vec<String> = parts
        .into_iter()
        .take(NAMED_MAX)
        .map(|(what, records)| match records {
            Some(0) => what,
            Some(records) => format!("cannot read {records} records: {what}"),
            None => format!("cannot read some records: {what}"),
        })
        .collect();
    if rest > 0 {
        lines.push(format!("cannot read {rest} more parts of the store"));
    }
    lines
}
