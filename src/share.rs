//! Work that several threads share.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

/// Does all `jobs` on this thread and on one more for each of `helpers`, which end before this returns. A job is
/// given what its thread works with: `own` on this one. If the system has no more threads, fewer do the work.
pub(crate) fn share<W: Send, J: Send>(
    own: &mut W,
    helpers: &mut [W],
    jobs: impl Iterator<Item = J> + Send,
    work: impl Fn(&mut W, J) + Sync,
) {
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = |worker: &mut W| {
        while let Some(job) = next() {
            work(worker, job);
        }
    };
    thread::scope(|scope| {
        for helper in helpers {
            let named = thread::Builder::new().name("gridctl-telemetry-help".to_owned());
            if named.spawn_scoped(scope, || work(helper)).is_err() {
                break;
            }
        }
        work(own);
    });
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn every_job_is_done_once_by_any_number_of_threads() {
        for helpers in 0..4 {
            let mut outcomes = vec![0; 1000];
            let mut counts = vec![0; helpers];
            let mut own = 0;
            share(&mut own, &mut counts, outcomes.iter_mut(), |count, job| {
                *count += 1;
                *job += 1;
            });
            assert!(outcomes.iter().all(|outcome| *outcome == 1));
            assert_eq!(own + counts.iter().sum::<usize>(), 1000);
        }
    }
}
