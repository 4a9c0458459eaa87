//! The power fails at any operation on the disk, or the process is killed there: acknowledged records are
//! stored unchanged, a batch or a wipe is stored whole or not at all, and no wiped record comes back.
//!
//! A workload of random appends of all signals, spills, seals, evictions, expiry, merges, wipes, imports,
//! compactions, restarts and migrations runs on a simulated disk. A crash image is what a disk may hold at one
//! of its operations: all synced bytes, and any part of the bytes written since, torn between any two sectors,
//! or between any two bytes of the header. Images of every operation are opened, read, verified and written
//! to. Some of these openings crash as well.
//!
//! | variable | meaning | default |
//! |---|---|--:|
//! | `GRIDCTL_TELEMETRY_IMAGES` | crash images | 10,000 |
//! | `GRIDCTL_TELEMETRY_SEED` | the seed of the first workload | random |
//!
//! A failure prints the command that repeats it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
mod model;
mod simulated;

use common::Random;
use simulated::{
    check::{Bench, Expected, guarded},
    disk::{Disk, Event, Image},
    workload::Workload,
};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// The number of events in the journal of a workload.
const EVENTS: usize = 600;
/// The number of crash images of each operation.
const IMAGES_PER_OPERATION: usize = 4;
/// One of so many images is opened by a process that crashes as well.
const DOUBLE_PART: usize = 10;
const THREADS: usize = 2;

/// The outcome of a sweep.
#[derive(Default)]
struct Sweep {
    images: AtomicUsize,
    doubles: AtomicUsize,
    operations: AtomicUsize,
    workloads: AtomicU64,
    opens: Mutex<Vec<Duration>>,
    failures: Mutex<Vec<String>>,
}

impl Sweep {
    /// Crashes the workload of `seed` at each of its operations.
    fn workload(&self, seed: u64, images_max: usize, bench: &mut Bench) {
        let mut workload = Workload::default();
        let ran = guarded(|| {
            workload = Workload::run(seed, EVENTS);
            Ok(())
        });
        if let Err(error) = ran {
            return self.fail(seed, "the workload", &error);
        }
        self.workloads.fetch_add(1, Ordering::Relaxed);
        // Reading all records of an old database takes long.
        let images_per_operation = if workload.migrates {
            1
        } else {
            IMAGES_PER_OPERATION
        };
        let mut disk = Disk::new(&workload.base);
        let mut step = None;
        for (place, event) in workload.journal.iter().enumerate() {
            match event {
                Event::Begin(number) => step = Some((*number, false)),
                Event::End(number) => step = Some((*number, true)),
                _ => {}
            }
            disk.apply(event);
            let Some((number, is_done)) = step else {
                continue;
            };
            self.operations.fetch_add(1, Ordering::Relaxed);
            let expected = Expected {
                step: &workload.steps[number],
                is_done,
                has_spill: false,
            };
            for nth in 0..images_per_operation {
                if self.images.fetch_add(1, Ordering::Relaxed) >= images_max {
                    self.images.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
                let mut random = Random::new(seed ^ (((place * 1000 + nth) as u64) << 20));
                let image = disk.crash(&mut random);
                let expected = Expected {
                    has_spill: !image.beside.is_empty(),
                    ..expected
                };
                let checked =
                    guarded(|| self.image(&image, &workload, &expected, &mut random, bench));
                if let Err(error) = checked {
                    let what = format!(
                        "image {nth} of operation {place}, {:?} {}",
                        expected.step.kind,
                        if is_done { "acknowledged" } else { "in flight" }
                    );
                    return self.fail(seed, &what, &error);
                }
            }
        }
    }

    fn image(
        &self,
        image: &Image,
        workload: &Workload,
        expected: &Expected<'_>,
        random: &mut Random,
        bench: &mut Bench,
    ) -> Result<(), String> {
        let is_double = random.one_in(DOUBLE_PART);
        let recovered = bench.check(image, is_double, &workload.known, expected, random)?;
        if !is_double {
            return Ok(());
        }
        self.doubles.fetch_add(1, Ordering::Relaxed);
        let mut disk = Disk::new(image);
        let until = random.below(recovered.journal.len() + 1);
        recovered.journal[..until]
            .iter()
            .for_each(|event| disk.apply(event));
        let mut second = disk.crash(random);
        second.is_complete &= image.is_complete;
        let expected = Expected {
            has_spill: expected.has_spill || !second.beside.is_empty(),
            ..*expected
        };
        let again = bench
            .check(&second, false, &workload.known, &expected, random)
            .map_err(|error| format!("after a second crash, at operation {until}: {error}"))?;
        if image.beside.is_empty() && second.beside.is_empty() && again.found != recovered.found {
            return Err(format!(
                "after a second crash: {:?}, before: {:?}",
                again.found, recovered.found
            ));
        }
        Ok(())
    }

    fn fail(&self, seed: u64, what: &str, error: &str) {
        let command = "cargo test --test survives_power_loss";
        let text = format!("{what}: {error}\n    GRIDCTL_TELEMETRY_SEED={seed} {command}");
        println!("{text}");
        self.failures.lock().unwrap().push(text);
    }
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_any_operation() {
    let images_max: usize = common::number_from_env("GRIDCTL_TELEMETRY_IMAGES", 10_000);
    let seed = Random::from_env().seed();
    let started = Instant::now();
    let sweep = Sweep::default();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut bench = Bench::new();
                while sweep.images.load(Ordering::Relaxed) < images_max
                    && sweep.failures.lock().unwrap().len() < 5
                {
                    let seed = seed.wrapping_add(next.fetch_add(1, Ordering::Relaxed));
                    sweep.workload(seed, images_max, &mut bench);
                }
                sweep.opens.lock().unwrap().append(&mut bench.opens);
            });
        }
    });
    let mut opens = sweep.opens.into_inner().unwrap();
    opens.sort_unstable();
    println!(
        "{} crash images and {} double crashes, at {} operations of {} workloads, in {:.1?}; an open took {:.1?} \
         at the median, {:.1?} at worst",
        sweep.images.into_inner(),
        sweep.doubles.into_inner(),
        sweep.operations.into_inner(),
        sweep.workloads.into_inner(),
        started.elapsed(),
        opens[opens.len() / 2],
        opens[opens.len() - 1],
    );
    let failures = sweep.failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// redb cannot open a file whose creation was interrupted. It writes the magic number last, and a torn write can
/// leave any part of it.
#[test]
fn a_creation_whose_header_is_torn_is_begun_anew() {
    let magic = b"redb\x1a\x0a\xa9\x0d\x0a";
    for mask in (0..(1 << magic.len()) - 1).step_by(7) {
        let mut database = vec![0; 72 << 10];
        for (place, byte) in magic.iter().enumerate() {
            if (mask >> place) & 1 == 1 {
                database[place] = *byte;
            }
        }
        let home = common::home_in_memory();
        let image = Image {
            database,
            ..Image::default()
        };
        simulated::workload::put_image(home.path(), &image);
        let store = common::open(home.path());
        assert!(
            store
                .snapshot()
                .unwrap()
                .inventory(None)
                .unwrap()
                .is_empty()
        );
    }
}
