//! [`Deadline`]: a point in time, computed once.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A point in time on `CLOCK_MONOTONIC`, or never.
///
/// ```
/// use ringwire::wait::Deadline;
/// use std::time::Duration;
/// assert!(!Deadline::NEVER.has_passed());
/// assert!(Deadline::after(Duration::ZERO).has_passed());
/// assert!(Deadline::after(Duration::MAX) == Deadline::NEVER);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    ns: u64,
}

impl Deadline {
    /// The deadline that does not come.
    pub const NEVER: Self = Self { ns: u64::MAX };

    /// `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Self { ns: Self::now_ns().saturating_add(timeout_ns) }
    }

    /// `timeout` from now, or never.
    #[must_use]
    pub fn after_option(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::NEVER, Self::after)
    }

    /// At `ns` nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub const fn at_ns(ns: u64) -> Self {
        Self { ns }
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`; `u64::MAX` is never.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.ns
    }

    /// The present time in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn now_ns() -> u64 {
        // The call cannot fail for this clock; 0 would only make a wait return early.
        clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
            u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000
                + u64::try_from(now.tv_nsec()).unwrap_or(0)
        })
    }

    /// Whether it has come.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.ns != u64::MAX && Self::now_ns() >= self.ns
    }

    /// What is left, zero once it has passed; `None` for never.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        (self.ns != u64::MAX).then(|| Duration::from_nanos(self.ns.saturating_sub(Self::now_ns())))
    }
}
