//! What redb does with a damaged or unusual file, as small as it can be shown, and what of ours guards against it.
//!
//! A test that fails here after an update of redb says that a guard may go.
//!
//! | redb 4.6 | guard | test of the guard |
//! |---|---|---|
//! | a value is returned without a look at its page's checksum | `store/layout/checked.rs` | `survives_flips`, `reads_past_damage` |
//! | `stats` follows a page that leads back to itself until the stack overflows, as `compact` does | `walk` in `store/scan/space.rs`; `store/admission.rs` | `survives_flips` |
//! | a key that is not UTF-8 panics | `guarded` in `store/engine/fault.rs` | `survives_flips`, `verifies_a_store` |
//! | a panic in a transaction panics again while tables are dropped | `store/engine/transaction.rs`, `GuardedDrop` | `survives_flips` |
//! | a handle that is dropped commits once more, and may panic | `GuardedDrop` | `survives_flips`, `disk_faults` |
//! | that commit panics at a damaged list of freed pages, and again while it unwinds, which ends the process | `GuardedDrop::leave`, until the pages are checked | `survives_flips`, way `open`, and with `GRIDCTL_TELEMETRY_SEED=13 GRIDCTL_TELEMETRY_FLIPS=all GRIDCTL_TELEMETRY_PART=12/40`; `refuses_foreign_files` with `GRIDCTL_TELEMETRY_SEED=1795767307023797937` |
//! | a database whose creation was interrupted is never opened again | `creation_was_interrupted` in `store/engine/open.rs` | `survives_power_loss` |
//! | after an error of the disk, a handle fails for good | `Store::reopen` | `disk_faults`, `recovers_from_every_fault` |
//! | a free page without a disk block is used again on a full disk | `compact_for_room` | `fills_the_disk` |
//! | what was removed from a page stays in its unused part | `store/maintain/overwrite.rs` | `wipes_securely` |
//!
//! Bugs of ours that the tests of damage, crashes and kills have found, each with the test that holds it:
//!
//! | bug | test |
//! |---|---|
//! | a damaged row was returned as a record | `survives_flips` |
//! | one damaged block ended an export, and kept a daemon from starting | `reads_past_damage` |
//! | a file put in the place of the database took all records and lost them | `outlives_its_file` |
//! | a daemon in another PID namespace was taken for a killed one | `knows_who_lives` |
//! | a database that could not be opened left a daemon without telemetry | `sets_damage_aside` |
//! | costs that were cleared and counted again were lost | `wiped_counters_stay_wiped` |
//! | records of a spill were stored beyond the limits of a series | `survives_power_loss`, `survives_kill` |
//! | copies of a record in later batches of an import were dropped | `store::importer` |
//! | a database that was opened to be repaired or written, and not written, was closed with a commit to pages that nothing had checked | `survives_flips` |
//! | `status` failed on damaged limits, and `status --config` on a damaged entry of a series | `status_tells_the_state` in `tools` |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Helper, helper_arguments, home, say};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

const NUMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("numbers");
const NAMES: TableDefinition<'_, &str, u64> = TableDefinition::new("names");
const PAGE: usize = 4096;
const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// A closed database with this many entries of 100 equal bytes.
fn numbers(folder: &Path, count: u64) -> PathBuf {
    let path = folder.join("numbers.redb");
    let database = Database::create(&path).unwrap();
    let change = database.begin_write().unwrap();
    for number in 0..count {
        let value = [b'v'; 100];
        let mut table = change.open_table(NUMBERS).unwrap();
        table.insert(number, value.as_slice()).unwrap();
    }
    change.commit().unwrap();
    path
}

/// Changes the bytes of a file.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// The places of `wanted` in `bytes`.
fn places(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(wanted.len()).enumerate();
    windows
        .filter(|(_, found)| *found == wanted)
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn a_damaged_value_is_returned_without_an_error() {
    let home = home();
    let path = numbers(home.path(), 3);
    edit(&path, |bytes| {
        for at in places(&bytes.clone(), &[b'v'; 100]) {
            bytes[at] = b'X';
        }
    });
    let database = Database::open(&path).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(NUMBERS).unwrap();
    let value = table.get(0).unwrap().unwrap();
    assert_eq!(value.value()[0], b'X');
}

#[test]
fn a_key_that_is_not_utf_8_panics() {
    let home = home();
    let path = home.path().join("names.redb");
    let database = Database::create(&path).unwrap();
    let change = database.begin_write().unwrap();
    change
        .open_table(NAMES)
        .unwrap()
        .insert("github.example", 1)
        .unwrap();
    change.commit().unwrap();
    drop(database);
    edit(&path, |bytes| {
        for at in places(&bytes.clone(), b"github.example") {
            bytes[at] = 0xff;
        }
    });
    let database = Database::open(&path).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(NAMES).unwrap();
    let (key, _) = table.first().unwrap().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| key.value().len())).is_err());
}

