//! Opening what a crash left, and comparing it with what was acknowledged.

use super::{
    disk::{Event, Image, Journal, folder},
    workload::{Kind, OTHERS, Step, options_now, put_image, record_of, writer_options},
};
use crate::{
    common::{Random, STACK, record, server},
    model::store::number_of,
};
use gridctl_telemetry::{
    Query, Record, ServerName, Signal, Store, StoreOptions, Timestamp, ledger::LossCause,
    maintenance::VerifyOptions, query::StoredRecord, testing::SimulatedWriter,
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Once, atomic::AtomicI64},
    time::{Duration, Instant},
};

/// The numbers of the records in a store.
pub(crate) type Contents = BTreeSet<u64>;

/// All records of a workload by their numbers: each follows from its number and the seed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    seed: u64,
    records: Vec<(ServerName, Record)>,
    /// The numbers of the records of an old database, by signal, server and sequence.
    learned: BTreeMap<(&'static str, ServerName, u64), u64>,
}

impl Known {
    pub(crate) fn new(seed: u64) -> Known {
        Known {
            seed,
            ..Known::default()
        }
    }

    /// The number of the next record.
    pub(crate) fn next_number(&self) -> u64 {
        self.records.len() as u64
    }

    /// Adds the next record.
    pub(crate) fn add(&mut self) -> (u64, &ServerName, &Record) {
        let number = self.next_number();
        self.records.push(record_of(self.seed, number));
        let (server, record) = self.records.last().unwrap();
        (number, server, record)
    }

    /// The record with this number, and its server.
    pub(crate) fn of(&self, number: u64) -> &(ServerName, Record) {
        &self.records[usize::try_from(number).unwrap()]
    }

    /// Learns the records of an old database.
    pub(crate) fn learn(&mut self, store: &Store) {
        for stored in all(store).unwrap() {
            let key = learned_key(&stored);
            self.learned.insert(key, self.next_number());
            self.records.push((stored.server, stored.record));
        }
    }

    /// The number of a record. Fails unless it is the record of that number.
    fn number(&self, stored: &StoredRecord) -> Result<u64, String> {
        let learned = (!self.learned.is_empty())
            .then(|| self.learned.get(&learned_key(stored)).copied())
            .flatten();
        let number = learned.unwrap_or_else(|| number_of(&stored.record));
        let place = usize::try_from(number).unwrap();
        match self.records.get(place) {
            Some((server, record)) if *server == stored.server && *record == stored.record => {
                Ok(number)
            }
            expected => Err(format!("{number} is {stored:?}, not {expected:?}")),
        }
    }
}

fn learned_key(stored: &StoredRecord) -> (&'static str, ServerName, u64) {
    let signal = match stored.record.signal() {
        Signal::Logs => "logs",
        Signal::Metrics => "metrics",
        Signal::Traces => "traces",
    };
    (signal, stored.server.clone(), stored.sequence)
}

/// All records of a store. Fails when they are out of order or the inventory has other counts.
fn all(store: &Store) -> Result<Vec<StoredRecord>, String> {
    let snapshot = store.snapshot().map_err(said)?;
    let mut counts = BTreeMap::<(ServerName, &str), u64>::new();
    let mut found: Vec<StoredRecord> = Vec::new();
    for signal in [Signal::Logs, Signal::Metrics, Signal::Traces] {
        let mut last = None;
        for record in snapshot.scan(&Query::new(signal)).map_err(said)?.records() {
            let record = record.map_err(said)?;
            let at = Some((record.timestamp, record.sequence));
            if at <= last {
                return Err(format!("{signal}: {at:?} comes after {last:?}"));
            }
            last = at;
            let (name, _, _) = learned_key(&record);
            *counts.entry((record.server.clone(), name)).or_default() += 1;
            found.push(record);
        }
    }
    let inventory = snapshot.inventory(None).map_err(said)?;
    let listed: u64 = inventory.iter().map(|entry| entry.record_count).sum();
    if inventory.len() != counts.len() || listed != found.len() as u64 {
        return Err(format!("the inventory is {inventory:?}, found {counts:?}"));
    }
    Ok(found)
}

/// The numbers of the records in `store`, without those of other processes. Fails when one was changed or is
/// stored twice.
pub(crate) fn contents(store: &Store, known: &Known) -> Result<Contents, String> {
    let mut numbers = Contents::new();
    for stored in all(store)? {
        if OTHERS.contains(&stored.server.as_str()) {
            continue;
        }
        let number = known.number(&stored)?;
        if !numbers.insert(number) {
            return Err(format!("{number} is stored twice"));
        }
    }
    Ok(numbers)
}

/// The number of records of each series that limits have deleted.
pub(crate) type Evictions = BTreeMap<(ServerName, Signal), u64>;

pub(crate) fn evictions(store: &Store) -> Result<Evictions, String> {
    let ledger = store.snapshot().and_then(|it| it.ledger(..));
    let evicted = ledger.map_err(said)?.into_iter();
    Ok(evicted
        .filter(|entry| entry.cause == LossCause::Retention)
        .filter_map(|entry| Some(((entry.server?, entry.signal?), entry.count)))
        .filter(|((server, _), _)| !OTHERS.contains(&server.as_str()))
        .collect())
}

