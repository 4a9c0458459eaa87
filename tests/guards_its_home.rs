//! Only its owner can read a database, and no file or folder planted by another user is opened.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{
    Helper, STACK, database, helper_arguments, on_demand, open, record, say, server, without_hang,
};
use gridctl_telemetry::{
    Error, Store, StoreOptions, Writer,
    maintenance::{WipeScope, wipe},
    query::inventory,
};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

fn telemetry(home: &Path) -> PathBuf {
    home.join("telemetry")
}

fn stack(home: &Path) -> PathBuf {
    telemetry(home).join(STACK)
}

fn reserve(home: &Path) -> PathBuf {
    stack(home).join("telemetry.reserve")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Stores a record, so that every file and folder exists that is ever created.
fn store_something(home: &Path) {
    let store = open(home);
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    writer.log(&server("github"), &record(1)).unwrap();
    guard.close().unwrap();
}

fn assert_private(home: &Path) {
    assert_eq!(mode(&telemetry(home)), 0o700);
    assert_eq!(mode(&stack(home)), 0o700);
    assert_eq!(mode(&database(home)), 0o600);
    assert_eq!(mode(&reserve(home)), 0o600);
    let mut files: Vec<_> = fs::read_dir(stack(home))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files, [database(home), reserve(home)]);
}

/// The results of all ways to open a store.
fn every_way_in(home: &Path, stack: &str) -> [Result<(), Error>; 5] {
    let options = StoreOptions::default;
    [
        Store::open(home, stack, options()).map(drop),
        Store::open_existing(home, stack, options()).map(drop),
        Store::open_read_only(home, stack, options()).map(drop),
        inventory(home, stack, None).map(drop),
        wipe(home, stack, &WipeScope::everything()).map(drop),
    ]
}

#[track_caller]
fn assert_refused(home: &Path, expected: impl Fn(&Error) -> bool) {
    let path = home.to_owned();
    let answers = without_hang("opening", move || every_way_in(&path, STACK));
    for (way, answer) in answers.into_iter().enumerate() {
        match answer {
            Err(error) if expected(&error) => {}
            other => panic!("way {way}: {other:?}"),
        }
    }
}

#[test]
fn helper_creates() {
    if let Some(arguments) = helper_arguments() {
        let umask = rustix::fs::RawMode::from_str_radix(&arguments[1], 8).unwrap();
        rustix::process::umask(Mode::from_raw_mode(umask));
        store_something(Path::new(&arguments[0]));
        say("done");
    }
}

#[test]
fn folders_and_file_are_private_whatever_the_umask_is() {
    for umask in ["000", "022", "077", "277", "777"] {
        // Only root can enter the folders of a home that is created with this umask.
        if umask.starts_with(['2', '7']) && !rustix::process::geteuid().is_root() {
            continue;
        }
        let home = common::home();
        // A created home is as private as the files in it.
        let inner = home.path().join("created").join("home");
        for path in [home.path(), &inner] {
            let mut helper = Helper::start("helper_creates", &[path.to_str().unwrap(), umask]);
            assert_eq!(helper.heard(), "done", "umask {umask}");
            helper.end();
            assert_private(path);
        }
        if umask == "000" {
            assert_eq!(mode(&inner), 0o700);
            assert_eq!(mode(inner.parent().unwrap()), 0o700);
        }
    }
}

#[test]
fn wider_permissions_are_tightened() {
    let home = common::home();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    store_something(home.path());
    for way in 0..5 {
        for (path, wide) in [
            (telemetry(home.path()), 0o755),
            (stack(home.path()), 0o777),
            (database(home.path()), 0o666),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(wide)).unwrap();
        }
        let answer = every_way_in(home.path(), STACK).into_iter().nth(way);
        answer.unwrap().unwrap();
        assert_private(home.path());
    }
    // The folders above belong to the user and stay as they are.
    assert_eq!(mode(home.path()), 0o755);
}

