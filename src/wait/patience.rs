//! How long a reader sleeps on its word at a time, and when it goes over to the lifeline: by what became of its last waits.

use super::park::LOOK_EVERY_NS;
use crate::sync::Counter;

/// After a sleep that outlasted its slice, so many waits have slices twice as long: among more busy threads than cores each
/// wait would be interrupted by the clock before it is over, for a switch in vain.
const LONG_WAITS: u32 = 32;
/// A sleeper that came back clearly later than its slice's end has waited for a core, behind other threads. While it does,
/// its timer expires in vain, mostly for one that has been woken long ago, and interrupts whoever runs; so many waits have
/// slices that outlast the queue (beside 999 busy connections on two cores: 97 % of a real-time thread's calls below 15 us
/// instead of 67 %, and twice as many calls of the others). Then one tries a usual slice.
const CROWDED_WAITS: (u32, u32) = (64, 1024);
/// Behind a slice comes the look at whether the peer is alive, so this is also how long its death can go unnoticed: half of
/// what a client may take to go on with a server that was started again.
const CROWDED_SLICE_NS: u64 = 50_000_000;
/// A timer that is the next of its core when it is set, or when it is taken back, is written to the hardware: on a virtual
/// machine some 5 us each time, as long as a whole call. One that ends behind the scheduler's tick (every 4 ms, or oftener)
/// hardly ever is. So who has to answer in microseconds sleeps this long at a time, however long its waits take.
const STEADY_SLICE_NS: u64 = 100_000_000;
/// Where one wait in four goes over to the lifeline, so many go there at once: a timer that is likely to expire costs a
/// switch, and whoever runs on that core an interruption. Then one tries the word again.
const LISTENING_WAITS: (u32, u32) = (8, 128);
/// What a wait that went over counts against those that did not, and what makes listening begin.
const WENT_OVER: u32 = 3;
const OFTEN: u32 = 5;

/// In a crowd who expects to queue anyway gives up its turn before it sleeps: the peer is in the queue as well, has its turn
/// meanwhile, and finds nobody asleep whom it would have to wake. While so many are in the queue, all others do: it costs
/// less, and who sleeps and is woken instead goes ahead of those that queue (1,000 connections on two cores, windows of 1 and
/// 16: 18 and 5 % more answers a second, p99 from 26 to 14 ms and from 28 to 19; a client beside them that calls now and then:
/// median from 50 ms to 9). Not where the queue is of other programs, which do not wait for anything: there the turn would
/// be lost, and so it takes so many readers of this process.
const CROWD: u64 = 64;
/// Readers of this process, and writers that lack room, whose waits are expected to end behind other threads.
static CROWDED_READERS: Counter = Counter::new(0);
/// Those that have given up their turns and not had the next one yet.
static QUEUEING_READERS: Counter = Counter::new(0);
/// Those that have a habit for crowds.
static GREGARIOUS_READERS: Counter = Counter::new(0);

/// The first part of a wait, on the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    /// So many sleeps, each followed by a look at the lifeline.
    pub count: u32,
    /// The length of each in nanoseconds.
    pub each_ns: u64,
}

/// So many waits that go another way before one tries the usual one: the more, the more often that was in vain.
#[derive(Debug, Default)]
struct Spell {
    left: u32,
    length: u32,
}

impl Spell {
    fn is_over(&self) -> bool {
        self.left == 0
    }

    fn count_down(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// The usual way was in vain.
    fn begin(&mut self, (first, longest): (u32, u32)) {
        self.length = (self.length * 2).clamp(first, longest);
        self.left = self.length;
    }

    /// The usual way was the right one, this time: where it mostly is not, one among many says little.
    fn shorten(&mut self) {
        self.length /= 2;
    }
}

/// What a reader waits for, and so how it sleeps on its word unless its last waits suggest otherwise.
#[derive(Debug)]
pub struct Habit {
    fresh: Slices,
    /// After a sleep that outlasted its slice.
    long: Slices,
    /// Otherwise every wait is like the others: nothing is learnt from any.
    learns: bool,
    /// What takes its place where a crowd of this process's readers has this habit.
    in_a_crowd: Option<&'static Habit>,
}

impl Habit {
    /// Whatever may come. Who has slept for 10 ms goes over to the lifeline, where an idle connection costs nothing.
    pub const USUAL: Self = Self {
        fresh: Slices { count: 2, each_ns: LOOK_EVERY_NS },
        long: Slices { count: 1, each_ns: 2 * LOOK_EVERY_NS },
        learns: true,
        in_a_crowd: None,
    };
    /// Requests: four times as long. Who asks waits for it, and to be woken through the lifeline takes three system calls
    /// more, in caches that have forgotten them (a call after 20 ms, on a virtual machine: 160 us instead of 110). Not in a
    /// crowd, where more waits would end by the clock (1,000 connections, 16 requests under way on each: 15 % fewer answers).
    pub const SERVING: Self = Self {
        fresh: Slices { count: 8, each_ns: LOOK_EVERY_NS },
        long: Slices { count: 4, each_ns: 2 * LOOK_EVERY_NS },
        learns: true,
        in_a_crowd: Some(&Self::USUAL),
    };
    /// Requests that are to be answered in microseconds whenever they come: one slice of 100 ms, without a look at the clock
    /// behind it.
    pub const STEADY: Self = Self {
        fresh: Slices { count: 1, each_ns: STEADY_SLICE_NS },
        long: Slices { count: 1, each_ns: STEADY_SLICE_NS },
        learns: false,
        in_a_crowd: None,
    };

