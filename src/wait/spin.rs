//! How long to spin before parking.

use nix::unistd::{SysconfVar, sysconf};

use super::chase::Chase;
use super::deadline::Deadline;
use super::park::LOOK_EVERY_NS;
use crate::sync::Permits;

/// How long the adaptive window is at first: waking a sleeper costs 5 to 12 us, so a wait that lasts longer than twice that
/// is better slept through.
const FIRST_SPIN_NS: u64 = 20_000;
const MIN_SPIN_NS: u64 = 2_000;
/// How long a spin after parked waits lasts at the most.
const PROBE_NS: u64 = 100_000;
/// And one for a peer that was just woken from a long sleep: its core has been halted so long that it takes 95 to 160 us to
/// come on a virtual machine, and who sleeps meanwhile has to be woken as well.
const ROUSING_NS: u64 = 300_000;
/// At the worst one wait in 128 probes in vain: 0.8 us a wait.
const MAX_IN_VAIN: u32 = 7;
/// Polls between two looks at the clock.
const POLLS_PER_LOOK: u32 = 64;
/// A wait begins with this many polls without a pause (about 1 us): a pause costs 20 to 50 ns, a tenth of a hand-off.
const EAGER_POLLS: u32 = 1_024;
/// A wait that ended before the first look at the clock counts as this long.
const SHORT_NS: u64 = 1_000;
/// The first lets the peer answer; after the second it is clear that it does not run.
const YIELDS: u32 = 2;

/// What a thread does while there is nothing to read, or no room to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Polls without end: the lowest latency (0.4 us a hand-off), at the price of a core for each waiting thread.
    SpinOnly,
    /// Polls for as long as recent waits suggest (some microseconds; up to 100 after parked waits, and 300 for a peer that was
    /// just woken from a long sleep), never on more than `cores - 1` threads of the process at once and ever more rarely
    /// where that does not pay; then sleeps.
    ///
    /// A [`Stream`](crate::Stream) that only receives, and catches up with its sender 32 times in a row, lets it get ahead
    /// by 2 us, and by up to 8 us where more than 0.5 GB/s comes: several times the messages a second, for that much
    /// latency.
    #[default]
    SpinThenPark,
    /// Sleeps at once: no processor time is spent on waiting. (Where more threads queue for the cores than can run within
    /// some milliseconds, each gives up its turn once before it sleeps.)
    ParkAtOnce,
    /// Yields the core to other threads of the same priority, twice, then sleeps.
    ///
    /// For two real-time threads of one priority on one core, as in the [latency class](crate::transport::enter_latency_class):
    /// the peer runs at once, and finds nobody asleep whom it would have to wake when it answers. Elsewhere it only costs
    /// time: without a real-time priority all other threads of the core take their turn first.
    YieldThenPark,
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
///
/// A spin that ends in vain has cost its whole window, and perhaps the core that the peer needed: after `n` of them in a
/// row the next `2^n - 1` waits park at once. A spin that pays starts the count anew. What a sleep took says nothing: on
/// a busy core it ends early, and a spin would still have been in vain.
///
/// Where both sides have come to park, each answer takes a wake-up, on some machines 40 us and more. So the spin after
/// parked waits is a probe that outlasts one, and what pays is allowed that long until the peer spins too.
#[derive(Debug)]
pub struct Spinner {
    strategy: WaitStrategy,
    /// A running mean of what successful spins took, in nanoseconds.
    recent_ns: u64,
    usual: Tries,
    /// Of the long spins, for a peer that was just woken from a long sleep.
    late: Tries,
    /// The next spin may be such a one.
    rousing: bool,
    chase: Chase,
}

/// Whether a spin is worth a try: the more of them were in vain, the fewer are made.
#[derive(Debug, Default)]
struct Tries {
    /// Spins in vain, one after the other.
    in_vain: u32,
    /// Waits without a spin before the next.
    skip: u32,
}

impl Tries {
    /// Whether this wait has one.
    fn is_due(&mut self) -> bool {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    fn paid(&mut self) {
        self.in_vain = 0;
    }

    fn failed(&mut self) {
        self.in_vain = (self.in_vain + 1).min(MAX_IN_VAIN);
        self.skip = (1 << self.in_vain) - 1;
    }
}

/// The machine's cores, not those that this process is bound to: a process on a core of its own spins well, for a peer on
/// another.
#[must_use]
pub fn online_cores() -> u64 {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    online.and_then(|cores| u64::try_from(cores).ok()).unwrap_or(1)
}

fn process_permits() -> &'static Permits {
    static PERMITS: std::sync::OnceLock<Permits> = std::sync::OnceLock::new();
    PERMITS.get_or_init(|| Permits::new(online_cores().saturating_sub(1)))
}

impl Spinner {
    /// A policy that follows `strategy`.
    #[must_use]
    pub fn new(strategy: WaitStrategy) -> Self {
        let (usual, late, chase) = (Tries::default(), Tries::default(), Chase::new(false));
        Self { strategy, recent_ns: FIRST_SPIN_NS / 4, usual, late, rousing: false, chase }
    }