/// What limits do to the records of a store.
struct Limited<'a> {
    known: &'a Known,
    now: Evictions,
    /// Records before this time have expired.
    cutoff: Option<Timestamp>,
}

impl Limited<'_> {
    fn of<'a>(store: &Store, known: &'a Known, clock: i64) -> Result<Limited<'a>, String> {
        let limits = (store.snapshot().and_then(|it| it.limits_of(None))).map_err(said)?;
        let age = limits.map(|limits| limits.age_max);
        Ok(Limited {
            known,
            now: evictions(store)?,
            cutoff: age.map(|age| {
                let age = i64::try_from(age.as_nanos()).unwrap();
                Timestamp::from_unix_nanos(clock - age)
            }),
        })
    }

    /// Fails unless the ledger says that limits have deleted as many records of each series since `before`
    /// as are missing, besides those that have expired.
    fn explain(&self, what: &str, missing: &Contents, before: &Evictions) -> Result<(), String> {
        let mut series: BTreeMap<(ServerName, Signal), Contents> = BTreeMap::new();
        for number in missing {
            let (server, record) = self.known.of(*number);
            if self
                .cutoff
                .is_none_or(|cutoff| record.timestamp() >= cutoff)
            {
                let key = (server.clone(), record.signal());
                series.entry(key).or_default().insert(*number);
            }
        }
        for (key, numbers) in series {
            let count = |of: &Evictions| of.get(&key).copied().unwrap_or_default();
            let evicted = count(&self.now) - count(before);
            if (numbers.len() as u64) > evicted {
                let (server, signal) = key;
                return Err(format!(
                    "{what}: {numbers:?} of {server} {signal}, of which limits deleted {evicted}"
                ));
            }
        }
        Ok(())
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

thread_local! {
    /// The panics of this thread. The store catches those of the database engine, which still count.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Runs `check`, and returns its panics, also those that the store caught.
pub(crate) fn guarded(check: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    static COUNTS: Once = Once::new();
    COUNTS.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            hook(panic);
        }));
    });
    PANICS.set(0);
    match catch_unwind(AssertUnwindSafe(check)) {
        Err(panic) => Err(words(&*panic)),
        Ok(Ok(())) if PANICS.get() > 0 => Err(format!("{} panics were caught", PANICS.get())),
        Ok(outcome) => outcome,
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()))
        .unwrap_or_default()
}

/// Which records a crash may leave.
pub(crate) struct Expected<'a> {
    pub(crate) step: &'a Step,
    /// Whether the step was acknowledged.
    pub(crate) is_done: bool,
    /// Whether a spill was left, whose records may have been stored.
    pub(crate) has_spill: bool,
}

impl Expected<'_> {
    /// Compares the records that were found after a crash.
    /// `is_complete` says that nothing is lost that was written, as after a kill of the process. Opening to
    /// write, and not to read, stores what is in a spill.
    pub(crate) fn compare(
        &self,
        is_complete: bool,
        opening: Opening,
        store: &Store,
        known: &Known,
        found: &Contents,
    ) -> Result<(), String> {
        let Step {
            kind,
            before,
            after,
            batch,
            spilled,
            may_evict,
            is_foretold,
            evicted,
            evicted_after,
            ..
        } = self.step;
        let fail = |what: &str, numbers: Contents| {
            if numbers.is_empty() {
                return Ok(());
            }
            Err(format!("{what}: {numbers:?}"))
        };
        let before = if self.is_done { after } else { before };
        let kept: Contents = before.intersection(after).copied().collect();
        let has_spill = self.has_spill;
        let evicted = if self.is_done { evicted_after } else { evicted };
        // Storing what is in a spill may evict other records, and what is stored of it may have expired.
        let limited = (*may_evict && (has_spill || *is_foretold && !self.is_done))
            .then(|| Limited::of(store, known, self.step.clock))
            .transpose()?;
        let is_lost = |what: &str, missing: Contents| match &limited {
            Some(limited) => limited.explain(what, &missing, evicted),
            None => fail(what, missing),
        };
        let lost: Contents = kept.difference(found).copied().collect();
        is_lost("acknowledged records are lost", lost.clone())?;

        let mut possible: Contents = before.union(after).copied().collect();
        if !self.is_done {
            possible.extend(batch);
        }
        if has_spill {
            possible.extend(spilled);
        }
        let false_ones = found.difference(&possible).copied().collect();
        // When a limit of age rises, records are back that have expired and are not deleted yet.
        let may_rise = *kind == Kind::Limits && *is_foretold && !self.is_done;
        if !may_rise {
            fail("records are back, or were never stored", false_ones)?;
        }

        let stored: Contents = batch.intersection(after).copied().collect();
        let absent: Contents = stored.difference(found).copied().collect();
        let is_begun = found.intersection(batch).next().is_some();
        if is_begun && !has_spill {
            is_lost("a part of a batch is missing", absent)?;
        }
        // A writer stores its pending records before it wipes, and limits can then evict some that the wipe covers.
        if *kind == Kind::Wipe && !may_evict {
            let wiped: Contents = before.difference(after).copied().collect();
            let left: Contents = wiped.intersection(found).copied().collect();
            if left.len() < wiped.len() {
                fail("a part of a wipe is missing", left)?;
            }
        }
        if is_complete && opening == Opening::ToWrite && *kind == Kind::Spill && self.is_done {
            let missing = spilled.difference(found).chain(&lost).copied().collect();
            is_lost("spilled records are lost in a kill", missing)?;
        }
        Ok(())
    }
}

