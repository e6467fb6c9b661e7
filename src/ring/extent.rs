//! [`Extent`]: how much of its area a producer has written, and how much of that is in use.

/// A producer that is in use trims at most this often.
const TRIM_EVERY_NS: u64 = 100_000_000;
/// Where the next burst soon takes again what was given back, up to so rarely: each time interrupts every core that either
/// process runs on, and each page costs both a fault when it is back.
const TRIM_AT_LEAST_EVERY_NS: u64 = 12_800_000_000;

/// What has been written of an area, as offsets, and when memory may be given back.
#[derive(Debug)]
pub(super) struct Extent {
    /// The end of what was written since the last trim.
    used: u32,
    /// The end of what was written since `since_ns`.
    reached: u32,
    since_ns: u64,
    trimmed_ns: u64,
    every_ns: u64,
}

impl Default for Extent {
    fn default() -> Self {
        Self { used: 0, reached: 0, since_ns: 0, trimmed_ns: 0, every_ns: TRIM_EVERY_NS }
    }
}

impl Extent {
    /// The end of what was written since the last trim: told of at the end of each lap, and so without the present one's.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// A lap came to an end there.
    #[inline]
    pub(super) fn wrote(&mut self, end: u32) {
        self.used = self.used.max(end);
        self.reached = self.reached.max(end);
    }

    /// Whether what was not reached for a while may be given back.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= self.every_ns
    }

    /// Says what was reached since this was last asked.
    pub(super) fn begin_again(&mut self, now_ns: u64) -> u32 {
        self.since_ns = now_ns;
        std::mem::take(&mut self.reached)
    }

    /// Everything from `end` on is given back. If as much had been not long ago, it was in vain.
    pub(super) fn cut(&mut self, end: u32, now_ns: u64) {
        let soon = now_ns.saturating_sub(self.trimmed_ns) < 8 * self.every_ns;
        self.every_ns = if soon { (2 * self.every_ns).min(TRIM_AT_LEAST_EVERY_NS) } else { TRIM_EVERY_NS };
        *self = Self { used: end, reached: 0, since_ns: now_ns, trimmed_ns: now_ns, ..*self };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const START_NS: u64 = 1 << 40;
    const KEEP: u32 = 8_000;
    const BURST: u32 = 60_000;

    /// A burst every `gap_ms` for `count` times, with a look each 10 ms: how often memory is given back.
    fn trims(extent: &mut Extent, now_ns: &mut u64, gap_ms: u64, count: u64) -> u32 {
        let mut trims = 0;
        for turn in 0..count * gap_ms / 10 {
            extent.wrote(if turn * 10 % gap_ms == 0 { BURST } else { KEEP });
            *now_ns += 10 * MS;
            if extent.is_due(*now_ns) && extent.begin_again(*now_ns).max(KEEP) < extent.used() {
                extent.cut(KEEP, *now_ns);
                trims += 1;
            }
        }
        trims
    }

    #[test]
    fn what_is_in_use_stays_and_what_a_burst_left_goes() {
        let (mut extent, mut now_ns) = (Extent::default(), START_NS);
        assert_eq!(trims(&mut extent, &mut now_ns, 50, 200), 0, "in use all the time");
        assert_eq!(trims(&mut extent, &mut now_ns, 1_000, 10), 10, "long after each burst");
        assert_eq!(extent.used(), KEEP);
    }

    #[test]
    fn what_is_soon_taken_again_is_given_back_ever_more_rarely() {
        let (mut extent, mut now_ns) = (Extent::default(), START_NS);
        let first = trims(&mut extent, &mut now_ns, 250, 400);
        assert!((1..10).contains(&first), "{first} times");
        assert_eq!(trims(&mut extent, &mut now_ns, 250, 400), 0, "in use, by now");
        // It is quiet for a while.
        assert_eq!(trims(&mut extent, &mut now_ns, 60_000, 1), 1);
        assert_eq!(trims(&mut extent, &mut now_ns, 60_000, 1), 1);
        assert_eq!(trims(&mut extent, &mut now_ns, 1_000, 1), 1, "as in the beginning");
    }
}