    /// The same with another strategy.
    #[must_use]
    pub fn with_strategy(&self, strategy: WaitStrategy) -> Self {
        Self { chase: Chase::new(self.chase.sees_sends()), ..Self::new(strategy) }
    }

    /// Says whether [`Spinner::expect_answer`] will be called whenever this side sends.
    pub fn sees_sends(&mut self, sees_sends: bool) {
        self.chase.set_sees_sends(sees_sends);
    }

    /// The strategy it follows.
    #[must_use]
    pub fn strategy(&self) -> WaitStrategy {
        self.strategy
    }

    /// Length of the next spin in nanoseconds: some times what recent ones took, or long enough for a wake-up.
    fn window_ns(&self) -> u64 {
        if self.usual.in_vain > 0 { PROBE_NS } else { (self.recent_ns * 4).clamp(MIN_SPIN_NS, PROBE_NS) }
    }

    /// Polls `ready` for the window's length; where that has no end, until `deadline` or the next look at the latest.
    #[inline]
    pub fn spin(&mut self, deadline: Deadline, mut ready: impl FnMut() -> bool) -> Spin {
        match self.strategy {
            WaitStrategy::ParkAtOnce => Spin::Park,
            WaitStrategy::YieldThenPark => Self::yield_to_equals(&mut ready),
            WaitStrategy::SpinOnly => Self::spin_until_look(deadline, &mut ready),
            WaitStrategy::SpinThenPark => self.spin_for_window(&mut ready),
        }
    }

    /// This side has sent something: what comes next may be its answer, and is wanted at once.
    #[inline(always)]
    pub fn expect_answer(&mut self) {
        self.chase.ends();
    }

    /// The peer has just been woken from a long sleep: the next spin outlasts that, unless such spins have been in vain. The
    /// usual ones say nothing about it, nor it about them.
    #[cold]
    pub fn expect_late_answer(&mut self) {
        self.rousing = true;
    }

    /// After a spin that paid, by [`WaitStrategy::SpinThenPark`]: a reader that has caught up with a busy writer again and
    /// again takes from it, with each poll, the very line that it is about to write. It lets it get ahead by some messages,
    /// which then arrive at the speed of a copy. `position` is the reader's.
    #[inline]
    pub fn fall_back(&mut self, position: u64, ring_bytes: u32) {
        if self.chase.is_on() {
            self.chase.fall_back(position, ring_bytes);
        }
    }

    #[inline]
    fn spin_until_look(deadline: Deadline, ready: &mut impl FnMut() -> bool) -> Spin {
        if poll_eagerly(ready) {
            return Spin::Ready;
        }
        let until_ns = (Deadline::now_ns() + LOOK_EVERY_NS).min(deadline.as_ns());
        loop {
            if poll_some(ready) {
                return Spin::Ready;
            }
            if Deadline::now_ns() >= until_ns {
                return Spin::Look;
            }
        }
    }

    fn yield_to_equals(ready: &mut impl FnMut() -> bool) -> Spin {
        let found = ready()
            || (0..YIELDS).any(|_| {
                std::thread::yield_now();
                ready()
            });
        if found { Spin::Ready } else { Spin::Park }
    }

    fn spin_for_window(&mut self, ready: &mut impl FnMut() -> bool) -> Spin {
        let rousing = std::mem::take(&mut self.rousing) && self.late.is_due();
        if !rousing && !self.usual.is_due() {
            return Spin::Park;
        }
        let Some(_permit) = process_permits().try_take() else {
            return Spin::Park;
        };
        if poll_eagerly(ready) {
            self.chase.caught_up();
            self.succeeded(SHORT_NS);
            return Spin::Ready;
        }
        self.chase.ends();
        let window_ns = if rousing { ROUSING_NS } else { self.window_ns() };
        let started_ns = Deadline::now_ns();
        let mut spent_ns = 0;
        while spent_ns < window_ns {
            if poll_some(ready) {
                if rousing {
                    self.late.paid();
                } else {
                    self.succeeded(spent_ns + SHORT_NS);
                }
                return Spin::Ready;
            }
            spent_ns = Deadline::now_ns().saturating_sub(started_ns);
        }
        if rousing {
            self.late.failed();
        } else {
            self.usual.failed();
        }
        Spin::Park
    }