/// Gives `path` (the link itself if it is one) to another user. Returns `false` when this user may
/// not do that.
fn give_away(path: &Path) -> bool {
    let (user, group) = (Uid::from_raw(12_345), Gid::from_raw(12_345));
    let given = rustix::fs::chownat(
        CWD,
        path,
        Some(user),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    );
    if given.is_err() {
        println!("skipped: only root can give a file away");
    }
    given.is_ok()
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    for place in [telemetry, stack, database] {
        let home = common::home();
        store_something(home.path());
        let path = place(home.path());
        if !give_away(&path) {
            return;
        }
        let before = fs::metadata(&path).unwrap();
        assert_refused(home.path(), |error| {
            matches!(error, Error::ForeignOwner { path: named, owner: 12_345, user }
                if *named == path && *user == rustix::process::geteuid().as_raw())
        });
        let after = fs::metadata(&path).unwrap();
        assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
    }
}

#[test]
fn permissions_that_the_owner_has_taken_stay_away() {
    let home = common::home();
    store_something(home.path());
    // Read-only, and readable by others.
    let path = database(home.path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // Only root opens it for writing nevertheless.
    let _ = Store::open(home.path(), STACK, StoreOptions::default());
    let expected = if rustix::process::geteuid().is_root() {
        0o400
    } else {
        0o444
    };
    assert_eq!(mode(&path), expected);
}

/// Moves the file or folder at `path` elsewhere and links to it.
fn replace_by_link(home: &Path, path: &Path) -> PathBuf {
    let elsewhere = home.join("elsewhere");
    fs::rename(path, &elsewhere).unwrap();
    symlink(&elsewhere, path).unwrap();
    elsewhere
}

#[test]
fn a_link_of_ones_own_is_followed() {
    for place in [telemetry, stack, database] {
        let home = common::home();
        store_something(home.path());
        let elsewhere = replace_by_link(home.path(), &place(home.path()));
        let wide = mode(&elsewhere) | 0o044;
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(wide)).unwrap();
        store_something(home.path());
        let found = inventory(home.path(), STACK, None).unwrap();
        assert_eq!(found[0].record_count, 2);
        assert_eq!(
            mode(&elsewhere),
            wide & 0o700,
            "the link's target is as private"
        );
        assert!(
            fs::symlink_metadata(place(home.path()))
                .unwrap()
                .is_symlink()
        );
    }
}

#[test]
fn a_link_of_another_user_is_refused() {
    for place in [telemetry, stack, database] {
        let home = common::home();
        store_something(home.path());
        let path = place(home.path());
        // Whatever its target is: a file of our own, or none.
        replace_by_link(home.path(), &path);
        if !give_away(&path) {
            return;
        }
        let foreign = |error: &Error| matches!(error, Error::ForeignOwner { path: named, owner: 12_345, .. } if *named == path);
        assert_refused(home.path(), foreign);
        fs::remove_file(&path).unwrap();
        symlink(home.path().join("nowhere"), &path).unwrap();
        give_away(&path);
        assert_refused(home.path(), foreign);
        assert!(!home.path().join("nowhere").exists());
    }
}

#[test]
fn a_link_to_what_belongs_to_another_user_is_refused() {
    for place in [telemetry, stack, database] {
        let home = common::home();
        store_something(home.path());
        let elsewhere = replace_by_link(home.path(), &place(home.path()));
        if !give_away(&elsewhere) {
            return;
        }
        assert_refused(home.path(), |error| {
            matches!(error, Error::ForeignOwner { owner: 12_345, .. })
        });
    }
}

