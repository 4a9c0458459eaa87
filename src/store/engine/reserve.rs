//! Disk blocks reserved for deleting on a full disk.
//!
//! Deleting takes disk space before it frees any, because changed pages are written to new places.
//! On a full disk, no record could ever be deleted, so the disk would stay full. Therefore a file
//! beside the database reserves some disk blocks, and is truncated when a deletion finds no space.
//! It is allocated again once there is space. The reserve is optional: where it cannot be
//! allocated, or the file system does not support it, deleting works as long as the disk has some
//! space left.

use crate::{
    home::{IfMissing, StackPath},
    platform::{allocate, allocated_bytes, same_disk},
};
use std::fs::Metadata;

/// Deleting all records was measured to take 50 KB plus a 2,500th of the used space.
const BYTES_MIN: u64 = 256 << 10;
const PART: u64 = 512;

/// Allocates the reserve if it is missing or smaller than the database now needs. Failures are
/// ignored, because the reserve is optional.
pub(crate) fn keep(place: &StackPath) {
    let Ok(database) = std::fs::metadata(place.database()) else {
        return;
    };
    let Ok(Some(file)) = place.open_reserve(IfMissing::Create) else {
        return;
    };
    let Ok(found) = file.metadata() else { return };
    let wanted = BYTES_MIN + allocated_bytes(&database) / PART;
    let held = allocated_bytes(&found);
    // The database may be a link to another disk, where a reserve on this disk does not help.
    if !same_disk(&found, &database) {
        let _ = file.set_len(0);
    } else if held > 2 * wanted {
        let _ = file.set_len(wanted);
    } else if held < wanted - wanted / 4 && allocate(&file, wanted).is_err() {
        // A partial allocation must not take the last blocks from programs that need them now.
        let _ = file.set_len(found.len());
    }
}

/// Frees the disk blocks of the reserve.
pub(crate) fn release(place: &StackPath) {
    if let Ok(Some(file)) = place.open_reserve(IfMissing::Skip) {
        let _ = file.set_len(0);
    }
}

/// The size of the reserve on the disk, in bytes.
pub(crate) fn bytes(place: &StackPath) -> u64 {
    std::fs::symlink_metadata(place.reserve())
        .ok()
        .filter(Metadata::is_file)
        .map_or(0, |metadata| allocated_bytes(&metadata))
}
