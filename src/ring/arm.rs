//! The reading half in somebody else's event loop: its sleep on the lifeline, taken apart into steps.
//!
//! [`Consumer::arm`] is the part of the sleep before `poll`, the event loop is the `poll`, and
//! [`Consumer::look_at_lifeline`] is the part behind it. What lies between them, for as long as the program likes:
//!
//! | what | written by | read by | what happens if its writer dies right there |
//! |---|---|---|---|
//! | `reader_parked` | reader: the mark in [`Consumer::arm`], 0 in [`Consumer::disarm`] | writer, behind each commit | the writer rings once in vain |
//! | commit word at the reader's position | writer: the record's length (Release) | reader, last behind its mark | 0: never sent; else [`Readiness::Ready`], or a bell or the hang-up makes the descriptor readable |
//! | bells on the lifeline | writer, behind its look at the mark | reader: [`Kernel::hear`], always *before* it stores a mark | committed, no bell: the hang-up stands for it |
//! | the hang-up | the kernel, when the last descriptor of the other end is closed | reader, as a bell; then it looks at the ring once more | |
//!
//! No wake-up is lost, level- or edge-triggered: the commit word is looked at behind the mark and the fence, so what this
//! look misses was committed by a writer that sees the mark and rings, or has rung; and a bell that the reader takes in
//! before its mark stands for a record that the look behind it finds. A bell in between (of a writer that saw a mark that
//! has been taken back meanwhile) costs one turn of the loop in vain.

use super::Consumer;
use crate::sync::{Area, Heard, Kernel, Platform, weak};
use crate::wait::{Mark, WaitError, disarm};

/// Whether to wait in the event loop: what `arm` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who sleeps although something is there may sleep for ever"]
pub enum Readiness {
    /// There is something to receive, or the end: do not wait. Nothing is armed.
    Ready,
    /// Nothing is there. The descriptor becomes readable when that changes.
    Armed,
}

/// What the reading half knows of its descriptor between two turns of an event loop.
#[derive(Debug)]
pub(super) struct Turns {
    /// The mark is in `reader_parked`.
    armed: bool,
    /// Nobody has listened since there was a mark.
    unheard: bool,
    hung_up: bool,
}

impl Default for Turns {
    fn default() -> Self {
        Self { armed: false, unheard: true, hung_up: false }
    }
}

impl<P: Platform, K: Kernel<P::Word>> Consumer<P, K> {
    /// Prepares a sleep on the lifeline that the caller's event loop does: publishes what has been consumed, and asks the
    /// writer to ring for whatever comes next. Armed already, it does so anew.
    pub fn arm(&mut self) -> Readiness {
        self.disarm();
        if self.is_readable() {
            return Readiness::Ready;
        }
        let late = P::breaks(weak::BELLS_HEARD_LATE);
        // Before the mark, so that each bell taken in here stands for a record that the last look finds.
        if !late && self.hears_hang_up() {
            return Readiness::Ready;
        }
        let mark = Mark::on_lifeline(self.position as u32);
        if !self.park_under(mark, |park, between| park.arm::<P>(between)) {
            disarm(self.area.reader_parked());
            return Readiness::Ready;
        }
        self.turns.armed = true;
        self.turns.unheard = true;
        if late && self.hears_hang_up() { Readiness::Ready } else { Readiness::Armed }
    }

    /// Whether the writer has been asked to ring, by [`Consumer::arm`].
    #[inline(always)]
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.turns.armed
    }

    /// Takes the mark back. Bells that the writer rings meanwhile stay on the lifeline.
    pub fn disarm(&mut self) {
        if self.turns.armed {
            self.turns.armed = false;
            disarm(self.area.reader_parked());
        }
    }

    /// Between two turns, when [`Consumer::peek`] has found nothing: takes in bells. Peek once more behind it.
    ///
    /// # Errors
    /// [`WaitError::PeerDied`] if nothing that the peer committed is left.
    pub fn look_at_lifeline(&mut self) -> Result<(), WaitError> {
        self.disarm();
        self.turns.unheard = true;
        if !self.hears_hang_up() {
            return Ok(());
        }
        let look = !P::breaks(weak::NO_LOOK_AFTER_HEARD_HANG_UP);
        if look && self.is_readable() { Ok(()) } else { Err(WaitError::PeerDied) }
    }

    /// Whether there may be something on the lifeline that only [`Consumer::look_at_lifeline`] takes away.
    #[must_use]
    pub fn may_hear(&self) -> bool {
        self.turns.unheard || self.turns.hung_up
    }

    fn hears_hang_up(&mut self) -> bool {
        if self.turns.unheard && !self.turns.hung_up && !P::breaks(weak::BELLS_NOT_HEARD) {
            self.turns.hung_up = self.kernel.hear() == Heard::HungUp;
        }
        self.turns.unheard = false;
        self.turns.hung_up
    }
}
