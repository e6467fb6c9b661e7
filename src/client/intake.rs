//! [`State::route`]: where each record that arrives belongs.

use std::collections::VecDeque;
use std::mem;

use super::queue::Queue;
use super::tickets::{Expected, Fault, Owner, Tickets};
use crate::error::{Error, ErrorKind};
use crate::transport::{Found, Payload, Receiver};
use crate::wire::call::{MAX_STATUS_BYTES, StatusPayload};
use crate::wire::{Header, Kind};

/// What an early item costs besides its bytes: without it, empty ones would have no bound.
pub(super) const EARLY_BYTES: usize = 2 * size_of::<Vec<u8>>();

/// What the caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// Nothing that arrives: it has something to send, or only looks.
    Nothing,
    /// Nothing yet: it is still sending this slot's request.
    Sending(usize),
    /// What comes next for this slot.
    Slot(usize),
    /// The response to any ticket.
    AnyTicket,
    Event,
}

/// What a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Put where it belongs.
    Taken,
    /// A whole message that the caller waits for, still in the ring: for this slot, or an event.
    InRing(usize),
    /// The end of what the caller waits for: the entry of this slot has it, or says what is wrong with it.
    Stored(usize),
    /// The caller waits for a response, and this is an item of a stream.
    Streamed(usize),
    /// Left in the ring, for lack of a place: this is full.
    Blocked(Full),
}

/// What is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Events,
    Replies,
}

/// Where the bytes of a message go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    Slot(usize),
    Event,
    Nowhere,
}

/// Why nothing more is sent.
#[derive(Debug)]
pub(super) enum Closed {
    Goodbye(StatusPayload),
    /// [`EventPolicy::Disconnect`](super::EventPolicy::Disconnect).
    EventsFull,
    /// The connection is over.
    Ended(ErrorKind),
}

/// Everything of a client but its connection.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tickets: Tickets,
    pub(super) events: Queue,
    /// The event whose pieces are coming.
    pub(super) event: Vec<u8>,
    /// Where the pieces of the message under way go.
    under_way: Option<Sink>,
    /// Items of a stream that came before its request had been sent to its end.
    pub(super) early: VecDeque<Vec<u8>>,
    /// Bytes in the entries of all slots, and in the early items.
    pub(super) stored_bytes: usize,
    pub(super) max_message_bytes: usize,
    pub(super) closed: Option<Closed>,
}

impl State {
    pub(super) fn new(events: Queue, max_message_bytes: usize) -> Self {
        Self {
            tickets: Tickets::new(),
            events,
            event: Vec::new(),
            under_way: None,
            early: VecDeque::new(),
            stored_bytes: 0,
            max_message_bytes,
            closed: None,
        }
    }

