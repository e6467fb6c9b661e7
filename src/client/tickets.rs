//! [`Tickets`]: which request has which slot, and what has become of it.

use crate::transport::Deadline;
use crate::wire::{Kind, call};

/// A request under way: what [`Client::submit`](super::Client::submit) gives for
/// [`Client::collect`](super::Client::collect).
///
/// Never given twice on one connection. One that is neither collected nor given up keeps its slot, one of 64, for as long
/// as the connection lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "a ticket that is not collected keeps its slot"]
pub struct Ticket {
    pub(super) correlation: u64,
}

impl Ticket {
    /// What the request and its answers are marked with; the server's handlers see it too.
    #[must_use]
    pub fn correlation(&self) -> u64 {
        self.correlation
    }
}

/// What a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Response,
    Items,
    Pong,
}

/// What is wrong with an answer, as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Beyond the limit for messages that are put together, and left out.
    TooLarge,
    /// A stream, where one response was expected.
    Streamed,
}

/// One slot. Which state it is in, the masks of [`Tickets`] say.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) correlation: u64,
    /// The last request of this slot that was given up half sent: an answer to it, or to one before it, may come, or none.
    pub(super) withdrawn: u64,
    pub(super) deadline: Deadline,
    pub(super) message_type: u16,
    pub(super) expected: Expected,
    /// The kind of the answer that waits here, or of the last one that did.
    pub(super) kind: Kind,
    pub(super) fault: Option<Fault>,
    /// Which of the answers that had to wait the last one here was.
    arrival: u64,
    /// The answer as far as it has come, where it could not be handed out from the ring.
    pub(super) bytes: Vec<u8>,
}

const UNUSED: Entry = Entry {
    correlation: 0,
    withdrawn: 0,
    deadline: Deadline::NEVER,
    message_type: 0,
    expected: Expected::Response,
    kind: Kind::Response,
    fault: None,
    arrival: 0,
    bytes: Vec::new(),
};

/// The table of slots: see the [module](super) for their states.
#[derive(Debug)]
pub(super) struct Tickets {
    entries: Box<[Entry; call::SLOTS]>,
    /// Requests so far, and this one: never 0, so no correlation is.
    sequence: u64,
    free: u64,
    ready: u64,
    abandoned: u64,
    /// Slots whose control word names a request that was cancelled.
    cancelled: u64,
    /// Those that the program has a [`Ticket`] of.
    submitted: u64,
    /// Answers that had to wait, so far.
    arrivals: u64,
}

/// Whose an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Waiting(usize),
    /// Nobody waits any more.
    Abandoned(usize),
    /// Of a request that was given up half sent.
    Withdrawn,
    /// No request that still waits has this correlation.
    Nobody,
}

/// The bits of a sequence that a control word holds beside the slot: 0 there means that nothing is cancelled.
const CANCELLABLE: u64 = (1 << 26) - 1;

impl Tickets {
    pub(super) fn new() -> Self {
        Self {
            entries: Box::new([UNUSED; call::SLOTS]),
            sequence: 1,
            free: u64::MAX,
            ready: 0,
            abandoned: 0,
            cancelled: 0,
            submitted: 0,
            arrivals: 0,
        }
    }

    /// The slot and the correlation that the next request has; `None` if all are taken.
    #[inline(always)]
    pub(super) fn next(&self) -> Option<(usize, u64)> {
        let slot = self.free.trailing_zeros() as usize;
        (self.free != 0).then(|| (slot, self.correlation_in(slot)))
    }

    /// The correlation of the next request, if it takes `slot`.
    #[inline(always)]
    pub(super) fn correlation_in(&self, slot: usize) -> u64 {
        call::correlation(self.sequence, slot)
    }

    /// The request for which `next` gave this slot is being sent, or has been.
    #[inline(always)]
    pub(super) fn begin(&mut self, slot: usize, message_type: u16, expected: Expected, deadline: Deadline) {
        let correlation = call::correlation(self.sequence, slot);
        let entry = &mut self.entries[slot % call::SLOTS];
        entry.correlation = correlation;
        entry.deadline = deadline;
        entry.message_type = message_type;
        entry.expected = expected;
        entry.fault = None;
        self.sequence += 1;
        if self.sequence & CANCELLABLE == 0 {
            self.sequence += 1;
        }
        self.free &= !bit(slot);
    }

    /// The server has been told that the slot's request is no longer wanted.
    #[cold]
    pub(super) fn note_cancelled(&mut self, slot: usize) {
        self.cancelled |= bit(slot);
    }

    /// Whether what the server was told is to be taken back before the slot is used again: many requests later it would mean
    /// another one.
    #[inline(always)]
    pub(super) fn is_marked_cancelled(&self, slot: usize) -> bool {
        self.cancelled & bit(slot) != 0
    }

