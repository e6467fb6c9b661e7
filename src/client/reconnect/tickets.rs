//! Tickets that know their connection, and what a lost connection has left.

use std::collections::VecDeque;
use std::mem;

use super::ReconnectingClient;
use super::calls::judge;
use super::link::{has_ended, lost};
use crate::client::breaker::Permit;
use crate::client::connection::Client;
use crate::client::intake::Awaited;
use crate::client::queue::{EventPolicy, Queue};
use crate::client::reply::Reply;
use crate::client::tickets::Ticket as Issued;
use crate::client::waiting::Arrived;
use crate::error::{Error, ErrorKind};
use crate::wire::call::{self, SLOTS};
use crate::wire::{Header, Kind};

/// Lost tickets that [`ReconnectingClient::collect_any`] remembers; older ones answer when they are asked for.
const KEPT: usize = 1_024;

/// A request under way: what [`ReconnectingClient::submit`] gives for [`ReconnectingClient::collect`]. Of one connection, and
/// of no other ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "a ticket that is not collected keeps its slot"]
pub struct Ticket {
    pub(super) generation: u64,
    pub(super) ticket: Issued,
}

impl Ticket {
    /// Of the connection that it was sent on: see [`ReconnectingClient::generation`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What the request and its answers are marked with on that connection.
    #[must_use]
    pub fn correlation(&self) -> u64 {
        self.ticket.correlation()
    }
}

/// The permits of requests under way, by their slots. Nothing where there is no breaker.
#[derive(Debug, Default)]
pub(super) struct Permits(Vec<Option<Permit>>);

impl Permits {
    pub(super) fn keep(&mut self, slot: usize, permit: Option<Permit>) {
        if permit.is_some() {
            self.0.resize_with(SLOTS, || None);
            self.0[slot % SLOTS] = permit;
        }
    }

    pub(super) fn take(&mut self, slot: usize) -> Option<Permit> {
        self.0.get_mut(slot)?.take()
    }
}

/// A connection whose server has said goodbye, and still owes answers.
#[derive(Debug)]
struct Retiring {
    generation: u64,
    client: Client,
    permits: Permits,
}

/// An answer that had arrived before its connection was lost; `None`: it had not.
type Outcome = Option<Result<Vec<u8>, Error>>;

/// What connections that are no more have left.
#[derive(Debug)]
pub(super) struct Leftovers {
    retiring: Option<Box<Retiring>>,
    /// In the order of their connections; answers of the last one alone.
    tickets: VecDeque<(Ticket, Outcome)>,
    pub(super) events: Queue,
    pub(super) events_dropped: u64,
    /// The answer that the program has, or had last.
    current: Vec<u8>,
}

impl Leftovers {
    pub(super) fn new() -> Self {
        Self {
            retiring: None,
            tickets: VecDeque::new(),
            events: none(),
            events_dropped: 0,
            current: Vec::new(),
        }
    }

    /// Takes over what the connection of this generation has left. It stays open only where answers may still come.
    #[cold]
    pub(super) fn take_over(&mut self, mut client: Client, generation: u64, permits: &mut Permits) {
        for (_, outcome) in &mut self.tickets {
            *outcome = None;
        }
        if let Some(former) = self.retiring.take() {
            self.close(*former);
        }
        // What had been committed before the end is not lost; what is in the way of it is told by the tickets' errors.
        let _ = client.poll_for(Awaited::Nothing);
        self.take_events(&mut client);
        let retiring = Retiring { generation, client, permits: mem::take(permits) };
        let owes = retiring.client.state.tickets.first_due().is_some();
        if owes && !has_ended(&retiring.client) {
            self.retiring = Some(Box::new(retiring));
        } else {
            self.close(retiring);
        }
    }

    fn take_events(&mut self, client: &mut Client) {
        if self.events.is_empty() || !client.state.events.is_empty() {
            self.events_dropped += self.events.len() as u64;
            let events = Queue::new(KEPT, client.state.max_message_bytes, EventPolicy::DropOldest);
            let events = mem::replace(&mut client.state.events, events);
            self.events_dropped += events.dropped;
            self.events = events;
        }
    }

    fn close(&mut self, retiring: Retiring) {
        let Retiring { generation, mut client, mut permits } = retiring;
        for slot in 0..SLOTS {
            if !client.state.tickets.is_submitted(slot) {
                continue;
            }
            let ticket = Ticket { generation, ticket: client.ticket(slot) };
            let is_ready = client.state.tickets.is_ready(slot);
            let answer =
                is_ready.then(|| client.take_reply(slot, Arrived::Stored).map(|reply| reply.to_vec()));
            let lost = Error::from(ErrorKind::ConnectionLost);
            judge(permits.take(slot), answer.as_ref().map_or(Some(&lost), |answer| answer.as_ref().err()));
            self.tickets.push_back((ticket, answer));
        }
        while self.tickets.len() > KEPT {
            self.tickets.pop_front();
        }
        self.take_events(&mut client);
    }

