//! Pipelining: up to 64 requests under way, answered in any order.

use super::connection::Client;
use super::intake::{Awaited, Full};
use super::reply::Reply;
use super::tickets::{Expected, Ticket};
use super::waiting::Arrived;
use crate::error::{Error, ErrorKind};
use crate::transport::{Deadline, Found};
use crate::wire::{Header, Kind};

impl Client {
    /// Sends a request, and does not wait for its answer: see [`Client::collect`].
    ///
    /// While it waits for room it takes in what arrives, so two full rings do not wait for each other.
    ///
    /// # Errors
    /// [`ErrorKind::ResourceExhausted`]: 64 requests are under way, or the replies that wait to be collected, or the
    /// events, have no place for more; nothing is lost: collect, take events. Else as [`Client::call`], except for what a
    /// server answers.
    #[inline]
    pub fn submit(&mut self, message_type: u16, request: &[u8]) -> Result<Ticket, Error> {
        self.submit_until(message_type, request, self.default_deadline())
    }

    #[inline(always)]
    pub(super) fn submit_until(
        &mut self,
        message_type: u16,
        request: &[u8],
        deadline: Deadline,
    ) -> Result<Ticket, Error> {
        if self.state.is_full() {
            return Err(self.state.blocked(Full::Replies));
        }
        let (slot, _) = self.send_request(message_type, request, Expected::Response, deadline)?;
        Ok(self.state.tickets.hand_out(slot))
    }

    /// Waits for the answer to a request, and hands it out; the ticket is of no use afterwards.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ErrorKind::InvalidInput`] for a ticket that has been collected or given up. The ticket
    /// stays good only after [`ErrorKind::ResourceExhausted`].
    #[inline]
    pub fn collect(&mut self, ticket: Ticket) -> Result<Reply<'_>, Error> {
        let slot = self.find(ticket)?;
        if self.state.tickets.is_ready(slot) {
            return self.take_reply(slot, Arrived::Stored);
        }
        self.check_receiving()?;
        let message_type = self.state.tickets.entry(slot).message_type;
        let expected = Header::new(Kind::Response, message_type, ticket.correlation);
        match self.await_slot(slot, expected) {
            Ok(arrived) => self.take_reply(slot, arrived),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(self.abandon(slot, error)),
            Err(error) => Err(error),
        }
    }

    /// The answer to a request if it is there already.
    ///
    /// # Errors
    /// As [`Client::collect`]. The ticket stays good until there is an answer, or an error that is one.
    pub fn try_collect(&mut self, ticket: &Ticket) -> Result<Option<Reply<'_>>, Error> {
        let slot = self.find(*ticket)?;
        if !self.state.tickets.is_ready(slot) {
            self.check_receiving()?;
            let Some(arrived) = self.poll_slot(slot)? else {
                return Ok(None);
            };
            return self.take_reply(slot, arrived).map(Some);
        }
        self.take_reply(slot, Arrived::Stored).map(Some)
    }

    /// Waits for the answer to any of the requests that were submitted, and hands it out with its ticket; `None` if there
    /// is none under way.
    ///
    /// Answers come out in the order in which they arrived, also those that came while the caller waited for others, or for
    /// room. The inner result is the answer's own.
    ///
    /// # Errors
    /// As [`Client::collect`], for the connection.
    #[expect(clippy::type_complexity, reason = "a type of its own would hide what it is")]
    pub fn collect_any(&mut self) -> Result<Option<(Ticket, Result<Reply<'_>, Error>)>, Error> {
        let (slot, arrived) = if let Some(slot) = self.state.tickets.first_ready() {
            (slot, Arrived::Stored)
        } else {
            let Some((due, deadline)) = self.state.tickets.first_due() else { return Ok(None) };
            self.check_receiving()?;
            match self.await_any(deadline) {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    let ticket = self.ticket(due);
                    return Ok(Some((ticket, Err(self.abandon(due, error)))));
                }
                Err(error) => return Err(error),
            }
        };
        let ticket = self.ticket(slot);
        Ok(Some((ticket, self.take_reply(slot, arrived))))
    }

    /// As [`Client::collect_any`], without waiting: `None` also if no answer is there yet.
    ///
    /// # Errors
    /// As [`Client::collect_any`].
    #[expect(clippy::type_complexity, reason = "as above")]
    pub fn try_collect_any(&mut self) -> Result<Option<(Ticket, Result<Reply<'_>, Error>)>, Error> {
        let (slot, arrived) = match self.state.tickets.first_ready() {
            Some(slot) => (slot, Arrived::Stored),
            None => {
                self.check_receiving()?;
                let plain = self.stream.halves().1.poll_plainly();
                match plain.and_then(|found| Some((self.answered_by(&found)?, Arrived::InRing(found)))) {
                    Some(answer) => answer,
                    None => {
                        let Some(found) = self.poll_for(Awaited::AnyTicket)? else { return Ok(None) };
                        found
                    }
                }
            }
        };
        let ticket = self.ticket(slot);
        Ok(Some((ticket, self.take_reply(slot, arrived))))
    }

    pub(super) fn ticket(&self, slot: usize) -> Ticket {
        Ticket { correlation: self.state.tickets.entry(slot).correlation }
    }

    pub(super) fn await_any(&mut self, deadline: Deadline) -> Result<(usize, Arrived), Error> {
        self.end_abandoned(deadline)?;
        if let Some(slot) = self.state.tickets.first_ready() {
            return Ok((slot, Arrived::Stored));
        }
        let (sender, receiver) = self.stream.halves();
        let found = match receiver.next_record(deadline, || sender.trim_idle()) {
            Ok(found) => found,
            Err(error) => return Err(self.ended(error)),
        };
        if let Some(slot) = self.answered_by(&found) {
            return Ok((slot, Arrived::InRing(found)));
        }
        self.await_slowly(found, Awaited::AnyTicket, deadline)
    }

    /// The ticket whose response this is, and nothing else.
    #[inline(always)]
    fn answered_by(&self, found: &Found) -> Option<usize> {
        let correlation = found.header().correlation;
        let slot = self.state.tickets.find(Ticket { correlation })?;
        let message_type = self.state.tickets.entry(slot).message_type;
        let is_answer = found.is(Header::new(Kind::Response, message_type, correlation));
        (is_answer && !self.state.tickets.is_ready(slot)).then_some(slot)
    }

    /// What has come for `slot` already.
    pub(super) fn poll_slot(&mut self, slot: usize) -> Result<Option<Arrived>, Error> {
        match self.poll_for(Awaited::Slot(slot)) {
            Ok(found) => Ok(found.map(|(_, arrived)| arrived)),
            Err(error) => Err(error),
        }
    }
}
