//! [`Rousing`]: whether the peer has been woken from a long sleep, so that its answer will be late.

use crate::sync::Counter;

/// A peer that was not woken for this long is taken to have slept so long. (At most once in this time somebody spins for it.)
const LONG_SLEEP_NS: u64 = 10_000_000;

/// Shared by a connection's two halves: one wakes the peer, the other waits for its answer. Two threads that have a half
/// each may miss one, or spin once in vain.
#[derive(Debug, Default)]
pub(super) struct Rousing {
    /// When the peer was last woken.
    woken_ns: Counter,
    /// More than none: from a long sleep, and nothing has been waited for since.
    roused: Counter,
}

impl Rousing {
    /// The peer is about to be woken.
    #[cold]
    pub(super) fn note(&self, now_ns: u64) {
        if now_ns.saturating_sub(self.woken_ns.get()) >= LONG_SLEEP_NS {
            self.roused.set(1);
        }
        self.woken_ns.set(now_ns);
    }

    /// Whether it was woken from a long sleep since this was last asked.
    #[inline(always)]
    pub(super) fn take(&self) -> bool {
        let roused = self.roused.get() > 0;
        if roused {
            self.roused.set(0);
        }
        roused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_slept_for_long_is_roused_once() {
        let rousing = Rousing::default();
        assert!(!rousing.take());
        rousing.note(LONG_SLEEP_NS);
        assert!(rousing.take() && !rousing.take());
        rousing.note(2 * LONG_SLEEP_NS - 1);
        assert!(!rousing.take(), "too soon");
        rousing.note(3 * LONG_SLEEP_NS - 1);
        rousing.note(3 * LONG_SLEEP_NS);
        assert!(rousing.take() && !rousing.take());
    }
}