    /// The retiring connection, if it is of this generation.
    fn retiring(&mut self, generation: u64) -> Option<&mut Retiring> {
        self.retiring.as_deref_mut().filter(|retiring| retiring.generation == generation)
    }

    fn take(&mut self, ticket: Ticket) -> Outcome {
        let at = self.tickets.iter().position(|(kept, _)| *kept == ticket)?;
        self.tickets.remove(at)?.1
    }

    fn hand_out(&mut self, ticket: Ticket, outcome: Outcome) -> Result<Reply<'_>, Error> {
        self.current = outcome.unwrap_or_else(|| Err(gone(ticket)))?;
        Ok(Reply::in_buffer(&mut self.current))
    }
}

fn none() -> Queue {
    Queue::new(1, 0, EventPolicy::DropOldest)
}

#[cold]
fn gone(ticket: Ticket) -> Error {
    lost(ticket.generation, Error::new(ErrorKind::PeerClosed, "its answer had not arrived"), true)
}

impl ReconnectingClient {
    /// Sends a request, and does not wait for its answer; waits for a connection where there is none.
    ///
    /// ```
    /// # use ringwire::{Client, Server};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("engine.sock");
    /// # let server = Server::builder(&path).build()?;
    /// # let handle = server.handle();
    /// # let serving = std::thread::spawn(move || server.serve());
    /// use ringwire::client::ECHO;
    ///
    /// let mut client = Client::builder(&path).reconnecting().build();
    /// let tickets = [client.submit(ECHO, b"one")?, client.submit(ECHO, b"two")?];
    /// assert_eq!(client.collect(tickets[1])?.to_vec(), b"two");
    /// assert_eq!((tickets[0].generation(), client.generation()), (1, 1));
    /// # drop(client);
    /// # handle.shutdown(std::time::Duration::from_secs(1));
    /// # serving.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::submit`], and as [`ReconnectingClient::call`] for the connection.
    pub fn submit(&mut self, message_type: u16, request: &[u8]) -> Result<Ticket, Error> {
        self.submit_until(message_type, request, self.default_deadline())
    }