/// How a store is opened after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    ToRead,
    ToWrite,
}

impl Opening {
    /// The store; `None` when it is opened to read and there is none yet.
    pub(crate) fn open(
        self,
        home: &Path,
        options: StoreOptions,
        expected: &Expected<'_>,
    ) -> Result<Option<Store>, String> {
        match self {
            Opening::ToRead => {
                let store = Store::open_read_only(home, STACK, options).map_err(said)?;
                if store.is_none() && !expected.step.before.is_empty() {
                    return Err("there is no database".to_owned());
                }
                Ok(store)
            }
            Opening::ToWrite => Store::open(home, STACK, options).map(Some).map_err(said),
        }
    }
}

/// A folder in which images are opened, and what was seen there.
pub(crate) struct Bench {
    home: tempfile::TempDir,
    pub(crate) opens: Vec<Duration>,
}

/// What the first opening after a crash did.
pub(crate) struct Recovered {
    pub(crate) journal: Vec<Event>,
    pub(crate) found: Contents,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench {
            home: crate::common::home_in_memory(),
            opens: Vec::new(),
        }
    }

    /// Opens `image` and checks everything in it. The operations of the opening are recorded if
    /// `is_recorded`.
    pub(crate) fn check(
        &mut self,
        image: &Image,
        is_recorded: bool,
        known: &Known,
        expected: &Expected<'_>,
        random: &mut Random,
    ) -> Result<Recovered, String> {
        let home = self.home.path();
        put_image(home, image);
        let journal = Journal::new(is_recorded);
        let clock = Arc::new(AtomicI64::new(expected.step.clock));
        let options = options_now(&clock).disk_hook(journal.hook(&folder(home)));
        let started = Instant::now();
        let opening = match random.below(4) {
            0 => Opening::ToRead,
            _ => Opening::ToWrite,
        };
        let store = opening.open(home, options, expected)?;
        self.opens.push(started.elapsed());
        let recovery = journal.take();
        let Some(store) = store else {
            return Ok(Recovered {
                journal: recovery,
                found: Contents::new(),
            });
        };
        let found = contents(&store, known)?;
        let mut findings = Vec::new();
        if random.one_in(16) {
            store
                .verify(&VerifyOptions::default(), |finding| findings.push(finding))
                .map_err(said)?;
        } else if random.one_in(4) {
            store.snapshot().and_then(|it| it.check()).map_err(said)?;
        }
        if !findings.is_empty() {
            return Err(format!("{findings:?}"));
        }
        expected.compare(image.is_complete, opening, &store, known, &found)?;
        drop(store);
        if random.one_in(32) {
            self.goes_on(&found, known, &clock)?;
        }
        Ok(Recovered {
            journal: recovery,
            found,
        })
    }

    /// Checks that the store after a crash can be written to.
    fn goes_on(
        &self,
        found: &Contents,
        known: &Known,
        clock: &Arc<AtomicI64>,
    ) -> Result<(), String> {
        let home = self.home.path();
        let store = Store::open(home, STACK, options_now(clock)).map_err(said)?;
        let found_now = contents(&store, known)?;
        let limits = store
            .snapshot()
            .and_then(|it| it.limits_of(None))
            .map_err(said)?;
        // An opening to write stores the records of a spill, for which limits may evict others.
        if limits.is_none() && !found_now.is_superset(found) {
            return Err(format!("{found:?} became {found_now:?}"));
        }
        let mut writer = SimulatedWriter::with_spill(&store, writer_options()).map_err(said)?;
        let server = server(OTHERS[0]);
        for number in 0..20 {
            let record = record(number);
            writer.log(&server, &record, Duration::ZERO).map_err(said)?;
        }
        writer.close(Duration::ZERO).map_err(said)?;
        let query = Query::new(Signal::Logs).server(server);
        let count = store.last(&query, 100).map_err(said)?.len();
        if count != 20 && limits.is_none() {
            return Err(format!("{count} of 20 new records are stored"));
        }
        drop(store);
        is_whole(home)
    }
}

/// redb's own check of a closed database.
fn is_whole(home: &Path) -> Result<(), String> {
    let file = folder(home).join("telemetry.redb");
    let mut database = redb::Database::open(file).map_err(said)?;
    if database.check_integrity().map_err(said)? {
        return Ok(());
    }
    Err("redb finds the file damaged".to_owned())
}