    /// Whether answers that wait to be collected fill the place there is for them.
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.stored_bytes > 0 && self.stored_bytes >= self.max_message_bytes
    }

    /// Whether nothing is under way, and nothing waits to be taken.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        self.closed.is_none()
            && self.tickets.are_all_free()
            && self.under_way.is_none()
            && self.early.is_empty()
            && self.events.is_empty()
    }

    /// Puts a record where it belongs.
    ///
    /// # Errors
    /// [`ErrorKind::CorruptPeer`] if it belongs nowhere; [`ErrorKind::ResourceExhausted`] where it is the event that ends
    /// the connection.
    pub(super) fn route(
        &mut self,
        receiver: &mut Receiver,
        found: Found,
        awaited: Awaited,
    ) -> Result<Step, Error> {
        let header = found.header();
        let sink = match self.under_way {
            Some(sink) => self.check_sink(sink, header),
            None if header.kind == Kind::Goodbye && found.is_whole() => {
                let status = parse_status(&receiver.record_payload(&found));
                receiver.release_record(found);
                self.closed.get_or_insert(Closed::Goodbye(status));
                return Ok(Step::Taken);
            }
            None => match self.classify(header) {
                Ok(sink) => sink,
                Err(expected) => return Err(receiver.refuse(header, expected)),
            },
        };
        if let (true, Some(slot)) = (found.is_whole(), self.awaited_slot(sink, awaited)) {
            return Ok(Step::InRing(slot));
        }
        let Some(sink) = self.store(receiver, &found, sink, awaited)? else {
            return Ok(Step::Blocked(if sink == Sink::Event { Full::Events } else { Full::Replies }));
        };
        receiver.release_record(found);
        if !found.is_last() {
            self.under_way = Some(sink);
            return Ok(Step::Taken);
        }
        self.under_way = None;
        if found.is_abandoned() {
            // As if it had never been begun: an answer is still to come.
            self.clear(sink);
            if let Owner::Waiting(slot) = self.tickets.owner(header.correlation) {
                self.tickets.entry_mut(slot).fault = None;
            }
            return Ok(Step::Taken);
        }
        Ok(self.complete(header, sink, awaited))
    }

    /// Where a message that begins like this goes; else what was expected.
    fn classify(&mut self, header: Header) -> Result<Sink, &'static str> {
        if header.is_extended() {
            return Err("a message without a deadline");
        }
        match header.kind {
            Kind::Event => return Ok(Sink::Event),
            Kind::Response | Kind::Error | Kind::StreamItem | Kind::StreamEnd | Kind::Pong => {}
            _ => return Err("an answer, an event or a goodbye"),
        }
        let slot = match self.tickets.owner(header.correlation) {
            Owner::Waiting(slot) => slot,
            Owner::Abandoned(_) | Owner::Withdrawn => return Ok(Sink::Nowhere),
            Owner::Nobody => return Err("the answer to a request under way"),
        };
        let entry = self.tickets.entry_mut(slot);
        let is_pong = header.kind == Kind::Pong;
        if is_pong != (entry.expected == Expected::Pong) && header.kind != Kind::Error {
            return Err("a pong for a ping, and for nothing else");
        }
        if entry.message_type != header.message_type && !is_pong {
            return Err("an answer of the request's type");
        }
        let is_stream = matches!(header.kind, Kind::StreamItem | Kind::StreamEnd);
        if is_stream && entry.expected == Expected::Response {
            // The caller's mistake: the peer cannot know what was expected.
            entry.fault = Some(Fault::Streamed);
            return Ok(Sink::Nowhere);
        }
        Ok(Sink::Slot(slot))
    }

    /// The caller may have given up between two pieces.
    fn check_sink(&self, sink: Sink, header: Header) -> Sink {
        match (sink, self.tickets.owner(header.correlation)) {
            (Sink::Slot(_), Owner::Abandoned(_) | Owner::Withdrawn | Owner::Nobody) => Sink::Nowhere,
            _ => sink,
        }
    }

    /// The slot that `sink` is of, if the caller waits for what comes for it.
    pub(super) fn awaited_slot(&self, sink: Sink, awaited: Awaited) -> Option<usize> {
        match (sink, awaited) {
            (Sink::Event, Awaited::Event) => Some(0),
            (Sink::Slot(slot), Awaited::Slot(wanted)) => (slot == wanted).then_some(slot),
            (Sink::Slot(slot), Awaited::AnyTicket) => self.tickets.is_submitted(slot).then_some(slot),
            _ => None,
        }
    }

    /// Whether somebody reads this slot's stream, now or soon: its reader may have been forgotten.
    pub(super) fn is_read(&self, slot: usize, awaited: Awaited) -> bool {
        awaited == Awaited::Sending(slot) || awaited == Awaited::Slot(slot)
    }

    /// Whether the final answer of this slot is wanted later.
    fn is_expected(&self, slot: usize, awaited: Awaited) -> bool {
        self.tickets.entry(slot).expected != Expected::Items || awaited == Awaited::Sending(slot)
    }

    /// A message has come to its end.
    fn complete(&mut self, header: Header, sink: Sink, awaited: Awaited) -> Step {
        if header.kind == Kind::Event {
            if sink == Sink::Event {
                let event = mem::take(&mut self.event);
                self.events.push(header.message_type, event);
            }
            return Step::Taken;
        }
        let is_item = header.kind == Kind::StreamItem;
        match self.tickets.owner(header.correlation) {
            Owner::Waiting(slot) => {
                let entry = self.tickets.entry(slot);
                let is_awaited = self.awaited_slot(Sink::Slot(slot), awaited).is_some();
                match (is_awaited, is_item) {
                    (true, true) if entry.fault == Some(Fault::Streamed) => return Step::Streamed(slot),
                    (true, _) => return Step::Stored(slot),
                    (false, true) if sink == Sink::Slot(slot) && awaited == Awaited::Sending(slot) => {
                        let item = mem::take(&mut self.tickets.entry_mut(slot).bytes);
                        self.stored_bytes += EARLY_BYTES;
                        self.early.push_back(item);
                    }
                    (false, true) => self.clear(sink),
                    // Its reader has been forgotten.
                    (false, false) if !self.is_expected(slot, awaited) => self.finish(slot),
                    (false, false) => self.tickets.set_ready(slot),
                }
            }
            Owner::Abandoned(slot) if !is_item => self.finish(slot),
            _ => {}
        }
        Step::Taken
    }

    /// Why nothing more is sent.
    #[cold]
    pub(super) fn closing_error(&self) -> Error {
        match &self.closed {
            Some(Closed::Goodbye(said)) => {
                let message = format!("the server is going: {}", said.message);
                Error::answered(said.status, message, said.retry_after)
            }
            Some(Closed::EventsFull) => {
                let message = format!(
                    "connection closed by its event policy: {} events had not been taken",
                    self.events.len()
                );
                Error::new(ErrorKind::ResourceExhausted, message)
            }
            Some(Closed::Ended(kind)) => {
                Error::new(*kind, format!("the connection has ended before: {kind}"))
            }
            None => ErrorKind::PeerClosed.into(),
        }
    }

    /// What a caller that cannot go on is told.
    #[cold]
    pub(super) fn blocked(&self, full: Full) -> Error {
        let message = match full {
            Full::Events => {
                let events = self.events.len();
                format!("{events} events wait, and fill their queue: take events before going on")
            }
            Full::Replies => {
                let (bytes, limit) = (self.stored_bytes, self.max_message_bytes);
                format!("{bytes} bytes of replies wait, of at most {limit}: collect before going on")
            }
        };
        Error::new(ErrorKind::ResourceExhausted, message)
    }
}

pub(super) fn parse_status(payload: &Payload<'_>) -> StatusPayload {
    let mut bytes = [0; MAX_STATUS_BYTES];
    let count = payload.copy_to(&mut bytes);
    StatusPayload::parse(&bytes[..count])
}