    fn here(&'static self) -> &'static Self {
        self.in_a_crowd.filter(|_| GREGARIOUS_READERS.get() >= CROWD).unwrap_or(self)
    }
}

/// What one reader's last waits suggest for its next.
#[derive(Debug)]
pub struct Patience {
    habit: &'static Habit,
    /// So many more waits are expected to be long.
    long_waits: u32,
    /// These are expected to end behind other threads.
    crowded: Spell,
    /// These go to the lifeline at once.
    listening: Spell,
    /// How often waits that began on the word went over to the lifeline of late.
    went_over: u32,
}

impl Patience {
    /// Of a reader with this habit.
    #[must_use]
    pub fn new(habit: &'static Habit) -> Self {
        if habit.in_a_crowd.is_some() {
            GREGARIOUS_READERS.add(1);
        }
        Self { habit, long_waits: 0, crowded: Spell::default(), listening: Spell::default(), went_over: 0 }
    }

    /// Whether it is to be told of [`woke`](Self::woke), for which the clock has to be looked at.
    #[must_use]
    pub fn wants_to_know(&self) -> bool {
        self.habit.learns
    }

    /// Whether a wait gives up its turn before it sleeps. Until what this returns is dropped, it counts among those that
    /// queue.
    #[must_use]
    pub fn queues(&self) -> Option<Queueing> {
        let expects_to = !self.crowded.is_over() && CROWDED_READERS.get() >= CROWD;
        let queues = self.habit.learns && (expects_to || QUEUEING_READERS.get() >= CROWD);
        queues.then(Queueing::new)
    }

    /// A wait is about to sleep: how on the word; `None`: on the lifeline at once.
    pub fn begin(&mut self) -> Option<Slices> {
        if !self.listening.is_over() {
            self.listening.count_down();
            return None;
        }
        let slices = match (self.crowded.is_over(), self.long_waits) {
            (true, 0) => self.habit.here().fresh,
            (true, _) => self.habit.here().long,
            (false, _) => Slices { count: 1, each_ns: CROWDED_SLICE_NS },
        };
        self.count_down();
        Some(slices)
    }

    /// One wait less that goes another way than the usual one.
    fn count_down(&mut self) {
        self.long_waits = self.long_waits.saturating_sub(1);
        if !self.crowded.is_over() {
            self.crowded.count_down();
            if self.crowded.is_over() {
                CROWDED_READERS.subtract(1);
            }
        }
    }

    /// The thread is back from a slice, clearly later than at its end or not.
    pub fn woke(&mut self, late: bool) {
        match (self.crowded.is_over(), late) {
            (true, true) => {
                self.crowded.begin(CROWDED_WAITS);
                CROWDED_READERS.add(1);
            }
            (true, false) => self.crowded.shorten(),
            // Slices that outlast the queue say nothing about its length.
            (false, _) => {}
        }
    }

    /// A slice has ended by the clock.
    pub fn outlasted_slice(&mut self) {
        self.long_waits = LONG_WAITS;
    }

    /// The wait was over when the next turn came.
    pub fn ended_in_queue(&mut self) {
        self.count_down();
        self.ended_on_word();
    }

    /// The wait was over on the word.
    pub fn ended_on_word(&mut self) {
        self.went_over = self.went_over.saturating_sub(1);
        if self.went_over == 0 {
            self.listening.shorten();
        }
    }