    /// Waits for the answer to a request, and hands it out; the ticket is of no use afterwards. Never waits for a connection.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionLost`] if the ticket's connection is lost, and the answer had not arrived before; else as
    /// [`Client::collect`].
    pub fn collect(&mut self, ticket: Ticket) -> Result<Reply<'_>, Error> {
        if self.side(ticket.generation).is_none() {
            let outcome = self.left.take(ticket);
            return self.left.hand_out(ticket, outcome);
        }
        let arrived = self.arrive(ticket);
        self.hand_out(ticket.generation, arrived)
    }

    /// The answer to a request if it is there already.
    ///
    /// # Errors
    /// As [`ReconnectingClient::collect`].
    pub fn try_collect(&mut self, ticket: &Ticket) -> Result<Option<Reply<'_>>, Error> {
        if self.side(ticket.generation).is_none() {
            return self.collect(*ticket).map(Some);
        }
        let (client, slot) = self.find(*ticket)?;
        let found = if client.state.tickets.is_ready(slot) {
            Ok(Some(Arrived::Stored))
        } else {
            client.check_receiving().and_then(|()| client.poll_slot(slot))
        };
        match found {
            Ok(None) => Ok(None),
            Ok(Some(arrived)) => self.hand_out(ticket.generation, Ok((slot, arrived))).map(Some),
            Err(error) => Err(self.not_collected(ticket.generation, slot, error)),
        }
    }

    /// Waits for the answer to any of the requests that were submitted, and hands it out with its ticket: first what former
    /// connections have left, answers or [`ErrorKind::ConnectionLost`]. `None` if there is none under way.
    ///
    /// # Errors
    /// As [`Client::collect_any`]; not for the end of the connection, which each ticket is told by itself.
    #[expect(clippy::type_complexity, reason = "a type of its own would hide what it is")]
    pub fn collect_any(&mut self) -> Result<Option<(Ticket, Result<Reply<'_>, Error>)>, Error> {
        if let Some((ticket, outcome)) = self.left.tickets.pop_front() {
            return Ok(Some((ticket, self.left.hand_out(ticket, outcome))));
        }
        let retiring =
            self.left.retiring.as_mut().filter(|retiring| retiring.client.state.tickets.has_submitted());
        let generation = retiring.map_or(self.link.generation(), |retiring| retiring.generation);
        let Some((client, _)) = self.side(generation) else { return Ok(None) };
        let (slot, arrived) = if let Some(slot) = client.state.tickets.first_ready() {
            (slot, Ok(Arrived::Stored))
        } else {
            let Some((due, deadline)) = client.state.tickets.first_due() else { return Ok(None) };
            match client.check_receiving().and_then(|()| client.await_any(deadline)) {
                Ok((slot, arrived)) => (slot, Ok(arrived)),
                Err(error) => {
                    let error = self.not_collected(generation, due, error);
                    if error.kind() == ErrorKind::ResourceExhausted {
                        return Err(error);
                    }
                    (due, Err(error))
                }
            }
        };
        let Some((client, _)) = self.side(generation) else { return Ok(None) };
        let ticket = Ticket { generation, ticket: client.ticket(slot) };
        let arrived = arrived.map(|arrived| (slot, arrived));
        Ok(Some((ticket, self.hand_out(generation, arrived))))
    }

    /// As [`Client::cancel`].
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionLost`] for a ticket of a lost connection; else as [`Client::cancel`].
    pub fn cancel(&mut self, ticket: &Ticket) -> Result<(), Error> {
        let issued = ticket.ticket;
        self.find(*ticket)?.0.cancel(&issued)
    }

    /// As [`Client::give_up`]; also for a ticket of a lost connection, which is forgotten.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the ticket has been collected or given up.
    pub fn give_up(&mut self, ticket: Ticket) -> Result<(), Error> {
        let Some((client, permits)) = self.side(ticket.generation) else {
            let _ = self.left.take(ticket);
            return Ok(());
        };
        client.give_up(ticket.ticket)?;
        if let Some(permit) = permits.take(call::slot_of(ticket.correlation())) {
            permit.abandon();
        }
        Ok(())
    }

    /// The connection of this generation, if answers of it may still be there.
    fn side(&mut self, generation: u64) -> Option<(&mut Client, &mut Permits)> {
        if generation == self.link.generation() {
            return Some((self.link.client.as_mut()?, &mut self.permits));
        }
        self.left.retiring(generation).map(|retiring| (&mut retiring.client, &mut retiring.permits))
    }

    /// Hands out an answer of this generation's connection.
    fn hand_out(
        &mut self,
        generation: u64,
        arrived: Result<(usize, Arrived), Error>,
    ) -> Result<Reply<'_>, Error> {
        let (slot, arrived) = arrived?;
        if generation == self.link.generation() {
            self.link.answered();
        }
        let Some((client, permits)) = self.side(generation) else {
            return Err(ErrorKind::ConnectionLost.into());
        };
        let permit = permits.take(slot);
        let reply = client.take_reply(slot, arrived);
        judge(permit, reply.as_ref().err());
        reply
    }

    /// The connection of a ticket, and its slot.
    fn find(&mut self, ticket: Ticket) -> Result<(&mut Client, usize), Error> {
        let Some((client, _)) = self.side(ticket.generation) else { return Err(gone(ticket)) };
        match client.find(ticket.ticket) {
            Ok(slot) => Ok((client, slot)),
            // Collected before, or lost before: it answers the same, ever.
            Err(_) if has_ended(client) => Err(gone(ticket)),
            Err(error) => Err(error),
        }
    }

    /// Waits for the answer to a ticket whose connection is there.
    fn arrive(&mut self, ticket: Ticket) -> Result<(usize, Arrived), Error> {
        let (client, slot) = self.find(ticket)?;
        if client.state.tickets.is_ready(slot) {
            return Ok((slot, Arrived::Stored));
        }
        let message_type = client.state.tickets.entry(slot).message_type;
        let expected = Header::new(Kind::Response, message_type, ticket.correlation());
        match client.check_receiving().and_then(|()| client.await_slot(slot, expected)) {
            Ok(arrived) => Ok((slot, arrived)),
            Err(error) => Err(self.not_collected(ticket.generation, slot, error)),
        }
    }

    /// An answer does not come, or not now: the ticket is of use again only if the connection is.
    #[cold]
    fn not_collected(&mut self, generation: u64, slot: usize, error: Error) -> Error {
        let is_present = generation == self.link.generation();
        let Some((client, permits)) = self.side(generation) else { return error };
        let is_over = has_ended(client);
        if !is_over && error.kind() != ErrorKind::TimedOut {
            return error.executed(true);
        }
        let error = client.abandon(slot, error);
        let permit = permits.take(slot);
        let error = match (is_over, is_present) {
            (true, false) => lost(generation, error, true),
            _ => self.link.failed(error, is_over, true),
        };
        judge(permit, Some(&error));
        error
    }
}
