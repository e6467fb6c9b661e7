//! How a [`Receiver`] waits, and what it is told about that.

use std::time::Duration;

use super::latency::CorePoller;
use super::receiver::Receiver;
use crate::error::Error;
use crate::wait::{BusyPoll, Deadline, Habit, WaitError, WaitStrategy};

impl Receiver {
    /// What this half does while it waits.
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.spinner = self.spinner.with_strategy(strategy);
    }

    /// For a thread that waits for requests.
    pub(crate) fn wait_for_requests(&mut self) {
        self.consumer.wait_as(&Habit::SERVING);
    }

    /// For one with a real-time priority: the setting and taking back of short timers would take as long as an answer. In
    /// exchange it sees a peer's death within 100 ms instead of 10.
    pub(crate) fn wait_steadily(&mut self) {
        self.consumer.wait_as(&Habit::STEADY);
    }

    /// For the same: keeps its core for `window` behind each message, while none of `poller`'s other threads does, and does
    /// `between_polls` meanwhile.
    pub(crate) fn keep_core(
        &mut self,
        window: Duration,
        poller: &CorePoller,
        between_polls: Box<dyn FnMut() + Send + Sync>,
    ) {
        self.consumer.keep_core(BusyPoll::new(window, poller.permits(), between_polls));
    }

    /// Whether the other half will say when it sends.
    pub(super) fn sees_sends(&mut self, sees_sends: bool) {
        self.spinner.sees_sends(sees_sends);
    }

    /// The other half sends something that the next message may answer.
    #[inline(always)]
    pub(crate) fn expect_answer(&mut self) {
        self.spinner.expect_answer();
    }

    /// Waits for the next record, or for less: poll again afterwards.
    pub(super) fn wait_until(
        &mut self,
        deadline: Deadline,
        before_idling: impl FnOnce(),
    ) -> Result<(), Error> {
        // Not for this wait, but left raised it would end every one.
        let _ = self.kernel().take_interruption();
        self.wait(&mut Some(deadline), before_idling)
    }

    pub(super) fn wait(
        &mut self,
        deadline: &mut Option<Deadline>,
        before_idling: impl FnOnce(),
    ) -> Result<(), Error> {
        // A death that a wait has seen stays what it ended with, also for who waits again to hear of it.
        if deadline.is_some() && !self.consumer.writer_is_gone() {
            self.check_time(deadline)?;
        }
        let deadline = *deadline.get_or_insert_with(|| Deadline::after_option(self.timeout));
        let waited = self.consumer.wait_readable(&mut self.spinner, deadline, before_idling);
        waited.map_err(|error| self.fail(error.into()))
    }

    pub(super) fn check_time(&mut self, deadline: &mut Option<Deadline>) -> Result<(), Error> {
        let deadline = deadline.get_or_insert_with(|| Deadline::after_option(self.timeout));
        if deadline.has_passed() { Err(self.fail(WaitError::TimedOut.into())) } else { Ok(()) }
    }
}