    /// The wait goes on, on the lifeline.
    pub fn goes_over(&mut self) {
        if !self.habit.learns {
            return;
        }
        self.went_over = (self.went_over + WENT_OVER).min(OFTEN + WENT_OVER);
        if self.went_over >= OFTEN {
            self.listening.begin(LISTENING_WAITS);
        }
    }
}

/// A reader that has given up its turn.
#[derive(Debug)]
pub struct Queueing(());

impl Queueing {
    fn new() -> Self {
        QUEUEING_READERS.add(1);
        Self(())
    }
}

impl Drop for Queueing {
    fn drop(&mut self) {
        QUEUEING_READERS.subtract(1);
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new(&Habit::USUAL)
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if !self.crowded.is_over() {
            CROWDED_READERS.subtract(1);
        }
        if self.habit.in_a_crowd.is_some() {
            GREGARIOUS_READERS.subtract(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Slices = Slices { count: 2, each_ns: 5_000_000 };
    const LONG: Slices = Slices { count: 1, each_ns: 10_000_000 };
    const CROWDED: Slices = Slices { count: 1, each_ns: 50_000_000 };

    /// How many of the next waits sleep like this in a row, if each is over in time and on the word.
    fn next(patience: &mut Patience, expected: Option<Slices>) -> u32 {
        let mut count = 0;
        while patience.begin() == expected {
            count += 1;
            assert!(count < 10_000, "for ever");
        }
        count
    }

    #[test]
    fn long_waits_have_one_slice_for_a_while() {
        let mut patience = Patience::default();
        assert_eq!((patience.begin(), patience.begin()), (Some(FRESH), Some(FRESH)));
        patience.outlasted_slice();
        assert_eq!(next(&mut patience, Some(LONG)), LONG_WAITS);
        assert_eq!(patience.begin(), Some(FRESH));
    }

    #[test]
    fn who_comes_back_late_has_slices_that_outlast_the_queue() {
        let mut patience = Patience::default();
        patience.woke(true);
        patience.outlasted_slice();
        assert_eq!(patience.begin(), Some(CROWDED));
        patience.woke(true);
        patience.woke(false);
        assert_eq!(next(&mut patience, Some(CROWDED)), 63, "the queue's length is unknown meanwhile");
        // That one was late again.
        for expected in [128, 256, 512, 1024, 1024] {
            patience.woke(true);
            assert_eq!(next(&mut patience, Some(CROWDED)), expected);
        }
        patience.woke(false);
        patience.woke(true);
        assert_eq!(next(&mut patience, Some(CROWDED)), 1024, "one in time says little");
        (0..5).for_each(|_| patience.woke(false));
        patience.woke(true);
        assert_eq!(next(&mut patience, Some(CROWDED)), 64, "the queue had gone meanwhile");
    }

    #[test]
    fn a_crowd_of_this_process_gives_up_its_turns_and_none_of_others_does() {
        let mut crowd: Vec<_> = (0..CROWD).map(|_| Patience::default()).collect();
        // Another test may have one reader more.
        for patience in &mut crowd[2..] {
            patience.woke(true);
            assert!(patience.queues().is_none());
        }
        for patience in &mut crowd[..2] {
            patience.woke(true);
        }
        let (other, steady) = (Patience::default(), Patience::new(&Habit::STEADY));
        assert!(other.queues().is_none(), "only those that expect to queue, at first");
        let mut queue: Vec<_> = crowd.iter().filter_map(Patience::queues).collect();
        assert_eq!(queue.len() as u64, CROWD);
        assert!(other.queues().is_some() && steady.queues().is_none());
        queue.pop();
        assert!(other.queues().is_none(), "the queue is shorter");
        drop(queue);
        crowd.truncate(CROWD as usize - 2);
        assert!(crowd[5].queues().is_none(), "the others have gone");
        // However their waits end, they no longer expect to queue some time.
        for (turn, patience) in crowd.iter_mut().enumerate() {
            while !patience.crowded.is_over() {
                if turn % 2 == 0 {
                    patience.ended_in_queue();
                } else {
                    assert_eq!(patience.begin(), Some(CROWDED));
                }
            }
        }
        assert!(CROWDED_READERS.get() <= 1);
    }

    #[test]
    fn who_serves_stays_four_times_as_long_on_the_word() {
        let stage_ns = |slices: Slices| u64::from(slices.count) * slices.each_ns;
        let (mut serves, mut other) = (Patience::new(&Habit::SERVING), Patience::default());
        assert!(serves.wants_to_know());
        let crowd: Vec<_> = (1..CROWD).map(|_| Patience::new(&Habit::SERVING)).collect();
        assert_eq!(serves.begin(), Some(FRESH), "in a crowd");
        drop(crowd);
        for _ in 0..2 {
            let [longer, usual] = [&mut serves, &mut other].map(|patience| patience.begin().unwrap());
            assert_eq!((stage_ns(longer), longer.each_ns), (4 * stage_ns(usual), usual.each_ns));
            serves.outlasted_slice();
            other.outlasted_slice();
        }
    }

    #[test]
    fn steady_waits_stay_as_they_are() {
        const STEADY: Slices = Slices { count: 1, each_ns: 100_000_000 };
        let mut patience = Patience::new(&Habit::STEADY);
        assert!(!patience.wants_to_know() && Patience::default().wants_to_know());
        for _ in 0..100 {
            assert_eq!(patience.begin(), Some(STEADY));
            patience.outlasted_slice();
            patience.goes_over();
            assert_eq!(patience.begin(), Some(STEADY));
            patience.ended_on_word();
        }
    }

    #[test]
    fn waits_that_often_go_over_go_there_at_once() {
        let mut patience = Patience::default();
        patience.goes_over();
        assert_eq!(patience.begin(), Some(FRESH));
        patience.ended_on_word();
        patience.ended_on_word();
        patience.goes_over();
        assert_eq!(patience.begin(), Some(FRESH), "too long ago");
        for expected in [8, 16, 32, 64, 128, 128] {
            patience.goes_over();
            assert_eq!(next(&mut patience, None), expected);
            patience.ended_on_word();
            assert_eq!(patience.begin(), Some(FRESH), "it has tried, and tries on until it is in vain");
        }
        (0..40).for_each(|_| patience.ended_on_word());
        patience.goes_over();
        assert_eq!(patience.begin(), Some(FRESH));
        patience.goes_over();
        assert_eq!(next(&mut patience, None), 8);
    }
}
