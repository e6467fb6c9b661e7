//! [`ClientPoolMetrics`]: the figures of a pool at one moment.

use std::fmt;
use std::time::Duration;

/// The last bucket holds whatever took longer than the one before: 2^38 us are three days.
const BUCKETS: usize = 40;

/// The figures of a [`ClientPool`](super::ClientPool) at one moment: all of one instant, so they add up.
///
/// `size == idle + in_use + checking`; `created == size + closed.total()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientPoolMetrics {
    /// Connections that are open.
    pub size: usize,
    /// Open, and lent to nobody.
    pub idle: usize,
    /// Lent.
    pub in_use: usize,
    /// Being checked by [`maintain`](super::ClientPool::maintain).
    pub checking: usize,
    /// Being opened; not yet part of the size, but of what [`max`](super::ClientPoolBuilder::max_connections) limits.
    pub opening: usize,
    /// Callers in the queue.
    pub waiting: usize,
    /// Connections lent so far.
    pub acquired: u64,
    /// Of these, those whose caller had to wait, for another caller or for a new connection, by how long.
    pub wait_times: WaitTimes,
    /// Callers that have left the queue with [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub timed_out: u64,
    /// Callers that a [full queue](super::ClientPoolBuilder::max_waiting) has turned away.
    pub refused: u64,
    /// Connections opened so far.
    pub created: u64,
    /// Attempts to open one that failed.
    pub failed: u64,
    /// Connections closed so far, by why.
    pub closed: ClosedConnections,
}

/// Connections that a pool has closed, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosedConnections {
    /// Nobody needed them for the [idle timeout](super::ClientPoolBuilder::idle_timeout).
    pub idle: u64,
    /// They had reached their [lifetime](super::ClientPoolBuilder::max_lifetime).
    pub expired: u64,
    /// The server was gone, had said goodbye, or did not answer a ping.
    pub broken: u64,
    /// Given back in the middle of something: an answer outstanding, a stream open.
    pub unsettled: u64,
    /// Taken out by [`PooledClient::discard`](super::PooledClient::discard) or
    /// [`detach`](super::PooledClient::detach).
    pub taken_out: u64,
    /// The pool itself was closed.
    pub shut: u64,
}

impl ClosedConnections {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.idle + self.expired + self.broken + self.unsettled + self.taken_out + self.shut
    }
}

/// How long callers waited, in buckets that double: the first is below 1 us, the next below 2 us, then 4 us, ...
#[derive(Clone, PartialEq, Eq)]
pub struct WaitTimes {
    buckets: [u64; BUCKETS],
    longest: Duration,
}

impl WaitTimes {
    pub(super) fn add(&mut self, waited: Duration) {
        let us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - us.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.longest = self.longest.max(waited);
    }

    /// How many waited.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The longest that one waited.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// Each bucket that counted something: the time that its waits stayed below, and how many there were.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let counted = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, count)| (Duration::from_micros(1 << bucket), *count))
    }

    /// A time that at least this share of the waits (0.99, say) stayed below: the upper end of a bucket, so up to twice the
    /// true value. Zero if nobody waited.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let count = self.count();
        let mut seen = 0;
        for (below, bucket) in self.buckets() {
            seen += bucket;
            if seen as f64 >= share * count as f64 {
                return below;
            }
        }
        Duration::ZERO
    }
}

impl Default for WaitTimes {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], longest: Duration::ZERO }
    }
}

impl fmt::Debug for WaitTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_lands_in_the_bucket_whose_bounds_hold_it() {
        let mut times = WaitTimes::default();
        for (waited_us, below_us) in [(0, 1), (1, 2), (2, 4), (3, 4), (4, 8), (1_000, 1_024), (1_024, 2_048)]
        {
            let mut one = WaitTimes::default();
            one.add(Duration::from_micros(waited_us));
            assert_eq!(one.buckets().collect::<Vec<_>>(), [(Duration::from_micros(below_us), 1)]);
            times.add(Duration::from_micros(waited_us));
        }
        times.add(Duration::MAX);
        assert_eq!((times.count(), times.longest()), (8, Duration::MAX));
    }

    #[test]
    fn a_quantile_is_the_bound_of_the_bucket_that_reaches_it() {
        let mut times = WaitTimes::default();
        assert_eq!(times.quantile(0.5), Duration::ZERO);
        for _ in 0..99 {
            times.add(Duration::from_micros(3));
        }
        times.add(Duration::from_millis(1));
        assert_eq!(times.quantile(0.99), Duration::from_micros(4));
        assert_eq!(times.quantile(1.0), Duration::from_micros(1_024));
    }
}
