//! How much of each series is in the row tier, as far as one writer knows.

use crate::{
    error::Result,
    record::ServerName,
    signal::Signal,
    store::{
        engine::fault::Fault,
        layout::tables::{self, ROW_KEY_BYTES, ROWS, SERIES, SeriesId, SeriesState},
        snapshot::Snapshot,
        write::append::RowTier,
    },
};
use redb::ReadableTable;
use std::collections::HashMap;

/// The row tier by series: a hint for when to seal and for what counts against a limit. Other
/// processes make it stale, so nothing that must be exact may rest on it.
#[derive(Debug, Default)]
pub(crate) struct RowTiers {
    tiers: HashMap<(ServerName, Signal), RowTier>,
    bytes: usize,
}

impl RowTiers {
    /// What is in the row tier, from the tables of a transaction.
    pub(crate) fn count(
        series: &impl ReadableTable<(&'static str, u8), &'static [u8]>,
        rows: &impl ReadableTable<&'static [u8; ROW_KEY_BYTES], &'static [u8]>,
    ) -> Result<RowTiers, Fault> {
        let mut counts: HashMap<SeriesId, RowTier> = HashMap::new();
        for entry in rows.iter()? {
            let (key, payload) = entry?;
            counts
                .entry(tables::row_series(key.value()))
                .or_default()
                .add(payload.value().len());
        }
        let mut tiers = RowTiers::default();
        for entry in series.iter()? {
            let (key, value) = entry?;
            let (server, signal) = key.value();
            let Ok(state) = SeriesState::from_bytes(value.value()) else {
                continue;
            };
            if let Some(tier) = counts.remove(&state.id) {
                tiers.add(&ServerName::new(server)?, tables::signal_of(signal)?, tier);
            }
        }
        Ok(tiers)
    }

    /// What is in the row tier now.
    pub(crate) fn of(snapshot: &Snapshot) -> Result<RowTiers> {
        snapshot.read(|| {
            let transaction = snapshot.transaction();
            RowTiers::count(
                &transaction.open_table(SERIES)?,
                &transaction.open_table(ROWS)?,
            )
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
