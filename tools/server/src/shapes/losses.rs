use gridctl_telemetry::ledger::{LedgerEntry, LossCause};
use serde::Serialize;

/// What the ledger says: records that were lost, and records that limits evicted, which are no losses.
#[derive(Debug, Default, Serialize)]
pub struct LossesShape {
    /// Lost records.
    pub lost: Vec<LossShape>,
    /// Evicted records.
    pub evicted: Vec<LossShape>,
}

/// An entry of the ledger of a stack.
#[derive(Debug, Serialize)]
pub struct LossShape {
    /// The name of the stack.
    pub stack: String,
    /// The entry.
    #[serde(flatten)]
    pub entry: LedgerEntry,
}

impl LossesShape {
    /// Adds an entry of the ledger of `stack`.
    pub fn add(&mut self, stack: &str, entry: LedgerEntry) {
        let entries = if entry.cause == LossCause::Retention {
            &mut self.evicted
        } else {
            &mut self.lost
        };
        entries.push(LossShape {
            stack: stack.to_owned(),
            entry,
        });
    }
}
