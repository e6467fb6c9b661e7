//! The writing half's slow side: waiting for room, and giving memory back.

use super::{Producer, RingError, TRAILING_BYTES};
use crate::sync::failpoint::{Failpoint, failpoint};
use crate::sync::{Area, Kernel, Ordering::Relaxed, Platform, Word, weak};
use crate::wait::{Deadline, LOOK_EVERY_NS, Mark, Park, Spin, Spinner, WaitError};

/// A burst that left no more than this behind is not worth a system call.
const TRIM_FROM_BYTES: u32 = 4 * 4096;
/// A writer that has waited for a core behind other threads looks around so rarely (600 that waited for room on two cores,
/// each awake every 5 ms, took most of both: `stress memory` 82 s instead of 14). No more rarely: what its owner takes in
/// between two looks may be what its reader waits for.
const LOOK_IN_A_CROWD_NS: u64 = 4 * LOOK_EVERY_NS;

impl<P: Platform, K: Kernel<P::Word>> Producer<P, K> {
    /// After [`RingError::Full`]: waits until the room may be there, or for one slice of 5 ms, 20 where threads
    /// queue for the cores. Try again afterwards.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] once `deadline` has passed, [`WaitError::PeerDied`].
    #[cold]
    pub fn wait_for_room(&mut self, spinner: &mut Spinner, deadline: Deadline) -> Result<(), RingError> {
        let needed = self.tail + u64::from(self.wanted + TRAILING_BYTES);
        // Not below `head_seen` after a `Full`; before any, there is nothing to wait for.
        let Some(want) = needed.checked_sub(u64::from(self.ring_bytes)) else { return Ok(()) };
        failpoint(Failpoint::RoomWanted);
        let enough = |head: u32| head & 1 != 0 || head.wrapping_sub(want as u32).cast_signed() >= 0;
        let head = self.area.head();
        match spinner.spin(deadline, || enough(head.load(Relaxed))) {
            Spin::Ready => return Ok(()),
            Spin::Look => {}
            Spin::Park => {
                let seen = head.load(Relaxed);
                if enough(seen) {
                    return Ok(());
                }
                let started_ns = Deadline::now_ns();
                let slice_ns = self.patience.begin().map_or(LOOK_EVERY_NS, |slices| slices.each_ns);
                let until_ns = (started_ns + slice_ns.min(LOOK_IN_A_CROWD_NS)).min(deadline.as_ns());
                // The reader wakes whoever waits for a byte that it has released: the last of those wanted.
                let mark = Mark::on_word((want as u32).wrapping_sub(8));
                let parked = self.area.writer_parked();
                let park = Park { kernel: &self.kernel, parked, mark, word: head };
                park.on_word::<P>(seen, until_ns, weak::FENCE_WRITER_PARK, || ());
                self.patience.woke(self.kernel.overslept(until_ns.max(started_ns)));
            }
        }
        self.look_around(enough, deadline)
    }

    fn look_around(&self, enough: impl Fn(u32) -> bool, deadline: Deadline) -> Result<(), RingError> {
        if enough(self.area.head().load(Relaxed)) {
            return Ok(());
        }
        if self.kernel.peer_is_gone() {
            // It may have released, or said goodbye, between the two looks.
            let look = !P::breaks(weak::NO_LOOK_FOR_ROOM_AFTER_DEATH);
            return if look && enough(self.area.head().load(Relaxed)) {
                Ok(())
            } else {
                Err(WaitError::PeerDied.into())
            };
        }
        if deadline.has_passed() {
            return Err(WaitError::TimedOut.into());
        }
        Ok(())
    }

    /// Whether the reader has taken everything.
    ///
    /// # Errors
    /// [`RingError::Closed`] if it has gone, [`RingError::Corrupt`].
    pub fn is_drained(&mut self) -> Result<bool, RingError> {
        self.load_head()?;
        Ok(self.head_seen == self.tail)
    }

    /// While the connection goes to sleep: gives back what a burst left behind, on both sides of the present position.
    pub fn trim_idle(&mut self) {
        // Whatever comes after a rest need not be another burst.
        self.restart_from = 0;
        let offset = self.offset(self.tail);
        let used = self.extent.used().max(offset);
        if used <= TRIM_FROM_BYTES || !self.is_drained().unwrap_or(false) {
            return;
        }
        failpoint(Failpoint::TrimIdle);
        self.kernel.discard(0, offset);
        failpoint(Failpoint::TrimmedBelow);
        // Not the word at `tail`: the reader polls it, and *closed* will stand there.
        self.kernel.discard(offset + TRAILING_BYTES, used.max(offset + TRAILING_BYTES));
        failpoint(Failpoint::TrimmedAbove);
        self.extent.cut(offset + TRAILING_BYTES, Deadline::now_ns());
    }

    /// As [`Producer::trim_idle`], at most every 100 ms, or more rarely if that is in vain: for a connection that rests
    /// between two turns of an event loop, however short.
    pub fn trim_between_turns(&mut self) {
        if self.extent.used() > TRIM_FROM_BYTES && self.extent.is_due(Deadline::now_ns()) {
            self.trim_idle();
        }
    }

    /// Whether a burst has left enough behind what a record at `offset` needs.
    pub(super) fn is_worth_trimming(&self, offset: u32, step: u32) -> bool {
        self.extent.used().saturating_sub(offset + step + TRAILING_BYTES) > TRIM_FROM_BYTES
    }

    /// On a send that finds its ring drained: the reader waits at `offset` and has released everything, the padding too
    /// that brought it here; what lies beyond the coming record is free.
    pub(super) fn trim_behind(&mut self, offset: u32, step: u32) {
        if self.is_worth_trimming(offset, step) {
            self.trim_above(offset + step + TRAILING_BYTES);
        }
    }

    #[cold]
    fn trim_above(&mut self, keep: u32) {
        let now_ns = Deadline::now_ns();
        if !self.extent.is_due(now_ns) {
            return;
        }
        // What is in use will be in use again.
        let keep = keep.max(self.extent.begin_again(now_ns));
        let used = self.extent.used();
        if used.saturating_sub(keep) > TRIM_FROM_BYTES {
            failpoint(Failpoint::TrimBehind);
            self.kernel.discard(keep, used);
            failpoint(Failpoint::TrimmedBehind);
            self.extent.cut(keep, now_ns);
        }
    }
}
