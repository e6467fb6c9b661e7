//! How long to spin before parking.

use std::thread;

use super::deadline::Deadline;
use super::park::LOOK_EVERY_NS;
use crate::sync::Permits;

/// The longest that the adaptive window gets, in microseconds: waking a sleeper costs 5 to 12 us, so a wait that lasts
/// longer than twice that is better slept through.
pub const MAX_SPIN_US: u64 = 20;
const MAX_SPIN_NS: u64 = MAX_SPIN_US * 1_000;
/// Polls between two looks at the clock.
const POLLS_PER_LOOK: u32 = 64;
/// A wait begins with this many polls without a pause (about 1 us): a pause costs 20 to 50 ns, a tenth of a hand-off.
const EAGER_POLLS: u32 = 1_024;
/// A wait that ended before the first look at the clock counts as this long.
const SHORT_NS: u64 = 1_000;

/// What a thread does while there is nothing to read, or no room to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Polls without end: the lowest latency (0.4 us a hand-off), at the price of a core for each waiting thread.
    SpinOnly,
    /// Polls for as long as recent waits suggest (0 to 20 us, never on more than `cores - 1` threads of the process at
    /// once), then sleeps.
    #[default]
    SpinThenPark,
    /// Sleeps at once: no processor time is spent on waiting.
    ParkAtOnce,
}

/// How a spin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// What was waited for is there.
    Ready,
    /// The window is over (or there was none): park.
    Park,
    /// Time for a look at the lifeline and the deadline; then spin on. Only from [`WaitStrategy::SpinOnly`].
    Look,
}

/// The spin policy of one waiting thread. Private to it; only the permits are shared.
#[derive(Debug)]
pub struct Spinner {
    strategy: WaitStrategy,
    /// A running mean of what recent waits took, in nanoseconds.
    recent_ns: u64,
}

fn process_permits() -> &'static Permits {
    static PERMITS: std::sync::OnceLock<Permits> = std::sync::OnceLock::new();
    PERMITS.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Permits::new(cores as u64 - 1)
    })
}

impl Spinner {
    /// A policy that follows `strategy`.
    #[must_use]
    pub fn new(strategy: WaitStrategy) -> Self {
        Self { strategy, recent_ns: MAX_SPIN_NS / 2 }
    }

    /// The strategy it follows.
    #[must_use]
    pub fn strategy(&self) -> WaitStrategy {
        self.strategy
    }

    /// Present length of the window in nanoseconds: twice the recent wait, none where that would not be enough.
    #[must_use]
    pub fn window_ns(&self) -> u64 {
        match self.strategy {
            WaitStrategy::SpinOnly => u64::MAX,
            WaitStrategy::ParkAtOnce => 0,
            WaitStrategy::SpinThenPark if self.recent_ns > MAX_SPIN_NS => 0,
            WaitStrategy::SpinThenPark => (self.recent_ns * 2).min(MAX_SPIN_NS),
        }
    }

    /// Polls `ready` for the window's length.
    #[inline]
    pub fn spin(&mut self, mut ready: impl FnMut() -> bool) -> Spin {
        match self.strategy {
            WaitStrategy::ParkAtOnce => Spin::Park,
            WaitStrategy::SpinOnly => Self::spin_until_look(&mut ready),
            WaitStrategy::SpinThenPark => self.spin_for_window(&mut ready),
        }
    }

    #[inline]
    fn spin_until_look(ready: &mut impl FnMut() -> bool) -> Spin {
        if poll_eagerly(ready) {
            return Spin::Ready;
        }
        let started_ns = Deadline::now_ns();
        loop {
            if poll_some(ready) {
                return Spin::Ready;
            }
            if Deadline::now_ns() - started_ns >= LOOK_EVERY_NS {
                return Spin::Look;
            }
        }
    }

    fn spin_for_window(&mut self, ready: &mut impl FnMut() -> bool) -> Spin {
        let window_ns = self.window_ns();
        if window_ns == 0 {
            return Spin::Park;
        }
        let Some(_permit) = process_permits().try_take() else {
            return Spin::Park;
        };
        if poll_eagerly(ready) {
            self.learn(SHORT_NS);
            return Spin::Ready;
        }
        let started_ns = Deadline::now_ns();
        let mut spent_ns = 0;
        while spent_ns < window_ns {
            if poll_some(ready) {
                self.learn(spent_ns + SHORT_NS);
                return Spin::Ready;
            }
            spent_ns = Deadline::now_ns() - started_ns;
        }
        Spin::Park
    }

    /// Takes note of a wait that began to sleep at `started_ns` (`CLOCK_MONOTONIC`) and is over.
    pub fn slept_since(&mut self, started_ns: u64) {
        if self.strategy == WaitStrategy::SpinThenPark {
            self.learn(Deadline::now_ns().saturating_sub(started_ns));
        }
    }

    /// An eighth of the new value; long waits count as four windows, so that a few short ones bring the spinning back.
    fn learn(&mut self, waited_ns: u64) {
        self.recent_ns = (self.recent_ns * 7 + waited_ns.min(4 * MAX_SPIN_NS)) / 8;
    }
}

#[inline(always)]
fn poll_eagerly(ready: &mut impl FnMut() -> bool) -> bool {
    (0..EAGER_POLLS).any(|_| ready())
}

#[inline(always)]
fn poll_some(ready: &mut impl FnMut() -> bool) -> bool {
    for _ in 0..POLLS_PER_LOOK {
        if ready() {
            return true;
        }
        core::hint::spin_loop();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_waits_close_the_window_and_short_ones_open_it() {
        let mut spinner = Spinner::new(WaitStrategy::SpinThenPark);
        assert!(spinner.window_ns() > 0);
        for _ in 0..40 {
            spinner.learn(50_000_000);
        }
        assert_eq!(spinner.window_ns(), 0);
        assert_eq!(spinner.spin(|| panic!("no window, no poll")), Spin::Park);
        for _ in 0..40 {
            spinner.learn(8_000);
        }
        spinner.slept_since(Deadline::now_ns());
        Spinner::new(WaitStrategy::ParkAtOnce).slept_since(0);
        assert!((7_000..=20_000).contains(&spinner.window_ns()), "{}", spinner.window_ns());
    }

    #[test]
    fn each_strategy_does_what_its_name_says() {
        assert_eq!(Spinner::new(WaitStrategy::ParkAtOnce).spin(|| panic!("never polls")), Spin::Park);
        assert_eq!(Spinner::new(WaitStrategy::SpinOnly).spin(|| true), Spin::Ready);
        assert_eq!(Spinner::new(WaitStrategy::SpinOnly).spin(|| false), Spin::Look);
        let mut polls = 0;
        let late = Spinner::new(WaitStrategy::SpinOnly).spin(|| {
            polls += 1;
            polls > EAGER_POLLS + 3 * POLLS_PER_LOOK
        });
        assert_eq!(late, Spin::Ready);
        let mut spinner = Spinner::new(WaitStrategy::SpinThenPark);
        let end = spinner.spin(|| false);
        assert_eq!(end, Spin::Park);
    }
}