    #[cold]
    pub(super) fn forget_cancelled(&mut self, slot: usize) {
        self.cancelled &= !bit(slot);
    }

    /// The request has been sent in part, and the rest will not be.
    #[cold]
    pub(super) fn withdraw(&mut self, slot: usize) {
        let entry = self.entry_mut(slot);
        entry.withdrawn = entry.correlation;
        self.finish(slot);
    }

    /// The program has a ticket of it.
    #[inline(always)]
    pub(super) fn hand_out(&mut self, slot: usize) -> Ticket {
        self.submitted |= bit(slot);
        Ticket { correlation: self.entry(slot).correlation }
    }

    /// The final answer has arrived and is the caller's: the slot is free again.
    #[inline(always)]
    pub(super) fn finish(&mut self, slot: usize) {
        self.free |= bit(slot);
        self.ready &= !bit(slot);
        self.submitted &= !bit(slot);
        self.abandoned &= !bit(slot);
    }

    /// The final answer has arrived, and waits in the entry.
    pub(super) fn set_ready(&mut self, slot: usize) {
        self.arrivals += 1;
        self.entry_mut(slot).arrival = self.arrivals;
        self.ready |= bit(slot);
    }

    /// Nobody wants the answer any more: the slot is free when it has arrived.
    pub(super) fn abandon(&mut self, slot: usize) {
        self.submitted &= !bit(slot);
        if self.is_ready(slot) {
            self.finish(slot);
        } else if self.free & bit(slot) == 0 {
            self.abandoned |= bit(slot);
        }
    }

    #[inline(always)]
    pub(super) fn is_ready(&self, slot: usize) -> bool {
        self.ready & bit(slot) != 0
    }

    #[inline(always)]
    pub(super) fn entry(&self, slot: usize) -> &Entry {
        &self.entries[slot % call::SLOTS]
    }

    #[inline(always)]
    pub(super) fn entry_mut(&mut self, slot: usize) -> &mut Entry {
        &mut self.entries[slot % call::SLOTS]
    }

    /// Whether the program has a ticket of it.
    pub(super) fn is_submitted(&self, slot: usize) -> bool {
        self.submitted & bit(slot) != 0
    }

    /// Whether the program has any ticket.
    pub(super) fn has_submitted(&self) -> bool {
        self.submitted != 0
    }

    /// The slot of `ticket`, unless it has been collected, or given up.
    #[inline]
    pub(super) fn find(&self, ticket: Ticket) -> Option<usize> {
        let slot = call::slot_of(ticket.correlation);
        let known = self.submitted & bit(slot) != 0 && self.entry(slot).correlation == ticket.correlation;
        known.then_some(slot)
    }

    /// Whose an answer with `correlation` is.
    pub(super) fn owner(&self, correlation: u64) -> Owner {
        let slot = call::slot_of(correlation);
        let entry = self.entry(slot);
        let busy = !(self.free | self.ready) & bit(slot) != 0;
        if busy && entry.correlation == correlation {
            if self.abandoned & bit(slot) != 0 { Owner::Abandoned(slot) } else { Owner::Waiting(slot) }
        } else if correlation != 0 && correlation <= entry.withdrawn {
            Owner::Withdrawn
        } else {
            Owner::Nobody
        }
    }

    /// Requests whose answer has not arrived.
    pub(super) fn unanswered(&self) -> u32 {
        (!(self.free | self.ready)).count_ones()
    }

    /// Whether no request is under way, and no answer waits.
    #[inline]
    pub(super) fn are_all_free(&self) -> bool {
        self.free == u64::MAX
    }

    /// The ticket whose answer has waited longest.
    #[inline]
    pub(super) fn first_ready(&self) -> Option<usize> {
        slots(self.ready & self.submitted).min_by_key(|slot| self.entry(*slot).arrival)
    }

    /// The ticket that the program has had no answer to and whose deadline is the first; `None` if it has none.
    pub(super) fn first_due(&self) -> Option<(usize, Deadline)> {
        let due = slots(self.submitted & !self.ready).map(|slot| (slot, self.entry(slot).deadline));
        due.min_by_key(|(_, deadline)| *deadline)
    }
}

/// The slots whose bits are set.
#[inline(always)]
fn slots(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = mask.trailing_zeros() as usize;
        let some = mask != 0;
        mask &= mask.wrapping_sub(1);
        some.then_some(slot)
    })
}

