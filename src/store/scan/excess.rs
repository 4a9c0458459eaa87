//! The stored records that limits would delete if they came into force.

use super::inventory::{InventoryRecord, inventory_record, or_damage};
use crate::{
    config::{ConfigWarning, RetentionPolicy},
    error::Result,
    store::tiers::view::View,
};

/// What `policy`, which must be valid, would delete of the records that are kept now, with the size
/// of all of it in bytes. Series whose entry is damaged are left out; see
/// [`Store::would_delete`](crate::Store::would_delete).
pub(crate) fn of_series(
    view: &View,
    policy: &RetentionPolicy,
) -> Result<(Vec<ConfigWarning>, u64)> {
    let mut warnings = Vec::new();
    let mut deleted_bytes = 0;
    let now = view.trusted_now()?;
    for entry in view.readable_series()?.0 {
        let limits = policy.of(&entry.server);
        let age_nanos = u64::try_from(limits.age_max().as_nanos()).unwrap_or(u64::MAX);
        let wanted = now.saturating_sub_unsigned(age_nanos);
        let present = or_damage(view.cutoff(&entry.server))?.unwrap_or_default();
        let (server, signal) = (entry.server.clone(), entry.signal);
        let held = or_damage(view.read(|| inventory_record(view, entry.clone(), present)))?;
        let Ok(Some(held)) = held else {
            continue;
        };
        let size = |record: Option<&InventoryRecord>| {
            record.map_or((0, 0), |record| (record.record_count, record.size_bytes))
        };
        let (held_records, held_bytes) = size(Some(&held));
        // Without a later cutoff nothing more expires, and the records need not be read again.
        let (kept_records, kept_bytes) = if present.is_some_and(|present| wanted <= present) {
            (held_records, held_bytes)
        } else {
            let kept = or_damage(view.read(|| inventory_record(view, entry, Some(wanted))))?;
            let Ok(kept) = kept else { continue };
            size(kept.as_ref())
        };
        if kept_records < held_records {
            warnings.push(ConfigWarning::DeletesStored {
                server: server.clone(),
                signal,
                option: "max_age_days",
                records: held_records - kept_records,
                bytes: held_bytes.saturating_sub(kept_bytes),
            });
        }
        let bytes = kept_bytes.saturating_sub(limits.bytes_max());
        deleted_bytes += held_bytes.saturating_sub(kept_bytes) + bytes;
        if bytes > 0 {
            let records = u128::from(kept_records) * u128::from(bytes) / u128::from(kept_bytes);
            warnings.push(ConfigWarning::DeletesStored {
                server,
                signal,
                option: "max_size_mb",
                records: u64::try_from(records).unwrap_or(u64::MAX).max(1),
                bytes,
            });
        }
    }
    Ok((warnings, deleted_bytes))
}
