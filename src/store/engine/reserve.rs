//! Room that is kept for the day on which the disk is full.
//!
//! Deleting takes room before it gives some back: the pages that change are written anew. On a disk
//! without any, a store that nobody can delete from would stay full for ever. So a file beside the
//! database holds some disk blocks, for nothing but to be given up when something is deleted and
//! finds no room. It is made again when there is room. Nothing depends on it: where it cannot be
//! made, or the file system does not know how, deleting works as long as there is room.

use crate::{
    home::{IfMissing, StackPath},
    platform::{allocate, allocated_bytes, same_disk},
};
use std::fs::Metadata;

/// Deleting everything was measured to take 50 KB and a 2,500th of what is used.
const BYTES_MIN: u64 = 256 << 10;
const PART: u64 = 512;

/// Makes the reserve if it is not there, or not as large as it should be by now. Says nothing when
/// that is not possible.
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
    // A database may be a link to another disk, which room on this one does not help.
    if !same_disk(&found, &database) {
        let _ = file.set_len(0);
    } else if held > 2 * wanted {
        let _ = file.set_len(wanted);
    } else if held < wanted - wanted / 4 && allocate(&file, wanted).is_err() {
        // Whatever part of it came about is not to be taken from those who need it now.
        let _ = file.set_len(found.len());
    }
}

/// Gives the reserve up.
pub(crate) fn release(place: &StackPath) {
    if let Ok(Some(file)) = place.open_reserve(IfMissing::Skip) {
        let _ = file.set_len(0);
    }
}

/// What the reserve takes of the disk, in bytes.
pub(crate) fn bytes(place: &StackPath) -> u64 {
    std::fs::symlink_metadata(place.reserve())
        .ok()
        .filter(Metadata::is_file)
        .map_or(0, |metadata| allocated_bytes(&metadata))
}
