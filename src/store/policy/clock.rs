//! The guarded clock, by which the age of records is judged.
//!
//! Records older than their limit are deleted, so a wrong clock could delete all of them. Therefore
//! the system clock is compared with the elapsed time, which the machine's boot clock counts and
//! which cannot be set:
//!
//! - As long as the two agree within an hour, the system clock is trusted, and a time that was
//!   trusted is never taken back. The boot clock does not count while the machine is off, so after
//!   a restart the system clock may be up to 32 days ahead.
//! - Otherwise the clock has jumped. **Age is then judged by the earlier of the two**: a record
//!   deleted by the later one cannot be restored, while a record kept too long can be deleted
//!   tomorrow. So a clock that jumps ahead expires nothing, and after a clock is set back (or
//!   corrected), new records do not count as old.
//! - A jump that persists for 24 hours is trusted as a correction, in either direction. Only time
//!   with the machine on counts, across any number of restarts: a clock without a battery that the
//!   network corrects after every start is trusted in the end.
//!
//! [`advance`] is a pure function of the state in [`META`] and of a reading, so readers, which
//! store nothing, reach the same verdict as a writer. Timestamps of records never move this clock.

use crate::{
    store::{
        engine::{fault::Fault, transaction::WriteTransaction},
        layout::tables::{META, meta},
        policy::system_clock::{ClockReading, UNKNOWN_BOOT},
    },
    time::Timestamp,
};
use redb::ReadableTable;
use std::fmt;

/// A system clock that differs from the elapsed time and is not trusted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClockJump {
    /// The time shown by the system clock.
    pub shown: Timestamp,
    /// The time expected from the elapsed time.
    pub expected: Timestamp,
}

impl fmt::Display for ClockJump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClockJump { shown, expected } = self;
        let way = if shown > expected { "ahead" } else { "back" };
        write!(
            f,
            "the system clock jumped {way} to {shown} instead of {expected}: until it has continued \
             from there for {} hours, the age of records is judged by the earlier of the two times",
            GRACE_NANOS / HOUR_NANOS
        )
    }
}

const HOUR_NANOS: i64 = 3_600_000_000_000;
/// Maximum difference between the system clock and the elapsed time.
const STEP_NANOS_MAX: i64 = HOUR_NANOS;
/// Maximum time that the machine is assumed to have been off.
const AWAY_NANOS_MAX: i64 = 32 * 24 * HOUR_NANOS;
/// The time after which a persistent jump is trusted.
const GRACE_NANOS: i64 = 24 * HOUR_NANOS;
/// The time after which a new anchor is taken. The system clock can gain up to [`STEP_NANOS_MAX`]
/// unnoticed, and only once per anchor.
const ANCHOR_NANOS_MAX: u64 = 24 * HOUR_NANOS.unsigned_abs();
/// A transaction that writes anyway stores the trusted time if it is newer than the stored one by
/// this.
const STORED_NANOS: i64 = 60_000_000_000;
/// The trusted time gets a transaction of its own if it is newer than the stored one by this.
const STORED_NANOS_MAX: i64 = HOUR_NANOS;

/// The stored state of the guarded clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockState {
    /// The newest time that was trusted, or that was expected while a jump was pending.
    newest: i64,
    /// A trusted time, and the reading of the boot clock at that time.
    anchor: i64,
    anchor_boot_nanos: u64,
    boot: u64,
    jump: Option<PendingJump>,
}

/// A jump that is not trusted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PendingJump {
    /// The expected time when the jump was first seen. It is not a reading of the boot clock, which
    /// restarts at every boot.
    since: i64,
    /// How far the system clock was ahead of the expected time.
    by: i64,
}

/// The result of judging a reading of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockVerdict {
    /// The time by which age is judged.
    pub(crate) now: Timestamp,
    /// The pending jump, which is not trusted yet.
    pub(crate) jump: Option<ClockJump>,
    /// Whether the jump is seen for the first time, and must be reported.
    pub(crate) is_news: bool,
    /// How much newer the trusted time is than the stored one; [`i64::MAX`] when the state differs
    /// in more than the time.
    stored_before: i64,
    state: ClockState,
}