#[inline(always)]
const fn bit(slot: usize) -> u64 {
    1 << (slot % call::SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(tickets: &mut Tickets) -> (usize, Ticket) {
        let (slot, correlation) = tickets.next().unwrap();
        tickets.begin(slot, 7, Expected::Response, Deadline::NEVER);
        let ticket = tickets.hand_out(slot);
        assert_eq!(ticket.correlation, correlation);
        (slot, ticket)
    }

    #[test]
    fn there_are_64_slots_and_each_is_free_again_only_when_its_answer_has_arrived() {
        let mut tickets = Tickets::new();
        let issued: Vec<_> = (0..64).map(|_| begin(&mut tickets)).collect();
        assert_eq!((tickets.next(), tickets.unanswered()), (None, 64));
        let (slot, ticket) = issued[17];
        tickets.abandon(slot);
        assert_eq!(tickets.next(), None, "given up, not answered");
        assert_eq!(tickets.find(ticket), None);
        assert_eq!(tickets.owner(ticket.correlation), Owner::Abandoned(slot));
        tickets.finish(slot);
        assert_eq!(tickets.next().unwrap().0, slot);
        assert_eq!(tickets.owner(ticket.correlation), Owner::Nobody, "answered already");
    }

    #[test]
    fn no_correlation_comes_twice_and_none_is_zero() {
        let mut tickets = Tickets::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let (slot, ticket) = begin(&mut tickets);
            assert!(ticket.correlation != 0 && seen.insert(ticket.correlation));
            tickets.finish(slot);
        }
        let (slot, correlation) = tickets.next().unwrap();
        tickets.begin(slot, 7, Expected::Response, Deadline::NEVER);
        tickets.withdraw(slot);
        assert_ne!(tickets.next().unwrap().1, correlation);
        assert_eq!(tickets.owner(correlation), Owner::Withdrawn);
        assert_eq!(tickets.owner(0), Owner::Nobody);
    }

    #[test]
    fn answers_to_all_requests_that_were_given_up_half_sent_are_known() {
        let mut tickets = Tickets::new();
        let withdrawn: Vec<_> = (0..3)
            .map(|_| {
                let (slot, ticket) = begin(&mut tickets);
                tickets.withdraw(slot);
                ticket.correlation
            })
            .collect();
        let (slot, ticket) = begin(&mut tickets);
        assert!(withdrawn.iter().all(|correlation| tickets.owner(*correlation) == Owner::Withdrawn));
        assert_eq!(tickets.owner(ticket.correlation), Owner::Waiting(slot));
        tickets.finish(slot);
        assert_eq!(tickets.owner(ticket.correlation), Owner::Nobody);
    }

    #[test]
    fn an_answer_that_waits_is_not_answered_again() {
        let mut tickets = Tickets::new();
        let (slot, ticket) = begin(&mut tickets);
        assert_eq!(tickets.owner(ticket.correlation), Owner::Waiting(slot));
        tickets.set_ready(slot);
        assert_eq!(tickets.owner(ticket.correlation), Owner::Nobody);
        assert_eq!(tickets.find(ticket), Some(slot));
        tickets.abandon(slot);
        assert_eq!((tickets.find(ticket), tickets.unanswered()), (None, 0));
    }

    #[test]
    fn answers_that_wait_are_found_in_the_order_in_which_they_came() {
        let mut tickets = Tickets::new();
        for _ in 0..64 {
            let _ = begin(&mut tickets);
        }
        for slot in [40, 63, 3, 0] {
            tickets.set_ready(slot);
        }
        tickets.abandon(63);
        let mut found = Vec::new();
        while let Some(slot) = tickets.first_ready() {
            tickets.finish(slot);
            found.push(slot);
        }
        assert_eq!(found, [40, 3, 0]);
    }

    #[test]
    fn the_first_deadline_is_that_of_a_ticket_without_an_answer() {
        let mut tickets = Tickets::new();
        assert_eq!(tickets.first_due(), None);
        for ns in [50, 20, 30, u64::MAX] {
            let (slot, _) = tickets.next().unwrap();
            tickets.begin(slot, 1, Expected::Response, Deadline::at_ns(ns));
            let _ = tickets.hand_out(slot);
        }
        assert_eq!(tickets.first_due(), Some((1, Deadline::at_ns(20))));
        tickets.set_ready(1);
        assert_eq!(tickets.first_due(), Some((2, Deadline::at_ns(30))));
    }

    #[test]
    fn no_request_has_the_low_half_that_means_nothing_is_cancelled() {
        let mut tickets = Tickets { sequence: CANCELLABLE, ..Tickets::new() };
        for _ in 0..2 {
            let (slot, correlation) = tickets.next().unwrap();
            assert_ne!(correlation as u32, 0);
            tickets.begin(slot, 7, Expected::Response, Deadline::NEVER);
            tickets.finish(slot);
        }
        assert_eq!(tickets.sequence, CANCELLABLE + 3);
    }
}
