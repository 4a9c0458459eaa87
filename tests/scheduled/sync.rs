//! What the queue and the spiller synchronise with: primitives of `shuttle`.

use std::{sync::LockResult, time::Duration};

pub(crate) use shuttle::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    },
    thread::{Builder, Thread, current, park_timeout},
};
pub(crate) use std::sync::PoisonError;

/// A condition variable whose timeouts come whenever the checker wants.
#[derive(Debug, Default)]
pub(crate) struct Condvar(Arc<shuttle::sync::Condvar>);

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait_while(guard, condition)
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        let timed = Arc::clone(&self.0);
        shuttle::thread::spawn(move || timed.notify_all());
        let guard = self.0.wait(guard).unwrap_or_else(PoisonError::into_inner);
        Ok((guard, ()))
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// As much of crossbeam's channels as the queue uses.
pub(crate) mod channel {
    use super::{Arc, Condvar, Mutex};
    pub(crate) use crossbeam::channel::{RecvTimeoutError, SendTimeoutError, TrySendError};
    use std::{collections::VecDeque, time::Instant};

    #[derive(Debug)]
    struct Channel<T> {
        state: Mutex<State<T>>,
        changed: Condvar,
    }

    #[derive(Debug)]
    struct State<T> {
        messages: VecDeque<T>,
        capacity: usize,
        senders: usize,
        receivers: usize,
    }

    #[derive(Debug)]
    pub(crate) struct Sender<T>(Arc<Channel<T>>);
    pub(crate) struct Receiver<T>(Arc<Channel<T>>);

    pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let state = State {
            messages: VecDeque::new(),
            capacity,
            senders: 1,
            receivers: 1,
        };
        let channel = Arc::new(Channel {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        (Sender(Arc::clone(&channel)), Receiver(channel))
    }

    impl<T> Sender<T> {
        pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
            let mut state = self.0.state.lock().unwrap();
            if state.receivers == 0 {
                return Err(TrySendError::Disconnected(message));
            }
            if state.messages.len() >= state.capacity {
                return Err(TrySendError::Full(message));
            }
            state.messages.push_back(message);
            self.0.changed.notify_all();
            Ok(())
        }

        pub(crate) fn send(&self, message: T) -> Result<(), T> {
            let state = self.0.state.lock().unwrap();
            let is_full = |it: &mut State<T>| it.receivers > 0 && it.messages.len() >= it.capacity;
            let mut state = self.0.changed.wait_while(state, is_full).unwrap();
            if state.receivers == 0 {
                return Err(message);
            }
            state.messages.push_back(message);
            self.0.changed.notify_all();
            Ok(())
        }

        pub(crate) fn send_deadline(
            &self,
            message: T,
            _: Instant,
        ) -> Result<(), SendTimeoutError<T>> {
            self.send(message).map_err(SendTimeoutError::Disconnected)
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn try_recv(&self) -> Result<T, ()> {
            let mut state = self.0.state.lock().unwrap();
            let message = state.messages.pop_front().ok_or(())?;
            self.0.changed.notify_all();
            Ok(message)
        }

        pub(crate) fn recv_deadline(&self, _: Instant) -> Result<T, RecvTimeoutError> {
            let state = self.0.state.lock().unwrap();
            let is_empty = |it: &mut State<T>| it.senders > 0 && it.messages.is_empty();
            let mut state = self.0.changed.wait_while(state, is_empty).unwrap();
            let message = state.messages.pop_front();
            self.0.changed.notify_all();
            message.ok_or(RecvTimeoutError::Disconnected)
        }

        pub(crate) fn len(&self) -> usize {
            self.0.state.lock().unwrap().messages.len()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.state.lock().unwrap().messages.is_empty()
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Receiver<T> {
            self.0.state.lock().unwrap().receivers += 1;
            Receiver(Arc::clone(&self.0))
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.state.lock().unwrap().senders -= 1;
            self.0.changed.notify_all();
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.state.lock().unwrap().receivers -= 1;
            self.0.changed.notify_all();
        }
    }
}