#[test]
fn a_folder_or_a_fifo_is_no_database() {
    let home = common::home();
    fs::create_dir_all(database(home.path())).unwrap();
    let not_a_file =
        |error: &Error| matches!(error, Error::NotAFile { path } if *path == database(home.path()));
    assert_refused(home.path(), not_a_file);
    assert!(fs::metadata(database(home.path())).unwrap().is_dir());

    let home = common::home();
    fs::create_dir_all(stack(home.path())).unwrap();
    let fifo = database(home.path());
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let not_a_file = |error: &Error| matches!(error, Error::NotAFile { path } if *path == fifo);
    assert_refused(home.path(), not_a_file);
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());

    // And a file in place of a folder.
    let home = common::home();
    fs::write(telemetry(home.path()), "a note").unwrap();
    assert_refused(
        home.path(),
        |error| matches!(error, Error::Io { path, .. } if *path == telemetry(home.path())),
    );
    assert_eq!(fs::read(telemetry(home.path())).unwrap(), b"a note");
}

/// The reserve is truncated and allocated again, which must not happen to a file of another user.
#[test]
fn what_stands_in_the_place_of_the_reserve_is_left_alone() {
    let plant: [fn(&Path, &Path); 5] = [
        |place, notes| symlink(notes, place).unwrap(),
        |place, notes| fs::hard_link(notes, place).unwrap(),
        |place, _| fs::create_dir(place).unwrap(),
        |place, _| {
            let made = Command::new("mkfifo").arg(place).status().unwrap();
            assert!(made.success());
        },
        |place, _| {
            fs::write(place, "a note").unwrap();
            give_away(place);
        },
    ];
    for (number, plant) in plant.into_iter().enumerate() {
        let home = common::home();
        let notes = home.path().join("notes");
        fs::write(&notes, "a note").unwrap();
        fs::create_dir_all(stack(home.path())).unwrap();
        let place = reserve(home.path());
        plant(&place, &notes);
        let before = fs::symlink_metadata(&place).unwrap();
        let path = home.path().to_owned();
        without_hang("storing", move || {
            store_something(&path);
            wipe(&path, STACK, &WipeScope::everything()).unwrap();
        });
        assert_eq!(fs::read(&notes).unwrap(), b"a note", "plant {number}");
        let after = fs::symlink_metadata(&place).unwrap();
        let kind = |metadata: &fs::Metadata| (metadata.mode(), metadata.uid(), metadata.len());
        if after.uid() != rustix::process::geteuid().as_raw() || number < 4 {
            assert_eq!(kind(&before), kind(&after), "plant {number}");
        }
    }
}

#[test]
fn a_stack_is_one_plain_path_component() {
    let home = common::home();
    let long = "x".repeat(300);
    for name in ["", ".", "..", "a/b", "/", "../..", "a\0b", "\0", &long] {
        for answer in every_way_in(home.path(), name) {
            assert!(
                matches!(&answer, Err(Error::InvalidStackName { name: named, .. }) if named == name),
                "{name:?}: {answer:?}"
            );
        }
    }
    let created: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert!(created.is_empty(), "{created:?}");

    let longest = "x".repeat(255);
    for name in [" ", "...", "-", "a b", "日本", "a\nb", "~", "*", &longest] {
        drop(Store::open(home.path(), name, StoreOptions::default()).unwrap());
        assert!(
            telemetry(home.path())
                .join(name)
                .join("telemetry.redb")
                .is_file()
        );
    }
    let found = gridctl_telemetry::home::list_stacks(home.path()).unwrap();
    assert_eq!(found.len(), 9);
    assert!(found.is_sorted());
}

/// A server's name is a key in the database, and never a part of a path.
#[test]
fn a_server_may_be_called_anything() {
    let home = common::home();
    let store = open(home.path());
    let (writer, guard) = Writer::start(&store, on_demand()).unwrap();
    let names = ["..", "/etc/passwd", "a\0b", "../../../x", ".", "\u{202e}"];
    for (number, name) in (0..).zip(names) {
        writer.log(&server(name), &record(number)).unwrap();
    }
    guard.close().unwrap();
    let found = common::numbers(&store.snapshot().unwrap());
    for (number, name) in (0..).zip(names) {
        assert_eq!(found[name], [number]);
    }
    assert_private(home.path());
    let entries: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
}
