//! How long to wait before a request is sent again.

use std::time::{Duration, SystemTime};

/// The first wait, and the longest one.
const FIRST: Duration = Duration::from_millis(500);
pub(crate) const LONGEST: Duration = Duration::from_secs(60);
/// The longest wait that an endpoint can ask for: a date can be wrong by years, where a clock is.
const ASKED_MAX: Duration = Duration::from_secs(300);

/// Waits that become longer, up to a minute, and vary so that many forwarders do not send at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait: `asked` if the endpoint said how long, else half to all of the next length.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        let longest = doubled.min(LONGEST);
        match asked {
            // Many forwarders were told the same moment.
            Some(asked) => asked.min(ASKED_MAX) + FIRST.mul_f64(fastrand::f64()),
            None => longest.mul_f64(0.5 + 0.5 * fastrand::f64()),
        }
    }

    /// The number of waits since the last success.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// How long a header `Retry-After` asks to wait, in seconds or until a date; `None` for a date in the past and for
/// what is neither.
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(header).ok()?;
    until.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_become_longer_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next(None)).collect();
        for (wait, longest) in waits.iter().zip([500_u64, 1000, 2000, 4000]) {
            let longest = Duration::from_millis(longest);
            assert!(*wait <= longest && *wait >= longest / 2, "{waits:?}");
        }
        assert!(
            waits[20..]
                .iter()
                .all(|wait| *wait <= LONGEST && *wait >= LONGEST / 2)
        );
        assert_eq!(backoff.attempts(), 40);
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }

    #[test]
    fn an_endpoint_can_ask_for_five_minutes_at_most() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let date = |offset: i64| {
            let at = now.checked_add(Duration::from_secs(offset.unsigned_abs()));
            let before = now.checked_sub(Duration::from_secs(offset.unsigned_abs()));
            httpdate::fmt_http_date(if offset < 0 {
                before.unwrap()
            } else {
                at.unwrap()
            })
        };
        for (header, asked) in [
            ("7".to_owned(), Some(7)),
            (" 0 ".to_owned(), Some(0)),
            (date(90), Some(90)),
            (date(-90), None),
            ("soon".to_owned(), None),
            ("-5".to_owned(), None),
            (String::new(), None),
        ] {
            let expected = asked.map(Duration::from_secs);
            assert_eq!(retry_after(&header, now), expected, "{header}");
        }
        for far in [u64::MAX.to_string(), date(40_000_000)] {
            let wait = Backoff::default().next(retry_after(&far, now));
            assert!(wait >= ASKED_MAX && wait <= ASKED_MAX + FIRST, "{wait:?}");
        }
    }
}
