//! The pool's clock: what is idle, and what is old, need not be known to the microsecond.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time of the kernel's last tick, 1 to 10 ms ago at the most, in nanoseconds of `CLOCK_MONOTONIC`: read without
/// asking the hardware, at a fraction of the price.
#[inline]
pub(super) fn now_ns() -> u64 {
    // The call cannot fail for this clock; 0 would only make everything look fresh.
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |now| {
        u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
    })
}

pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// As [`ns`]; never is the end of time.
pub(super) fn ns_or_never(duration: Option<Duration>) -> u64 {
    duration.map_or(u64::MAX, ns)
}
