//! What has arrived and is not handed out yet: answers, events and early items, and the bytes that they take.

use std::collections::VecDeque;

use super::intake::{Awaited, Closed, EARLY_BYTES, Sink, State};
use super::queue::EventPolicy;
use super::reply;
use super::tickets::Fault;
use crate::error::Error;
use crate::transport::{Found, Payload, Receiver};
use crate::wire::Kind;

impl State {
    /// Puts a record's bytes into `sink`. Says where further ones of the message go; `None` if there is no place for it,
    /// now.
    pub(super) fn store(
        &mut self,
        receiver: &Receiver,
        found: &Found,
        sink: Sink,
        awaited: Awaited,
    ) -> Result<Option<Sink>, Error> {
        let payload = receiver.record_payload(found);
        match sink {
            Sink::Nowhere => Ok(Some(Sink::Nowhere)),
            Sink::Slot(slot) => {
                if found.header().kind == Kind::StreamItem && !self.is_read(slot, awaited) {
                    return Ok(Some(Sink::Nowhere));
                }
                let is_awaited = self.awaited_slot(sink, awaited).is_some();
                Ok(self.store_answer(slot, found.header().kind, &payload, is_awaited))
            }
            Sink::Event if self.event.len() + payload.len() > self.max_message_bytes && !found.is_whole() => {
                self.events.dropped += 1;
                self.clear(sink);
                Ok(Some(Sink::Nowhere))
            }
            Sink::Event => {
                let bytes = self.event.len() + payload.len();
                if found.is_last() && !found.is_abandoned() && awaited != Awaited::Event {
                    match self.make_room_for_event(bytes)? {
                        Some(true) => {}
                        Some(false) => {
                            self.clear(sink);
                            return Ok(Some(Sink::Nowhere));
                        }
                        None => return Ok(None),
                    }
                }
                if self.event.is_empty() {
                    self.event = self.events.buffer();
                }
                payload.append_to(&mut self.event);
                Ok(Some(Sink::Event))
            }
        }
    }

    fn store_answer(
        &mut self,
        slot: usize,
        kind: Kind,
        payload: &Payload<'_>,
        is_awaited: bool,
    ) -> Option<Sink> {
        let entry = self.tickets.entry_mut(slot);
        entry.kind = kind;
        if entry.bytes.len() + payload.len() > self.max_message_bytes {
            entry.fault = Some(Fault::TooLarge);
            self.clear(Sink::Slot(slot));
            return Some(Sink::Nowhere);
        }
        if self.stored_bytes + payload.len() > self.max_message_bytes && !is_awaited {
            return None;
        }
        self.stored_bytes += payload.len();
        payload.append_to(&mut entry.bytes);
        Some(Sink::Slot(slot))
    }

    /// Whether an event of `bytes` may be queued now (`Some(false)`: never); `None`: not before others have been taken.
    #[inline]
    fn make_room_for_event(&mut self, bytes: usize) -> Result<Option<bool>, Error> {
        if self.events.has_room(bytes) {
            return Ok(Some(true));
        }
        match self.events.policy {
            EventPolicy::Wait => Ok(None),
            EventPolicy::DropOldest => Ok(Some(self.events.drop_oldest(bytes))),
            EventPolicy::Disconnect => {
                self.closed = Some(Closed::EventsFull);
                Err(self.closing_error())
            }
        }
    }

    /// Whether an answer, or a part of it, lies in the slot.
    #[inline]
    pub(super) fn has_begun(&self, slot: usize) -> bool {
        self.tickets.is_ready(slot) || !self.tickets.entry(slot).bytes.is_empty()
    }

    /// Forgets what has come of a message.
    pub(super) fn clear(&mut self, sink: Sink) {
        match sink {
            Sink::Slot(slot) => {
                let bytes = &mut self.tickets.entry_mut(slot).bytes;
                self.stored_bytes -= bytes.len();
                reply::empty(bytes);
            }
            Sink::Event => reply::empty(&mut self.event),
            Sink::Nowhere => {}
        }
    }

    /// Frees a slot whose final answer has arrived and is not handed out.
    pub(super) fn finish(&mut self, slot: usize) {
        self.clear(Sink::Slot(slot));
        self.tickets.finish(slot);
    }

    /// The request has been sent in part, or not at all, and will not be.
    #[cold]
    pub(super) fn unsend(&mut self, slot: usize, begun: bool) {
        self.clear(Sink::Slot(slot));
        self.clear_early();
        if begun {
            self.tickets.withdraw(slot);
        } else {
            self.tickets.finish(slot);
        }
    }

    /// The next item that came before the request had been sent to its end.
    #[inline]
    pub(super) fn pop_early(&mut self) -> Option<Vec<u8>> {
        let item = self.early.pop_front()?;
        self.stored_bytes -= item.len() + EARLY_BYTES;
        Some(item)
    }

    pub(super) fn clear_early(&mut self) {
        if self.early.is_empty() {
            return;
        }
        self.stored_bytes -= self.early.iter().map(|item| item.len() + EARLY_BYTES).sum::<usize>();
        self.early = VecDeque::new();
    }

    /// Nobody wants the answer any more; what has come of it is forgotten.
    pub(super) fn abandon(&mut self, slot: usize) {
        self.clear(Sink::Slot(slot));
        self.tickets.abandon(slot);
    }

    /// Hands out the bytes of an answer, or of an item, that has come to its end.
    pub(super) fn take_bytes(&mut self, slot: usize) -> &mut Vec<u8> {
        let bytes = &mut self.tickets.entry_mut(slot).bytes;
        self.stored_bytes -= bytes.len();
        bytes
    }
}
