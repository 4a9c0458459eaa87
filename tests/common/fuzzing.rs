//! Runs the targets of a fuzzer in processes that may end, and finds the input that ended one.

use super::helper::{Helper, say};
use gridctl_telemetry::testing::FuzzTarget;
use peak_alloc::PeakAlloc;
use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

/// The memory that one input may take, in bytes.
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// The processor time that one input may take.
const TIME_MAX: Duration = Duration::from_secs(2);
/// The inputs after which a process says how far it is.
const PORTION: u64 = 256;
/// The seconds for all targets, unless the environment says otherwise.
const SECONDS_DEFAULT: f64 = 4.0;

fn variable(name: &str) -> Option<String> {
    std::env::var(format!("GRIDCTL_TELEMETRY_{name}")).ok()
}

/// The time that this thread has computed. A machine that is busy otherwise makes no input slow.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.cast_unsigned(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// Tries inputs of one target: the arguments are its name, the seed, the first number, how many at most,
/// and for how many milliseconds.
pub(crate) fn work(targets: &[FuzzTarget], arguments: &[String], memory: PeakAlloc) {
    let [name, seed, first, count, millis] = arguments else {
        panic!("{arguments:?}");
    };
    let target = targets.iter().find(|it| it.name() == name).unwrap();
    let [seed, first, count, millis] = [seed, first, count, millis].map(|it| it.parse().unwrap());
    let until = Instant::now() + Duration::from_millis(millis);
    std::panic::set_hook(Box::new(|panic| {
        say(format!("panic {}", panic.to_string().replace('\n', " ")));
    }));
    for number in first..first + count {
        if number % PORTION == 0 {
            say(format!("tried {number}"));
            if Instant::now() > until {
                break;
            }
        }
        let input = target.input(seed, number);
        memory.reset_peak_usage();
        let (bytes, time) = (memory.current_usage(), processor_time());
        let outcome = catch_unwind(AssertUnwindSafe(|| target.run(&input)));
        let took = processor_time().saturating_sub(time);
        let peak = memory.peak_usage().saturating_sub(bytes);
        let problem = if outcome.is_err() {
            "panics".to_owned()
        } else if peak > MEMORY_BYTES_MAX {
            format!("takes {} MiB", peak >> 20)
        } else if took > TIME_MAX {
            format!("takes {took:?}")
        } else {
            continue;
        };
        say(format!("problem {number} {problem}"));
        return;
    }
    say(format!("done {}", first + count));
}

/// What happened to one process.
struct Tried {
    /// The number after the last input that is known to have been tried.
    next: u64,
    problem: Option<String>,
    ended: bool,
}

fn attempt(
    target: &FuzzTarget,
    helper: &str,
    seed: u64,
    first: u64,
    count: u64,
    time: Duration,
) -> Tried {
    let numbers = [seed, first, count].map(|it| it.to_string());
    let millis = time.as_millis().to_string();
    let arguments = [
        target.name(),
        &numbers[0],
        &numbers[1],
        &numbers[2],
        &millis,
    ];
    let mut helper = Helper::start(helper, &arguments);
    let mut tried = Tried {
        next: first,
        problem: None,
        ended: true,
    };
    let mut panic = String::new();
    while let Some(line) = helper.hear() {
        let (kind, rest) = line.split_once(' ').unwrap();
        match kind {
            "tried" => tried.next = rest.parse().unwrap(),
            "panic" => rest.clone_into(&mut panic),
            "problem" => {
                tried.problem = Some(format!("{rest} {panic}"));
                tried.ended = false;
            }
            "done" => tried.ended = false,
            _ => panic!("{line}"),
        }
        if kind == "done" || kind == "problem" {
            break;
        }
    }
    tried
}

/// Tries each target for its part of the time, and prints how many inputs it took. The test `helper` calls
/// [`work`].
pub(crate) fn run(targets: &[FuzzTarget], helper: &str) {
    if let Some(case) = variable("FUZZ_CASE") {
        return repeat(targets, &case);
    }
    let only = variable("FUZZ_TARGET");
    let targets: Vec<&FuzzTarget> = targets
        .iter()
        .filter(|it| only.as_deref().is_none_or(|only| only == it.name()))
        .collect();
    let seconds = variable("FUZZ_SECONDS").map_or(SECONDS_DEFAULT, |it| it.parse().unwrap());
    let seed = variable("SEED").map_or(1, |it| it.parse().unwrap());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    #[expect(clippy::cast_precision_loss, reason = "few targets")]
    let share = Duration::from_secs_f64(seconds * workers as f64 / targets.len().max(1) as f64);
    let queue = std::sync::Mutex::new(targets.iter());
    let report = std::sync::Mutex::new(String::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some(target) = next else { break };
                    let tried = attempt(target, helper, seed, 0, u64::MAX >> 1, share);
                    println!("{:16} {:>12} inputs", target.name(), tried.next);
                    let problem = match (tried.problem, tried.ended) {
                        (Some(problem), _) => problem,
                        (None, true) => culprit(target, helper, seed, tried.next),
                        (None, false) => continue,
                    };
                    let mut report = report.lock().unwrap();
                    writeln!(report, "{} {seed} {problem}", target.name()).unwrap();
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    assert!(report.is_empty(), "\n{report}");
}

/// The input that ended a process after it had tried those below `from`.
fn culprit(target: &FuzzTarget, helper: &str, seed: u64, from: u64) -> String {
    let ends = |number: &u64| {
        let tried = attempt(target, helper, seed, *number, 1, TIME_MAX * 30);
        tried.ended || tried.problem.is_some()
    };
    let found = (from..from + 2 * PORTION).find(ends);
    match found {
        Some(number) => format!("{number} ends the process"),
        None => format!("{from} or a later one ends the process"),
    }
}

/// Tries one input again, in this process.
fn repeat(targets: &[FuzzTarget], case: &str) {
    let mut words = case.rsplitn(3, ' ');
    let (number, seed) = (words.next().unwrap(), words.next().unwrap());
    let name = words.next().unwrap();
    let Some(target) = targets.iter().find(|it| it.name() == name) else {
        return;
    };
    let input = target.input(seed.parse().unwrap(), number.parse().unwrap());
    println!("{} bytes: {}", input.len(), input.escape_ascii());
    let started = processor_time();
    target.run(&input);
    println!("took {:?}", processor_time().saturating_sub(started));
}
