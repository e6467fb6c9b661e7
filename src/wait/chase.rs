//! [`Chase`]: a reader that catches up with a busy writer again and again, and what it does about it.

use super::deadline::Deadline;

/// So many short waits in a row, and nothing sent: the reader chases its writer.
const CHASING: u32 = 32;
/// How far it falls back at first: some 20 to 60 messages.
const LEAST_NS: u64 = 2_000;
/// And at the most, each time twice as far, where the messages come thickly.
const MOST_NS: u64 = 8_000;
/// Thickly: a byte in 2 ns, six million messages of 64 bytes a second.
const THICK_NS_PER_BYTE: u64 = 2;
/// What comes meanwhile shall take no more than this part of the ring: the writer must not wait for room.
const RING_PART: u64 = 4;

/// Short waits of a reader, and how far it falls back because of them.
///
/// Each time a reader catches up some 2 us are lost, in which lines go back and forth (64 B one way between two distant
/// cores: 4 million/s where the reader chases, 12 where it falls back by 1 us, 15 by 2 us, 17 by 4 us, 19 by 8 us).
#[derive(Debug)]
pub(super) struct Chase {
    /// Waits of less than about 1 us, one after the other, with nothing sent in between.
    short: u32,
    /// What is sent meanwhile is seen here.
    sees_sends: bool,
    pause_ns: u64,
    /// When and where the reader last began to fall back.
    from_ns: u64,
    from_position: u64,
}

impl Chase {
    pub(super) fn new(sees_sends: bool) -> Self {
        Self { short: 0, sees_sends, pause_ns: LEAST_NS, from_ns: 0, from_position: 0 }
    }

    pub(super) fn sees_sends(&self) -> bool {
        self.sees_sends
    }

    pub(super) fn set_sees_sends(&mut self, sees_sends: bool) {
        self.sees_sends = sees_sends;
    }

    /// A short wait.
    #[inline]
    pub(super) fn caught_up(&mut self) {
        self.short = self.short.saturating_add(1);
    }

    /// A wait that was not short, or something sent.
    #[inline(always)]
    pub(super) fn ends(&mut self) {
        self.short = 0;
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.short >= CHASING && self.sees_sends
    }

    /// Lets the writer get ahead of a reader at `position`.
    #[cold]
    pub(super) fn fall_back(&mut self, position: u64, ring_bytes: u32) {
        let now_ns = Deadline::now_ns();
        self.pause_ns = self.next_pause_ns(now_ns, position, ring_bytes);
        (self.from_ns, self.from_position) = (now_ns, position);
        pause_until(now_ns + self.pause_ns);
    }

    fn next_pause_ns(&self, now_ns: u64, position: u64, ring_bytes: u32) -> u64 {
        let elapsed_ns = now_ns.saturating_sub(self.from_ns);
        let bytes = position.saturating_sub(self.from_position);
        if bytes == 0 || elapsed_ns / bytes >= THICK_NS_PER_BYTE {
            return LEAST_NS;
        }
        let part_ns = u64::from(ring_bytes) / RING_PART * elapsed_ns / bytes;
        (self.pause_ns * 2).min(part_ns).clamp(LEAST_NS, MOST_NS)
    }
}

/// Nothing but pauses: no look at anything that another core may want.
fn pause_until(until_ns: u64) {
    while Deadline::now_ns() < until_ns {
        for _ in 0..8 {
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: u32 = 64 << 10;

    /// Its next pause, `elapsed_ns` and `bytes` behind the last one of `pause_ns`.
    fn next(pause_ns: u64, elapsed_ns: u64, bytes: u64, ring_bytes: u32) -> u64 {
        let chase = Chase { pause_ns, from_ns: 1_000, from_position: 4_096, ..Chase::new(true) };
        chase.next_pause_ns(1_000 + elapsed_ns, 4_096 + bytes, ring_bytes)
    }

    #[test]
    fn where_messages_come_thickly_it_falls_back_further_each_time() {
        assert_eq!(next(2_000, 6_000, 8_000, RING), 4_000);
        assert_eq!(next(4_000, 12_000, 16_000, RING), 8_000);
        assert_eq!(next(8_000, 24_000, 32_000, RING), 8_000, "no further");
        // 2 million messages of 80 bytes a second, then nothing since the last time, then the first time of all.
        assert_eq!(next(8_000, 10_000, 1_600, RING), 2_000);
        assert_eq!(next(8_000, 10_000, 0, RING), 2_000);
        assert_eq!(Chase::new(true).next_pause_ns(u64::MAX / 2, 1 << 40, RING), 2_000);
    }

    #[test]
    fn it_leaves_the_writer_most_of_the_ring() {
        // 1.6 GB/s: a quarter of 32 KiB in 5.12 us, of 4 KiB in 0.64.
        assert_eq!(next(8_000, 10_000, 16_000, 32 << 10), 5_120);
        assert_eq!(next(8_000, 10_000, 16_000, 4 << 10), 2_000);
        // 10 GB/s, as of large messages.
        assert_eq!(next(2_000, 10_000, 100_000, RING), 2_000);
    }

    #[test]
    fn it_lasts_as_long_as_it_says() {
        let mut chase = Chase::new(true);
        let before_ns = Deadline::now_ns();
        chase.fall_back(80, RING);
        assert!(Deadline::now_ns() - before_ns >= LEAST_NS);
        assert_eq!(chase.from_position, 80);
        assert!(chase.from_ns >= before_ns);
    }
}
