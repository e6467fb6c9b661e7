//! [`TokenBucket`]: how often something may happen.

use std::time::Duration;

use super::as_ns;
use crate::transport::Counter;

/// The longest time that one request can be given, a year.
const MAX_INTERVAL_NS: u64 = 365 * 86_400 * 1_000_000_000;
/// How far ahead a bucket can be spent: with the time of day as it is, sums stay below 64 bits.
const MAX_AHEAD_NS: u64 = u64::MAX / 4;

/// So many requests in so much time, and so many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval_ns: u64,
    burst: u32,
}

impl Rate {
    /// `requests` in each `period`, all of them at once if need be.
    ///
    /// The time for one request is rounded up to a nanosecond, so it is never more; at least 1 ns, at most a year. No
    /// request is taken for one.
    #[must_use]
    pub fn new(requests: u32, period: Duration) -> Self {
        let requests = requests.max(1);
        let interval_ns = as_ns(period).div_ceil(requests.into()).clamp(1, MAX_INTERVAL_NS);
        Self { interval_ns, burst: requests }
    }

    /// `requests` a second: a bucket that holds a second's worth.
    #[must_use]
    pub fn per_second(requests: u32) -> Self {
        Self::new(requests, Duration::from_secs(1))
    }

    /// At most `requests` at once, at least one.
    #[must_use]
    pub fn burst(mut self, requests: u32) -> Self {
        self.burst = requests.max(1);
        self
    }

    fn ahead_ns(self) -> u64 {
        self.interval_ns.saturating_mul(u64::from(self.burst) - 1).min(MAX_AHEAD_NS)
    }
}

/// A token bucket, shared by threads without a lock.
///
/// It fills at the [`Rate`] up to the burst, and each request takes a token out. The caller says what time it is, in
/// nanoseconds of one monotonic clock; a time before the latest is taken as the latest.
///
/// ```
/// use ringwire::server::shed::{Rate, TokenBucket};
/// const MS: u64 = 1_000_000;
/// let bucket = TokenBucket::new(Rate::per_second(100).burst(2));
/// assert_eq!(bucket.take(5 * MS), Ok(()));
/// assert_eq!(bucket.take(5 * MS), Ok(()));
/// assert_eq!(bucket.take(6 * MS), Err(9 * MS)); // in 9 ms there is one
/// assert_eq!(bucket.take(15 * MS), Ok(()));
/// ```
// The generic cell rate algorithm: one word says when the bucket is full again, and with that how full it is.
#[derive(Debug)]
pub struct TokenBucket {
    rate: Rate,
    full_at_ns: Counter,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at_ns: Counter::new(0) }
    }

    /// Takes a token out.
    ///
    /// # Errors
    /// If there is none: nanoseconds until there is one, if nobody else takes it.
    pub fn take(&self, now_ns: u64) -> Result<(), u64> {
        let limit = now_ns.saturating_add(self.rate.ahead_ns());
        let taken = self.full_at_ns.update(|full_at| {
            (full_at <= limit).then(|| full_at.max(now_ns).saturating_add(self.rate.interval_ns))
        });
        taken.map(drop).map_err(|full_at| full_at - limit)
    }

    /// What [`TokenBucket::take`] would say.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, now_ns: u64) -> Result<(), u64> {
        let limit = now_ns.saturating_add(self.rate.ahead_ns());
        match self.full_at_ns.get().saturating_sub(limit) {
            0 => Ok(()),
            wait_ns => Err(wait_ns),
        }
    }

    /// Puts a token back that was taken.
    pub(super) fn give_back(&self) {
        let interval_ns = self.rate.interval_ns;
        let _: Result<u64, u64> = self.full_at_ns.update(|full_at| Some(full_at.saturating_sub(interval_ns)));
    }

    /// Whether it is as good as new.
    pub(super) fn is_full(&self, now_ns: u64) -> bool {
        self.full_at_ns.get() <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_every_size_stay_in_range() {
        for (requests, period) in [
            (0, Duration::ZERO),
            (1, Duration::MAX),
            (u32::MAX, Duration::from_nanos(1)),
            (u32::MAX, Duration::MAX),
        ] {
            let rate = Rate::new(requests, period).burst(u32::MAX);
            let bucket = TokenBucket::new(rate);
            for now_ns in [0, 1 << 50, u64::MAX / 2] {
                assert_eq!(bucket.take(now_ns), Ok(()));
            }
        }
        let yearly = TokenBucket::new(Rate::new(1, Duration::MAX));
        assert_eq!(yearly.take(7), Ok(()));
        assert_eq!(yearly.take(7), Err(MAX_INTERVAL_NS));
        assert_eq!(yearly.take(8), Err(MAX_INTERVAL_NS - 1));
    }

    #[test]
    fn a_token_that_is_given_back_can_be_taken_again() {
        let bucket = TokenBucket::new(Rate::per_second(1).burst(1));
        assert!(bucket.is_full(10) && bucket.take(10).is_ok() && !bucket.is_full(10));
        assert!(bucket.check(10).is_err());
        bucket.give_back();
        assert!(bucket.is_full(10) && bucket.check(10).is_ok() && bucket.take(10).is_ok());
    }

    #[test]
    fn threads_take_no_more_than_there_is() {
        let bucket = TokenBucket::new(Rate::new(1_000, Duration::from_secs(1)));
        let taken = Counter::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if bucket.take(5).is_ok() {
                            taken.add(1);
                        }
                    }
                });
            }
        });
        assert_eq!(taken.get(), 1_000);
    }
}