/// Judges a reading by the stored state.
pub(crate) fn advance(state: Option<ClockState>, reading: ClockReading) -> ClockVerdict {
    let wall = reading.wall.unix_nanos();
    let stored = state;
    // The very first reading has nothing to be compared with.
    let state = state.unwrap_or(ClockState {
        newest: wall,
        anchor: wall,
        anchor_boot_nanos: reading.boot_nanos,
        boot: reading.boot,
        jump: None,
    });
    let same_boot = state.boot == reading.boot && reading.boot != UNKNOWN_BOOT;
    let elapsed = reading.boot_nanos.saturating_sub(state.anchor_boot_nanos);
    let expected = if same_boot {
        state.anchor.saturating_add_unsigned(elapsed)
    } else if state.boot == UNKNOWN_BOOT || reading.boot == UNKNOWN_BOOT {
        state
            .newest
            .max(state.anchor.saturating_add_unsigned(elapsed))
    } else {
        // The machine was off for an unknown time, but it has been on for at least this long.
        state.newest.saturating_add_unsigned(reading.boot_nanos)
    };
    let by = wall.saturating_sub(expected);
    let ahead_max = if same_boot {
        STEP_NANOS_MAX
    } else {
        AWAY_NANOS_MAX
    };
    let pending = state.jump.filter(|jump| jump.goes_on(by, same_boot));
    let corrected = pending.is_some_and(|jump| expected.saturating_sub(jump.since) >= GRACE_NANOS);
    let is_trusted = corrected || pending.is_none() && (-STEP_NANOS_MAX..=ahead_max).contains(&by);
    let (base, newest) = match (corrected, is_trusted) {
        (true, _) => (wall, wall),
        (false, true) => (wall, state.newest.max(wall)),
        (false, false) => (expected, state.newest.max(expected)),
    };
    let mut next = ClockState {
        newest,
        jump: (!is_trusted).then(|| PendingJump {
            since: pending.map_or(expected, |jump| jump.since),
            by: pending.filter(|_| same_boot).map_or(by, |jump| jump.by),
        }),
        ..state
    };
    // Without boot ids, a boot clock that shows less than before reveals a restart.
    let begun =
        !same_boot && (state.boot != reading.boot || reading.boot_nanos < state.anchor_boot_nanos);
    if begun || corrected || elapsed >= ANCHOR_NANOS_MAX {
        next.anchor = base;
        next.anchor_boot_nanos = reading.boot_nanos;
        next.boot = reading.boot;
    }
    let jump = (!is_trusted).then_some(ClockJump {
        shown: reading.wall,
        expected: Timestamp::from_unix_nanos(expected),
    });
    ClockVerdict {
        now: Timestamp::from_unix_nanos(if is_trusted { newest } else { newest.min(wall) }),
        is_news: jump.is_some() && pending.is_none(),
        jump,
        stored_before: stored.map_or(i64::MAX, |stored| stored.nanos_before(next)),
        state: next,
    }
}

impl PendingJump {
    /// Whether a clock that is ahead by `by` has continued from its jump.
    fn goes_on(self, by: i64, same_boot: bool) -> bool {
        let more = by.saturating_sub(self.by);
        let more_max = if same_boot {
            STEP_NANOS_MAX
        } else {
            AWAY_NANOS_MAX
        };
        by.unsigned_abs() > STEP_NANOS_MAX.unsigned_abs()
            && (-STEP_NANOS_MAX..=more_max).contains(&more)
    }
}

impl ClockState {
    fn read(table: &impl ReadableTable<&'static str, u64>) -> Result<Option<ClockState>, Fault> {
        let number = |name| Ok::<_, Fault>(table.get(name)?.map(|value| value.value()));
        let time = |name| Ok::<_, Fault>(number(name)?.map(u64::cast_signed));
        let (Some(newest), Some(anchor), Some(anchor_boot_nanos), Some(boot)) = (
            time(meta::CLOCK_NEWEST)?,
            time(meta::CLOCK_ANCHOR)?,
            number(meta::CLOCK_ANCHOR_BOOT_NANOS)?,
            number(meta::CLOCK_BOOT)?,
        ) else {
            // A database whose age has never been judged, but which a writer may have committed to.
            let last_commit = number(meta::LAST_COMMIT)?.and_then(|nanos| nanos.try_into().ok());
            return Ok(last_commit
                .filter(|nanos| *nanos > 0)
                .map(|last| ClockState {
                    newest: last,
                    anchor: last,
                    // Higher than any reading, so that no time counts as elapsed.
                    anchor_boot_nanos: u64::MAX,
                    boot: UNKNOWN_BOOT,
                    jump: None,
                }));
        };
        let jump = match (time(meta::CLOCK_JUMP_SINCE)?, time(meta::CLOCK_JUMP_BY)?) {
            (Some(since), Some(by)) => Some(PendingJump { since, by }),
            _ => None,
        };
        Ok(Some(ClockState {
            newest,
            anchor,
            anchor_boot_nanos,
            boot,
            jump,
        }))
    }