#[test]
fn what_was_removed_stays_in_the_unused_part_of_its_page() {
    let home = home();
    let path = numbers(home.path(), 30);
    edit(&path, |bytes| assert!(places(bytes, b"removed").is_empty()));
    let database = Database::open(&path).unwrap();
    let change = database.begin_write().unwrap();
    let mut table = change.open_table(NUMBERS).unwrap();
    table.insert(30, b"removed".as_slice()).unwrap();
    table.remove(30).unwrap();
    drop(table);
    change.commit().unwrap();
    drop(database);
    // In a page that is in use: its first entry is there.
    edit(&path, |bytes| {
        let at = places(bytes, b"removed");
        assert!(
            at.iter().any(|at| bytes[at / PAGE * PAGE] == LEAF),
            "{at:?}"
        );
    });
}

/// A branch is its kind, the number of its keys, the checksums of its children, and their numbers.
fn children(page: &[u8]) -> Vec<u64> {
    let keys = usize::from(u16::from_le_bytes([page[2], page[3]]));
    let first = 8 + 16 * (keys + 1);
    (0..=keys)
        .map(|child| {
            let at = first + child * 8;
            u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
        })
        .collect()
}

/// Makes the first child of the root of `numbers` the root itself.
fn lead_back(bytes: &mut [u8]) {
    let kind = |bytes: &[u8], page: usize| bytes.get(page * PAGE).copied().unwrap_or_default();
    let pages = bytes.len() / PAGE;
    for root in 0..pages {
        let page = bytes[root * PAGE..(root + 1) * PAGE].to_vec();
        if kind(bytes, root) != BRANCH || page[2] < 5 || page[3] != 0 {
            continue;
        }
        let children = children(&page);
        // Pages are numbered from the first after the headers.
        let headers = (1..64).find(|headers| {
            let leaf = |child: &u64| {
                usize::try_from(*child).is_ok_and(|it| kind(bytes, headers + it) == LEAF)
            };
            *headers <= root && children.iter().all(leaf)
        });
        if let Some(headers) = headers {
            let number = (root - headers) as u64;
            let first = root * PAGE + 8 + 16 * children.len();
            bytes[first..first + 8].copy_from_slice(&number.to_le_bytes());
        }
    }
}

#[test]
fn helper_counts_pages() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let database = Database::open(&arguments[0]).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(NUMBERS).unwrap();
    say("open");
    // On a small stack, so that it overflows soon.
    let stats = std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(move || table.stats().map(|stats| stats.leaf_pages()).ok());
    say(format!("{:?}", stats.unwrap().join()));
}

#[test]
fn a_page_that_leads_back_to_itself_ends_the_process() {
    if helper_arguments().is_some() {
        return;
    }
    let home = home();
    let path = numbers(home.path(), 500);
    let counts = || {
        let mut helper = Helper::start("helper_counts_pages", &[path.to_str().unwrap()]);
        assert_eq!(helper.heard(), "open");
        helper.hear()
    };
    assert!(counts().unwrap().starts_with("Ok(Some("));
    edit(&path, |bytes| lead_back(bytes));
    assert_eq!(counts(), None);
}

/// A database that several processes may have open, as ours is.
fn open_shared(path: &str) -> Result<Database, redb::DatabaseError> {
    Database::builder()
        .set_concurrency_mode(redb::ConcurrencyMode::MultiWriter)
        .create(path)
}

/// Ends without closing the database, which has pages that the next commit frees.
#[test]
fn helper_leaves_freed_pages() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let database = open_shared(&arguments[0]).unwrap();
    for round in 0..3 {
        let change = database.begin_write().unwrap();
        let mut table = change.open_table(NUMBERS).unwrap();
        for number in 0..200 {
            table
                .insert(number + round, [b'v'; 100].as_slice())
                .unwrap();
        }
        drop(table);
        change.commit().unwrap();
    }
    std::mem::forget(database);
}

#[test]
fn helper_opens_and_closes() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let _ = catch_unwind(|| drop(open_shared(&arguments[0])));
    say("goes on");
}

#[test]
fn closing_a_database_with_a_damaged_list_of_freed_pages_ends_the_process() {
    if helper_arguments().is_some() {
        return;
    }
    let home = home();
    let path = home.path().join("freed.redb");
    let path = path.to_str().unwrap();
    Helper::start("helper_leaves_freed_pages", &[path]).end();
    let left = fs::read(path).unwrap();
    let ended = (1..left.len() / PAGE).filter(|page| {
        let mut damaged = left.clone();
        // The high byte of the number of entries in the page.
        damaged[page * PAGE + 3] ^= 0x80;
        fs::write(path, damaged).unwrap();
        let mut helper = Helper::start("helper_opens_and_closes", &[path]);
        helper.hear().is_none()
    });
    assert!(ended.count() > 0, "no page is in a list of freed pages");
}
