//! The state of the database that a writer caches across transactions.

use crate::{
    error::Result,
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        policy::limits::Limits,
        tiers::{rows::RowTiers, view::View},
    },
};

/// The limits and rows known to one writer. Other processes change both, so every transaction that
/// depends on them refreshes them first.
#[derive(Debug, Default)]
pub(crate) struct WriterCache {
    pub(crate) limits: Limits,
    pub(crate) rows: RowTiers,
    /// The sequence of the next record, unless another process appends first.
    pub(crate) next_sequence: u64,
}

impl WriterCache {
    /// The cache of a writer that starts now.
    pub(crate) fn new(view: &View) -> Result<WriterCache> {
        Ok(WriterCache {
            limits: view.limits_that_hold()?.clone(),
            rows: view.read(|| RowTiers::read(view.transaction()))?,
            next_sequence: view.next_sequence()?,
        })
    }

    /// Refreshes the limits, and counts the rows again if another process has appended any.
    pub(crate) fn refresh(&mut self, view: &View) -> Result<()> {
        self.limits.clone_from(view.limits_that_hold()?);
        let next_sequence = view.next_sequence()?;
        if next_sequence != self.next_sequence {
            self.rows = view.read(|| RowTiers::read(view.transaction()))?;
            self.next_sequence = next_sequence;
        }
        Ok(())
    }

    /// Does the same in a transaction that is about to append the record `next_sequence`.
    /// `is_wiped` says whether there was a wipe since the last refresh: wiped rows must not count
    /// against a limit.
    pub(crate) fn refresh_in(
        &mut self,
        transaction: &WriteTransaction,
        next_sequence: u64,
        is_wiped: bool,
    ) -> Result<(), Fault> {
        self.limits.refresh(transaction)?;
        if is_wiped || next_sequence != self.next_sequence {
            self.rows = RowTiers::recount(transaction)?;
        }
        Ok(())
    }
}
