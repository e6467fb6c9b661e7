//! How a reader waits: it spins, sleeps on the word that will change, then on the lifeline.

use super::consumer::{Consumer, look_at_writer};
use crate::sync::{Area, Heard, Kernel, Ordering::Relaxed, Platform, RecordArea, Word, weak};
use crate::wait::{
    BusyPoll, Deadline, Habit, LOOK_EVERY_NS, Mark, Park, Patience, Slices, Spin, Spinner, Turn, WaitError,
    WaitStrategy,
};

/// After this time on the lifeline a connection rests, and gives memory back. One that is only waiting for its turn among
/// many would take it again at once (1,000 connections, windows of 16 KiB and more: a sixth of all processor time).
const REST_NS: u64 = 100_000_000;
/// Turns that a thread which keeps its core gives up between two looks at the clock, some 0.3 us each.
const YIELDS_PER_LOOK: u32 = 4;

impl<P: Platform, K: Kernel<P::Word>> Consumer<P, K> {
    /// Whether a wait has ended with [`WaitError::PeerDied`]: all further ones do, once everything is read.
    #[inline]
    #[must_use]
    pub fn writer_is_gone(&self) -> bool {
        self.writer_is_gone
    }

    /// Every wait from now on sleeps as `habit` says.
    pub fn wait_as(&mut self, habit: &'static Habit) {
        self.patience = Patience::new(habit);
    }

    /// Every wait from now on keeps the core first, as `busy_poll` says: for a thread with a real-time priority.
    pub fn keep_core(&mut self, busy_poll: BusyPoll) {
        self.busy_poll = Some(Box::new(busy_poll));
    }

    /// Waits until [`Consumer::peek`] has something to say, or an [`Interrupter`](super::Interrupter) has. `before_idling` runs once, when
    /// the wait has been on the lifeline for 100 ms, or has timed out there.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] once `deadline` has passed, [`WaitError::PeerDied`] if nothing that it committed is left.
    #[inline(never)]
    pub fn wait_readable(
        &mut self,
        spinner: &mut Spinner,
        deadline: Deadline,
        before_idling: impl FnOnce(),
    ) -> Result<(), WaitError> {
        if self.writer_is_gone {
            // Known: another spin, or a sleep on the word, would only take its time.
            return if self.is_up() { Ok(()) } else { Err(WaitError::PeerDied) };
        }
        let waited = self.spin_and_park(spinner, deadline, before_idling);
        if waited == Err(WaitError::PeerDied) {
            self.writer_is_gone = true;
        }
        waited
    }

