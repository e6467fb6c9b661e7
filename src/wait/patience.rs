//! How long a reader sleeps on its word at a time, and when it goes over to the lifeline: by what became of its last waits.

use super::park::LOOK_EVERY_NS;

/// A reader that has slept this long on its word goes over to the lifeline, where an idle connection costs nothing.
const FUTEX_STAGE_NS: u64 = 10_000_000;
/// After a sleep that outlasted its slice, so many waits begin with one slice as long as the stage: among more busy threads
/// than cores each wait would be interrupted by the clock before it is over, for a switch in vain.
const LONG_WAITS: u32 = 32;
/// A sleeper that came back clearly later than its slice's end has waited for a core, behind other threads. While it does,
/// its timer expires in vain, mostly for one that has been woken long ago, and interrupts whoever runs; so many waits have
/// slices that outlast the queue (beside 999 busy connections on two cores: 97 % of a real-time thread's calls below 15 us
/// instead of 67 %, and twice as many calls of the others).
const CROWDED_WAITS: u32 = 64;
const CROWDED_SLICE_NS: u64 = 50_000_000;
/// After two waits in a row that went over to the lifeline, so many go there at once: a timer that is sure to expire costs
/// a switch, and whoever runs on that core an interruption. Then one tries the word again.
const LISTENING_WAITS: u32 = 8;

/// The first part of a wait, on the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    /// So many sleeps, each followed by a look at the lifeline.
    pub count: u32,
    /// The length of each in nanoseconds.
    pub each_ns: u64,
}

/// What one reader's last waits suggest for its next.
#[derive(Debug, Default)]
pub struct Patience {
    /// So many more waits are expected to be long.
    long_waits: u32,
    /// So many more waits are expected to end behind other threads.
    crowded_waits: u32,
    /// So many more waits go to the lifeline at once.
    listening_waits: u32,
    /// The last wait that began on the word went over to the lifeline.
    went_over: bool,
}

impl Patience {
    /// A wait is about to sleep: how on the word; `None`: on the lifeline at once.
    pub fn begin(&mut self) -> Option<Slices> {
        if self.listening_waits > 0 {
            self.listening_waits -= 1;
            return None;
        }
        let slices = match (self.crowded_waits, self.long_waits) {
            (0, 0) => Slices { count: (FUTEX_STAGE_NS / LOOK_EVERY_NS) as u32, each_ns: LOOK_EVERY_NS },
            (0, _) => Slices { count: 1, each_ns: FUTEX_STAGE_NS },
            _ => Slices { count: 1, each_ns: CROWDED_SLICE_NS },
        };
        self.long_waits = self.long_waits.saturating_sub(1);
        self.crowded_waits = self.crowded_waits.saturating_sub(1);
        Some(slices)
    }

    /// A slice has ended by the clock.
    pub fn outlasted_slice(&mut self) {
        self.long_waits = LONG_WAITS;
    }

    /// The thread came back clearly later than its slice's end.
    pub fn overslept(&mut self) {
        self.crowded_waits = CROWDED_WAITS;
    }

    /// The wait was over on the word.
    pub fn ended_on_word(&mut self) {
        self.went_over = false;
    }

    /// The wait goes on, on the lifeline.
    pub fn goes_over(&mut self) {
        if core::mem::replace(&mut self.went_over, true) {
            self.listening_waits = LISTENING_WAITS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Slices = Slices { count: 2, each_ns: 5_000_000 };
    const LONG: Slices = Slices { count: 1, each_ns: 10_000_000 };
    const CROWDED: Slices = Slices { count: 1, each_ns: 50_000_000 };

    /// How the next waits sleep on the word, if each is over there.
    fn next(patience: &mut Patience, waits: u32) -> Vec<Slices> {
        let mut slices: Vec<_> = (0..waits).filter_map(|_| patience.begin()).collect();
        slices.dedup();
        slices
    }

    #[test]
    fn long_waits_have_one_slice_for_a_while() {
        let mut patience = Patience::default();
        assert_eq!(next(&mut patience, 1_000), [FRESH]);
        patience.outlasted_slice();
        assert_eq!(next(&mut patience, LONG_WAITS), [LONG]);
        assert_eq!(next(&mut patience, 1), [FRESH]);
    }

    #[test]
    fn who_comes_back_late_has_slices_that_outlast_the_queue() {
        let mut patience = Patience::default();
        patience.overslept();
        assert_eq!(next(&mut patience, CROWDED_WAITS), [CROWDED]);
        assert_eq!(next(&mut patience, 1), [FRESH]);
        patience.outlasted_slice();
        patience.overslept();
        assert_eq!(next(&mut patience, CROWDED_WAITS + 1), [CROWDED, FRESH], "long waits are over meanwhile");
    }

    #[test]
    fn two_that_went_over_send_the_next_there_at_once() {
        let mut patience = Patience::default();
        patience.goes_over();
        assert_eq!(patience.begin(), Some(FRESH));
        patience.ended_on_word();
        patience.goes_over();
        assert_eq!(patience.begin(), Some(FRESH), "not in a row");
        patience.goes_over();
        for _ in 0..LISTENING_WAITS {
            assert_eq!(patience.begin(), None);
        }
        assert_eq!(patience.begin(), Some(FRESH));
        patience.goes_over();
        assert_eq!(patience.begin(), None, "it took as long again");
    }
}
