//! How much of each series is in the row tier, as far as one writer knows.

use super::{RowTier, Snapshot};
use crate::{error::Result, record::ServerName, signal::Signal};
use std::collections::HashMap;

/// The row tier by series: a hint for when to seal and for what counts against a limit. Other
/// processes make it stale, so nothing that must be exact may rest on it.
#[derive(Debug, Default)]
pub(crate) struct RowTiers {
    tiers: HashMap<(ServerName, Signal), RowTier>,
    bytes: usize,
}

impl RowTiers {
    /// What is in the row tier now.
    pub(crate) fn of(snapshot: &Snapshot) -> Result<RowTiers> {
        let rows = snapshot.row_tiers()?;
        let tiers: HashMap<(ServerName, Signal), RowTier> = snapshot
            .series()?
            .into_iter()
            .filter_map(|entry| Some(((entry.server, entry.signal), *rows.get(&entry.state.id)?)))
            .collect();
        Ok(RowTiers {
            bytes: tiers.values().map(|tier| tier.bytes).sum(),
            tiers,
        })
    }

    /// What all series have together, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What one series has, in bytes.
    pub(crate) fn bytes_of(&self, server: &ServerName, signal: Signal) -> usize {
        self.tiers
            .get(&(server.clone(), signal))
            .map_or(0, |tier| tier.bytes)
    }

    /// Adds what was appended.
    pub(crate) fn add(&mut self, server: &ServerName, signal: Signal, added: RowTier) {
        if added.rows > 0 {
            let tier = self.tiers.entry((server.clone(), signal)).or_default();
            tier.rows += added.rows;
            tier.bytes += added.bytes;
            self.bytes += added.bytes;
        }
    }

    /// Takes note of what is there now.
    pub(crate) fn set(&mut self, server: &ServerName, signal: Signal, tier: RowTier) {
        let key = (server.clone(), signal);
        let before = if tier.rows == 0 {
            self.tiers.remove(&key)
        } else {
            self.tiers.insert(key, tier)
        };
        self.bytes = (self.bytes + tier.bytes).saturating_sub(before.unwrap_or_default().bytes);
    }

    /// The largest tier of those that `is_ripe` picks.
    pub(crate) fn ripest(
        &self,
        is_ripe: impl Fn(&ServerName, Signal, RowTier) -> bool,
    ) -> Option<(ServerName, Signal)> {
        self.tiers
            .iter()
            .filter(|((server, signal), tier)| is_ripe(server, *signal, **tier))
            .max_by_key(|(_, tier)| tier.bytes)
            .map(|(key, _)| key.clone())
    }
}