    fn succeeded(&mut self, spent_ns: u64) {
        self.recent_ns = if self.usual.in_vain > 0 { spent_ns } else { (self.recent_ns * 7 + spent_ns) / 8 };
        self.usual.paid();
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

    /// Spins until one fails or pays, and says how many waits parked at once before it.
    fn parked_before_next_spin(spinner: &mut Spinner, pays: bool) -> u32 {
        for parked in 0.. {
            let mut polled = false;
            let end = spinner.spin(Deadline::NEVER, || {
                polled = true;
                pays
            });
            // Another test may have the only permit.
            if polled {
                assert_eq!(end, if pays { Spin::Ready } else { Spin::Park });
                return parked;
            }
            std::thread::yield_now();
        }
        unreachable!()
    }

    #[test]
    fn spins_in_vain_get_rarer_and_one_that_pays_brings_them_back() {
        let mut spinner = Spinner::new(WaitStrategy::SpinThenPark);
        for expected in [0, 1, 3, 7, 15, 31, 63, 127, 127] {
            assert!(parked_before_next_spin(&mut spinner, false) >= expected);
            assert_eq!(spinner.window_ns(), PROBE_NS);
        }
        parked_before_next_spin(&mut spinner, true);
        assert_eq!(spinner.usual.skip, 0);
        for _ in 0..40 {
            parked_before_next_spin(&mut spinner, true);
        }
        assert!((MIN_SPIN_NS..FIRST_SPIN_NS).contains(&spinner.window_ns()));
    }

    #[test]
    fn an_answer_that_will_be_late_is_spun_for_whatever_the_last_spins_brought() {
        let mut spinner = Spinner::new(WaitStrategy::SpinThenPark);
        for _ in 0..8 {
            parked_before_next_spin(&mut spinner, false);
        }
        let (skip, in_vain) = (spinner.usual.skip, spinner.usual.in_vain);
        assert_eq!(skip, 127);
        let started_ns = Deadline::now_ns();
        let mut polled = false;
        // Another test may have the only permit.
        while !polled {
            spinner.expect_late_answer();
            let end = spinner.spin(Deadline::NEVER, || {
                polled = true;
                false
            });
            assert_eq!(end, Spin::Park);
        }
        assert!(Deadline::now_ns() - started_ns >= ROUSING_NS);
        assert_eq!(
            (spinner.usual.skip, spinner.usual.in_vain),
            (skip, in_vain),
            "it says nothing about others"
        );
        assert_eq!(spinner.late.skip, 1);
        spinner.expect_late_answer();
        assert_eq!(spinner.spin(Deadline::NEVER, || panic!("in vain, it gets rarer itself")), Spin::Park);
        assert_eq!(spinner.spin(Deadline::NEVER, || panic!("once only")), Spin::Park);
    }

    #[test]
    fn who_only_receives_and_catches_up_again_and_again_falls_back() {
        let chase = |spinner: &mut Spinner, times| {
            for _ in 0..times {
                parked_before_next_spin(spinner, true);
            }
        };
        let mut spinner = Spinner::new(WaitStrategy::SpinThenPark);
        chase(&mut spinner, 32);
        assert!(!spinner.chase.is_on(), "what is sent is not seen here");
        spinner.sees_sends(true);
        assert!(spinner.chase.is_on());
        spinner.fall_back(80, 4_096);
        spinner.expect_answer();
        assert!(!spinner.chase.is_on());
        chase(&mut spinner, 31);
        assert!(!spinner.chase.is_on());
        chase(&mut spinner, 1);
        assert!(spinner.chase.is_on());
        parked_before_next_spin(&mut spinner, false);
        assert!(!spinner.chase.is_on(), "a wait that took longer ends the chase");
        spinner = spinner.with_strategy(WaitStrategy::SpinOnly);
        chase(&mut spinner, 64);
        assert!(!spinner.chase.is_on(), "the lowest latency");
    }

    #[test]
    fn each_strategy_does_what_its_name_says() {
        let never = Deadline::NEVER;
        let parks = Spinner::new(WaitStrategy::ParkAtOnce).spin(never, || panic!("never polls"));
        assert_eq!(parks, Spin::Park);
        assert_eq!(Spinner::new(WaitStrategy::SpinOnly).spin(never, || true), Spin::Ready);
        assert_eq!(Spinner::new(WaitStrategy::SpinOnly).spin(never, || false), Spin::Look);
        let mut polls = 0;
        let late = Spinner::new(WaitStrategy::SpinOnly).spin(never, || {
            polls += 1;
            polls > EAGER_POLLS + 3 * POLLS_PER_LOOK
        });
        assert_eq!(late, Spin::Ready);
        polls = 0;
        let yields = Spinner::new(WaitStrategy::YieldThenPark).spin(never, || {
            polls += 1;
            false
        });
        assert_eq!((yields, polls), (Spin::Park, 1 + YIELDS));
        assert_eq!(Spinner::new(WaitStrategy::YieldThenPark).spin(never, || true), Spin::Ready);
        polls = 0;
        let passed = Spinner::new(WaitStrategy::SpinOnly).spin(Deadline::at_ns(1), || {
            polls += 1;
            false
        });
        assert_eq!(
            (passed, polls),
            (Spin::Look, EAGER_POLLS + POLLS_PER_LOOK),
            "no longer than to the deadline"
        );
        let mut spinner = Spinner::new(WaitStrategy::SpinThenPark);
        let end = spinner.spin(never, || false);
        assert_eq!(end, Spin::Park);
    }
}