    fn entries(self) -> [(&'static str, Option<u64>); 6] {
        let since = self.jump.map(|jump| jump.since.cast_unsigned());
        let by = self.jump.map(|jump| jump.by.cast_unsigned());
        [
            (meta::CLOCK_NEWEST, Some(self.newest.cast_unsigned())),
            (meta::CLOCK_ANCHOR, Some(self.anchor.cast_unsigned())),
            (meta::CLOCK_ANCHOR_BOOT_NANOS, Some(self.anchor_boot_nanos)),
            (meta::CLOCK_BOOT, Some(self.boot)),
            (meta::CLOCK_JUMP_SINCE, since),
            (meta::CLOCK_JUMP_BY, by),
        ]
    }

    /// How much newer `other` is; [`i64::MAX`] when it is older, or differs in more than the time.
    fn nanos_before(self, other: ClockState) -> i64 {
        let newer = other.newest.saturating_sub(self.newest);
        let but_newer = ClockState {
            newest: other.newest,
            ..self
        };
        if newer >= 0 && other == but_newer {
            newer
        } else {
            i64::MAX
        }
    }
}

/// Judges `reading` by the stored state, without storing anything. For readers.
pub(crate) fn judge(
    meta: &impl ReadableTable<&'static str, u64>,
    reading: ClockReading,
) -> Result<ClockVerdict, Fault> {
    Ok(advance(ClockState::read(meta)?, reading))
}

/// Judges `reading` by the stored state and stores the new one. Every deletion by age must use this
/// verdict.
pub(crate) fn keep(
    transaction: &WriteTransaction,
    reading: ClockReading,
) -> Result<ClockVerdict, Fault> {
    let mut table = transaction.open_table(META)?;
    let verdict = judge(&*table, reading)?;
    if verdict.stored_before >= STORED_NANOS {
        for (name, value) in verdict.state.entries() {
            match value {
                Some(value) => table.insert(name, value)?,
                None => table.remove(name)?,
            };
        }
    }
    Ok(verdict)
}

impl ClockVerdict {
    /// Whether the state should be stored even if nothing else is written. A jump is trusted only
    /// after it has been known for a while, so a new jump must be stored soon.
    pub(crate) fn is_worth_a_transaction(&self) -> bool {
        self.stored_before >= STORED_NANOS_MAX
    }
}

/// The time by which age is judged. Stores the state, so that it survives a restart, and logs a
/// warning when a jump is first seen.
pub(crate) fn trusted_now(
    transaction: &WriteTransaction,
    reading: ClockReading,
    stack: &str,
) -> Result<i64, Fault> {
    let verdict = keep(transaction, reading)?;
    if let Some(jump) = verdict.jump.filter(|_| verdict.is_news) {
        tracing::warn!(stack, "{jump}, so that a wrong clock deletes no records");
    }
    Ok(verdict.now.unix_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redb::ReadableDatabase;

    const MINUTE: i64 = 60_000_000_000;
    const DAY: i64 = 24 * HOUR_NANOS;
    /// 2026-01-01T00:00:00Z
    const START: i64 = 1_767_225_600_000_000_000;

    /// A machine, its clocks, and the state that a store keeps of them.
    #[derive(Clone)]
    struct Machine {
        /// The true time, which no program can read.
        time: i64,
        /// The error of the system clock.
        wrong: i64,
        booted: i64,
        boot: u64,
        state: Option<ClockState>,
    }

    impl Machine {
        fn new() -> Machine {
            Machine {
                time: START,
                wrong: 0,
                booted: START - DAY,
                boot: 1,
                state: None,
            }
        }

        fn wait(&mut self, nanos: i64) -> &mut Machine {
            self.time += nanos;
            self
        }

        fn restart(&mut self, off: i64) -> &mut Machine {
            self.time += off;
            self.booted = self.time;
            self.boot += 1;
            self
        }

        fn reading(&self) -> ClockReading {
            ClockReading {
                wall: Timestamp::from_unix_nanos(self.time.saturating_add(self.wrong)),
                boot_nanos: (self.time - self.booted).cast_unsigned(),
                boot: self.boot,
            }
        }

        /// Judges the clocks now. Also returns how far the verdict is from the true time.
        fn look(&mut self) -> (i64, ClockVerdict) {
            let verdict = advance(self.state, self.reading());
            self.state = Some(verdict.state);
            (verdict.now.unix_nanos() - self.time, verdict)
        }

        fn off_by(&mut self) -> i64 {
            self.look().0
        }
    }

    #[test]
    fn a_clock_that_goes_right_is_believed() {
        let mut machine = Machine::new();
        for pause in [0, 1, MINUTE, DAY, 400 * DAY, 0] {
            let (off, verdict) = machine.wait(pause).look();
            assert_eq!((off, verdict.jump), (0, None));
        }
        let (off, verdict) = machine.restart(31 * DAY).look();
        assert_eq!((off, verdict.jump), (0, None));
    }

    #[test]
    fn a_jump_ahead_is_believed_when_it_has_stood_for_a_day() {
        let mut machine = Machine::new();
        machine.look();
        machine.wrong = 365 * DAY;
        let (off, verdict) = machine.wait(MINUTE).look();
        assert!(off == 0 && verdict.is_news);
        let jump = verdict.jump.unwrap();
        assert_eq!(
            jump.shown.unix_nanos() - jump.expected.unix_nanos(),
            365 * DAY
        );
        assert!(
            jump.to_string().contains("jumped ahead to 2027-01-01"),
            "{jump}"
        );
        let (off, verdict) = machine.wait(DAY - 1).look();
        assert!(off == 0 && verdict.jump.is_some() && !verdict.is_news);
        let (off, verdict) = machine.wait(1).look();
        assert_eq!((off, verdict.jump), (365 * DAY, None));
        // The clock is trusted from there on.
        assert_eq!(machine.wait(DAY).off_by(), 365 * DAY);
    }

    #[test]
    fn a_jump_that_is_taken_back_changes_nothing() {
        let mut machine = Machine::new();
        machine.look();
        machine.wrong = 365 * DAY;
        assert_eq!(machine.wait(MINUTE).off_by(), 0);
        machine.wrong = 0;
        let (off, verdict) = machine.wait(DAY).look();
        assert_eq!((off, verdict.jump), (0, None));
        // The time for which the first jump persisted does not count for the second one.
        machine.wrong = 365 * DAY;
        let (off, verdict) = machine.wait(MINUTE).look();
        assert!(off == 0 && verdict.is_news);
    }

    #[test]
    fn a_clock_that_jumps_again_and_again_is_not_believed() {
        let mut machine = Machine::new();
        machine.look();
        for _ in 0..100 {
            machine.wrong += 30 * DAY;
            let (off, verdict) = machine.wait(HOUR_NANOS).look();
            assert!(off == 0 && verdict.is_news);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_is_the_earlier_one_at_once() {
        let mut machine = Machine::new();
        machine.look();
        machine.wrong = -30 * DAY;
        let (off, verdict) = machine.wait(MINUTE).look();
        assert!(off == -30 * DAY && verdict.is_news);
        assert!(verdict.jump.unwrap().to_string().contains("jumped back"));
        // The wrong year was the mistake; it leaves no trace.
        machine.wrong = 0;
        let (off, verdict) = machine.wait(HOUR_NANOS).look();
        assert_eq!((off, verdict.jump), (0, None));
    }

    /// The most important case: if a trusted wrong year lasted, every new record would count as a
    /// year old.
    #[test]
    fn a_wrong_year_that_was_believed_is_forgotten() {
        let mut machine = Machine::new();
        machine.wrong = 365 * DAY;
        assert_eq!(machine.off_by(), 365 * DAY);
        machine.wrong = 0;
        assert_eq!(machine.wait(MINUTE).off_by(), 0);
        assert_eq!(machine.wait(DAY / 2).off_by(), 0);
        let (off, verdict) = machine.wait(DAY).look();
        assert_eq!((off, verdict.jump), (0, None));
        // The wrong year was never right, so returning to it is a jump again.
        machine.wrong = 365 * DAY;
        let (off, verdict) = machine.wait(MINUTE).look();
        assert!(off == 0 && verdict.is_news);
    }

    #[test]
    fn small_steps_back_wait_for_the_time_to_catch_up() {
        let mut machine = Machine::new();
        machine.look();
        machine.wrong = -50 * MINUTE;
        assert_eq!(machine.wait(10 * MINUTE).off_by(), -10 * MINUTE);
        assert_eq!(machine.wait(30 * MINUTE).off_by(), -40 * MINUTE);
        assert_eq!(machine.wait(30 * MINUTE).off_by(), -50 * MINUTE);
    }

    #[test]
    fn a_machine_that_was_off_for_long_is_believed_after_a_day_of_being_on() {
        let mut machine = Machine::new();
        machine.look();
        let (off, verdict) = machine.restart(40 * DAY).look();
        assert!(off == -40 * DAY && verdict.is_news);
        // The machine is never on for a whole day.
        for _ in 0..3 {
            let (off, verdict) = machine.wait(7 * HOUR_NANOS).look();
            assert!(off < -39 * DAY && verdict.jump.is_some() && !verdict.is_news);
            machine.restart(17 * HOUR_NANOS);
        }
        let (off, verdict) = machine.wait(4 * HOUR_NANOS).look();
        assert_eq!((off, verdict.jump), (0, None));
    }

    /// Whether the machine was off or its clock is wrong is unknown, but the clock is known to have
    /// been wrong before.
    #[test]
    fn a_restart_does_not_make_a_wrong_clock_right() {
        let mut machine = Machine::new();
        machine.look();
        machine.wrong = 20 * DAY;
        assert_eq!(machine.wait(MINUTE).off_by(), 0);
        let (off, verdict) = machine.restart(MINUTE).wait(MINUTE).look();
        assert!(off < 0 && verdict.jump.is_some() && !verdict.is_news);
        // The clock was corrected while the machine was off.
        machine.wrong = 0;
        let (off, verdict) = machine.restart(DAY).look();
        assert_eq!((off, verdict.jump), (0, None));
    }

    #[test]
    fn a_clock_of_an_unknown_boot_may_be_ahead_and_jumps_when_it_is_far() {
        let mut machine = Machine::new();
        machine.boot = UNKNOWN_BOOT;
        machine.look();
        assert_eq!(machine.wait(40 * DAY).off_by(), 0);
        // The machine restarts, which only its boot clock reveals.
        machine.restart(30 * DAY).boot = UNKNOWN_BOOT;
        assert_eq!(machine.off_by(), 0);
        machine.wrong = 40 * DAY;
        assert_eq!(machine.wait(HOUR_NANOS).off_by(), 0);
        assert_eq!(machine.wait(DAY).off_by(), 40 * DAY);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let extremes = [i64::MIN, -1, 0, 1, i64::MAX];
        let numbers = [0, 1, u64::MAX];
        let mut state = None;
        for first in extremes {
            for second in extremes {
                for boot_nanos in numbers {
                    for boot in numbers {
                        for wall in [first, second] {
                            let wall = Timestamp::from_unix_nanos(wall);
                            let reading = ClockReading {
                                wall,
                                boot_nanos,
                                boot,
                            };
                            advance(None, reading);
                            state = Some(advance(state, reading).state);
                        }
                    }
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Event {
        Wait(i64),
        SetClock(i64),
        Restart(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let small = -3 * HOUR_NANOS..3 * HOUR_NANOS;
        let large = -50 * 365 * DAY..50 * 365 * DAY;
        prop_oneof![
            3 => (0..3 * HOUR_NANOS).prop_map(Event::Wait),
            2 => prop_oneof![Just(0), small, large].prop_map(Event::SetClock),
            1 => (0..60 * DAY).prop_map(Event::Restart),
        ]
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        prop::collection::vec(event(), 1..40)
    }

    fn apply(machine: &mut Machine, event: &Event) {
        match event {
            Event::Wait(nanos) => machine.time += nanos,
            Event::SetClock(wrong) => machine.wrong = *wrong,
            Event::Restart(off) => {
                machine.restart(*off);
            }
        }
    }

    proptest! {
        /// Within a day, the verdict is at most an hour ahead of the true time, so no record
        /// expires more than an hour early.
        #[test]
        fn no_clock_runs_ahead_within_a_day(events in events()) {
            let mut machine = Machine::new();
            machine.look();
            for event in events {
                if matches!(event, Event::Restart(_)) {
                    continue;
                }
                apply(&mut machine, &event);
                if machine.time - START >= DAY {
                    break;
                }
                let off = machine.off_by();
                prop_assert!(off <= STEP_NANOS_MAX, "ahead by {off}");
            }
        }

        #[test]
        fn a_clock_that_keeps_its_time_for_a_day_is_believed(events in events()) {
            let mut machine = Machine::new();
            for event in events {
                apply(&mut machine, &event);
                machine.look();
            }
            for _ in 0..=24 {
                machine.wait(HOUR_NANOS).look();
            }
            let (off, verdict) = machine.wait(HOUR_NANOS).look();
            prop_assert_eq!((off, verdict.jump), (machine.wrong, None));
        }

        /// After any sequence of events, a record that is new by the system clock is not old, so it
        /// is not deleted at once.
        #[test]
        fn what_is_new_by_the_systems_clock_is_never_old(events in events()) {
            let mut machine = Machine::new();
            machine.look();
            for event in events {
                apply(&mut machine, &event);
                let (_, verdict) = machine.look();
                let age = verdict.now.unix_nanos() - machine.reading().wall.unix_nanos();
                prop_assert!(age <= 2 * STEP_NANOS_MAX, "{age}");
            }
        }

        /// Skipping the storage of small changes does not change a verdict, for writers and
        /// readers.
        #[test]
        fn a_database_judges_as_memory_does(events in events()) {
            let backend = redb::backends::InMemoryBackend::new();
            let database = redb::Database::builder().create_with_backend(backend).unwrap();
            let mut machine = Machine::new();
            for event in events {
                apply(&mut machine, &event);
                let transaction = WriteTransaction::new(database.begin_write().unwrap());
                let reading = machine.reading();
                let kept = keep(&transaction, reading).unwrap();
                transaction.commit().unwrap();
                let (_, verdict) = machine.look();
                let (a, b) = (kept.now.unix_nanos(), verdict.now.unix_nanos());
                prop_assert!(a.abs_diff(b) < STORED_NANOS.unsigned_abs(), "{} {}", kept.now, verdict.now);
                prop_assert_eq!(kept.jump.is_some(), verdict.jump.is_some());
                let table = database.begin_read().unwrap().open_table(META).unwrap();
                let again = judge(&table, reading).unwrap();
                prop_assert_eq!((again.now, again.jump), (kept.now, kept.jump));
                prop_assert!(!again.is_news, "reported twice");
            }
        }
    }

    #[test]
    fn a_database_that_nobody_judged_by_tells_when_it_was_written_to() {
        let backend = redb::backends::InMemoryBackend::new();
        let database = redb::Database::builder()
            .create_with_backend(backend)
            .unwrap();
        let transaction = WriteTransaction::new(database.begin_write().unwrap());
        let mut table = transaction.open_table(META).unwrap();
        let machine = Machine::new();
        let written = (START - DAY).cast_unsigned();
        table.insert(meta::LAST_COMMIT, written).unwrap();
        assert_eq!(
            judge(&*table, machine.reading()).unwrap().now.unix_nanos(),
            START
        );
        table
            .insert(meta::LAST_COMMIT, (START - 90 * DAY).cast_unsigned())
            .unwrap();
        let verdict = judge(&*table, machine.reading()).unwrap();
        assert_eq!(verdict.now.unix_nanos(), START - 90 * DAY);
        assert!(verdict.is_news);
    }

    #[test]
    fn the_systems_clocks_go() {
        let (first, second) = (ClockReading::now(), ClockReading::now());
        assert!(second.boot_nanos > first.boot_nanos);
        assert_eq!(first.boot, second.boot);
    }
}