    #[inline(always)]
    fn spin_and_park(
        &mut self,
        spinner: &mut Spinner,
        deadline: Deadline,
        before_idling: impl FnOnce(),
    ) -> Result<(), WaitError> {
        if self.kernel.take_rousing() {
            spinner.expect_late_answer();
        }
        loop {
            // Who parks at once publishes under the same fence as its mark.
            if spinner.strategy() != WaitStrategy::ParkAtOnce {
                self.publish_consumed();
            }
            let word = self.area.word(self.position as u32);
            let (area, kernel) = (&self.area, &self.kernel);
            let behind = (self.position as u32).wrapping_add(P::Area::LINE_BYTES);
            match spinner.spin(deadline, || {
                // The record's second line travels beside its first, and not after it.
                area.expect_read(behind);
                word.load(Relaxed) != 0 || kernel.is_interrupted()
            }) {
                Spin::Ready => {
                    spinner.fall_back(self.position, self.area.size());
                    return Ok(());
                }
                Spin::Park => return self.park(deadline, before_idling),
                Spin::Look => {
                    if self.look_around(deadline)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    #[inline(never)]
    fn park(&mut self, deadline: Deadline, before_idling: impl FnOnce()) -> Result<(), WaitError> {
        if self.poll_busily(deadline)? {
            return Ok(());
        }
        if self.queue() {
            self.patience.ended_in_queue();
            return Ok(());
        }
        if let Some(slices) = self.patience.begin() {
            if self.park_in_slices(slices, deadline)? {
                self.patience.ended_on_word();
                return Ok(());
            }
            self.patience.goes_over();
        }
        self.kernel.prepare_listening();
        let mut before_idling = Some(before_idling);
        loop {
            let rest = if before_idling.is_some() { Deadline::now_ns() + REST_NS } else { u64::MAX };
            let heard = self.park_on_lifeline(deadline.min(Deadline::at_ns(rest)));
            // Behind a hang-up too: the peer may have committed between our last look and its death.
            let look = heard != Heard::HungUp || !P::breaks(weak::NO_LOOK_AFTER_HANG_UP);
            if look && self.is_up() {
                return Ok(());
            }
            match heard {
                Heard::HungUp => return Err(WaitError::PeerDied),
                // Also after a bell: a peer that rings without end must not hold back the deadline.
                Heard::Nothing | Heard::Bell if deadline.has_passed() => {
                    // Nothing came for as long as the caller cared.
                    if let Some(before_idling) = before_idling.take() {
                        before_idling();
                    }
                    return Err(WaitError::TimedOut);
                }
                Heard::Nothing => {
                    if let Some(before_idling) = before_idling.take() {
                        before_idling();
                    }
                }
                Heard::Bell => {}
            }
        }
    }

    /// Where the thread keeps its core, and no other thread of that core does: says whether the wait is over.
    fn poll_busily(&mut self, deadline: Deadline) -> Result<bool, WaitError> {
        let Some(mut busy) = self.busy_poll.take() else { return Ok(false) };
        let turns = busy.turns();
        let polled = match turns.try_take() {
            Some(_permit) => self.poll_between_naps(&mut busy, deadline),
            None => Ok(false),
        };
        match polled {
            Ok(true) => busy.ended(),
            _ => busy.sleeps(),
        }
        self.busy_poll = Some(busy);
        polled
    }

    fn poll_between_naps(&mut self, busy: &mut BusyPoll, deadline: Deadline) -> Result<bool, WaitError> {
        let mut now_ns = Deadline::now_ns();
        let mut look_ns = deadline.as_ns().min(now_ns + LOOK_EVERY_NS);
        busy.begin(now_ns);
        loop {
            let is_up = match busy.next(now_ns) {
                Turn::Sleep => return Ok(false),
                Turn::Poll => {
                    busy.between_polls();
                    self.yield_to_queue(YIELDS_PER_LOOK)
                }
                Turn::Nap { until_ns } => {
                    self.park_on_commit_word(until_ns.min(deadline.as_ns()));
                    busy.napped(Deadline::now_ns());
                    self.is_up()
                }
            };
            if is_up {
                return Ok(true);
            }
            now_ns = Deadline::now_ns();
            if now_ns >= look_ns {
                if self.look_around(deadline)? {
                    return Ok(true);
                }
                look_ns = deadline.as_ns().min(now_ns + LOOK_EVERY_NS);
            }
        }
    }

    /// Gives up its turn where others of this process queue for one: says whether the wait is over.
    fn queue(&mut self) -> bool {
        let queueing = self.patience.queues();
        queueing.is_some() && self.yield_to_queue(1)
    }

    /// Gives up so many turns: says whether the wait is over.
    fn yield_to_queue(&mut self, yields: u32) -> bool {
        // Whoever is about to wait has first published everything.
        self.publish_consumed();
        (0..yields).any(|_| {
            std::thread::yield_now();
            self.is_up()
        })
    }

    /// The first part of a wait, on the word: says whether it is over.
    fn park_in_slices(&mut self, slices: Slices, deadline: Deadline) -> Result<bool, WaitError> {
        for _ in 0..slices.count {
            let started_ns = Deadline::now_ns();
            let until_ns = (started_ns + slices.each_ns).min(deadline.as_ns());
            self.park_on_commit_word(until_ns);
            if self.patience.wants_to_know() {
                // A deadline that had passed before says nothing about the queue.
                self.patience.woke(self.kernel.overslept(until_ns.max(started_ns)));
            }
            if self.is_up() {
                return Ok(true);
            }
            self.patience.outlasted_slice();
            if self.look_around(deadline)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn is_readable(&self) -> bool {
        self.area.word(self.position as u32).load(Relaxed) != 0
    }

    /// Whether the wait is over: there is something to read, or another thread of this process wants this one.
    fn is_up(&self) -> bool {
        self.is_readable() || self.kernel.is_interrupted()
    }

    /// Whether the wait is over; otherwise whether to go on with it.
    fn look_around(&self, deadline: Deadline) -> Result<bool, WaitError> {
        if self.kernel.peer_is_gone() {
            let look = !P::breaks(weak::NO_LOOK_AFTER_DEATH);
            return if look && self.is_up() { Ok(true) } else { Err(WaitError::PeerDied) };
        }
        if deadline.has_passed() {
            return if self.is_up() { Ok(true) } else { Err(WaitError::TimedOut) };
        }
        Ok(self.is_up())
    }

    fn park_on_commit_word(&mut self, until_ns: u64) {
        self.generation = self.generation.wrapping_add(8);
        let position = self.position as u32;
        let mark = Mark::on_word(if P::breaks(weak::GENERATION) { self.generation } else { position });
        self.park_under(mark, |park, between| {
            park.on_word::<P>(0, until_ns, weak::FENCE_READER_PARK, between);
        });
    }

    fn park_on_lifeline(&mut self, deadline: Deadline) -> Heard {
        let mark = Mark::on_lifeline(self.position as u32);
        self.park_under(mark, |park, between| park.on_lifeline::<P>(deadline.as_ns(), between))
    }

    /// Sleeps as `how` says, with the look at the writer, if `head` is fresh, under the fence that the mark needs anyway.
    pub(super) fn park_under<R>(
        &mut self,
        mark: Mark,
        how: impl FnOnce(Park<'_, P::Word, K>, &mut dyn FnMut()) -> R,
    ) -> R {
        let fresh = self.store_head_before_park();
        let (area, kernel, waker, head) = (&self.area, &self.kernel, &mut self.waker, self.head);
        let word = area.word(self.position as u32);
        let park = Park { kernel, parked: area.reader_parked(), mark, word };
        how(park, &mut || {
            if fresh {
                look_at_writer::<P, K>(waker, area, kernel, head);
            }
        })
    }

    /// Before it sleeps a reader publishes `head`, or a writer that needs that room would sleep too. The look at the
    /// writer follows the fence that the mark needs anyway.
    fn store_head_before_park(&mut self) -> bool {
        let fresh = self.head != self.position && !P::breaks(weak::NO_HEAD_BEFORE_PARK);
        if fresh {
            self.store_head();
        }
        fresh
    }
}
