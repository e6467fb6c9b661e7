//! Calls, and what may be sent again.

use std::time::{Duration, Instant};

use super::ReconnectingClient;
use super::streams::Streaming;
use super::tickets::Ticket;
use crate::client::breaker::Permit;
use crate::client::connection::Client;
use crate::client::intake::{Closed, Full};
use crate::client::reply::Reply;
use crate::client::tickets::Expected;
use crate::client::waiting::Arrived;
use crate::error::{Error, ErrorKind};
use crate::transport::{Deadline, Payload, Slot, Status};
use crate::wire::{Header, Kind};

/// What one attempt at a request has come to.
pub(super) struct Tried {
    error: Error,
    /// The server may have seen it.
    sent: bool,
    /// The server said that it is going, and did not want it any more.
    refused: bool,
}

impl Tried {
    fn unsent(error: Error) -> Self {
        Self { error, sent: false, refused: false }
    }

    fn sent(error: Error) -> Self {
        Self { error, sent: true, refused: false }
    }
}

impl ReconnectingClient {
    /// Asks, and waits for the answer: as [`Client::call`], and for a connection first where there is none.
    ///
    /// # Errors
    /// As the [table](super#what-becomes-of-a-request) says; what a server answers as with [`Client::call`]; a refusal of
    /// the breaker: see [`CircuitBreaker`](crate::CircuitBreaker).
    #[inline]
    pub fn call(&mut self, message_type: u16, request: &[u8]) -> Result<Reply<'_>, Error> {
        self.call_until(message_type, request, self.default_deadline(), false)
    }

    /// As [`ReconnectingClient::call`], for a request that may be executed twice: it is sent again on the next connection
    /// when its own is lost, until its deadline, but not more often than
    /// [`max_attempts`](super::ReconnectingBuilder::max_attempts).
    ///
    /// # Errors
    /// As [`ReconnectingClient::call`].
    pub fn call_idempotent(&mut self, message_type: u16, request: &[u8]) -> Result<Reply<'_>, Error> {
        self.call_until(message_type, request, self.default_deadline(), true)
    }

    /// As [`ReconnectingClient::call`]; the response goes into `buffer`, whose former content is lost. Says how many bytes
    /// it has.
    ///
    /// # Errors
    /// As [`ReconnectingClient::call`].
    pub fn call_into(
        &mut self,
        message_type: u16,
        request: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        copy(self.call(message_type, request), buffer)
    }

    /// As [`Client::call_with`]: writes the request and reads the response in the ring.
    ///
    /// # Errors
    /// As [`ReconnectingClient::call`].
    pub fn call_with<R>(
        &mut self,
        message_type: u16,
        request_bytes: usize,
        write: impl FnOnce(&mut Slot<'_>),
        read: impl FnOnce(Payload<'_>) -> R,
    ) -> Result<R, Error> {
        let (deadline, permit, mut write) = (self.default_deadline(), self.admit()?, Some(write));
        let exchanged = self.attempt(deadline, false, |client| {
            client.check_open().map_err(Tried::unsent)?;
            // One that was not sent was not written either.
            let write = |slot: &mut Slot<'_>| {
                if let Some(write) = write.take() {
                    write(slot);
                }
            };
            let (slot, correlation) = client
                .send_request_with(message_type, request_bytes, write, deadline)
                .map_err(Tried::unsent)?;
            wait(client, slot, Header::new(Kind::Response, message_type, correlation))
        });
        let reply = self.finish(exchanged, permit)?;
        Ok(read(reply.payload()))
    }

    /// Sends a message that nobody answers. That it has been sent does not say that a server has seen it: a server that dies
    /// right behind it takes it along, and nobody is told. What must not be lost so is a call.
    ///
    /// # Errors
    /// As [`ReconnectingClient::call`], except for what a server answers.
    pub fn notify(&mut self, message_type: u16, message: &[u8]) -> Result<(), Error> {
        self.notify_until(message_type, message, self.default_deadline())
    }

    /// As [`Client::ping`]; made again when the connection is lost meanwhile.
    ///
    /// # Errors
    /// As [`ReconnectingClient::call`].
    pub fn ping(&mut self) -> Result<Duration, Error> {
        let (deadline, permit) = (self.default_deadline(), self.admit()?);
        let pinged = self.attempt(deadline, true, |client| {
            client.check_open().map_err(Tried::unsent)?;
            let (timeout, started) = (client.call_timeout, Instant::now());
            client.set_call_timeout(deadline.left());
            let pinged = client.ping().map(|_| started.elapsed());
            client.set_call_timeout(timeout);
            pinged.map_err(Tried::sent)
        });
        if pinged.is_ok() {
            self.link.answered();
        }
        judge(permit, pinged.as_ref().err());
        pinged
    }

    pub(super) fn call_until(
        &mut self,
        message_type: u16,
        request: &[u8],
        deadline: Deadline,
        idempotent: bool,
    ) -> Result<Reply<'_>, Error> {
        let permit = self.admit()?;
        let exchanged = self.attempt(deadline, idempotent, |client| {
            let (slot, correlation) = send(client, message_type, request, Expected::Response, deadline)?;
            let (slot, arrived) = wait(client, slot, Header::new(Kind::Response, message_type, correlation))?;
            if idempotent && matches!(client.state.closed, Some(Closed::Goodbye(_))) {
                return look_at_refusal(client, slot, arrived);
            }
            Ok((slot, arrived))
        });
        self.finish(exchanged, permit)
    }

    pub(super) fn notify_until(
        &mut self,
        message_type: u16,
        message: &[u8],
        deadline: Deadline,
    ) -> Result<(), Error> {
        let permit = self.admit()?;
        let sent = self.attempt(deadline, false, |client| {
            client.check_open().map_err(Tried::unsent)?;
            let is_whole = message.len() + size_of::<u64>() <= client.max_record_bytes();
            client.notify_until(message_type, message, deadline).map_err(|error| {
                let sent = !is_whole && error.kind() != ErrorKind::MessageTooLarge;
                Tried { error, sent, refused: false }
            })
        });
        match &sent {
            // Nothing has been heard of the server yet.
            Ok(()) => judge(permit, Some(&ErrorKind::Cancelled.into())),
            Err(error) => judge(permit, Some(error)),
        }
        sent
    }

    pub(super) fn submit_until(
        &mut self,
        message_type: u16,
        request: &[u8],
        deadline: Deadline,
    ) -> Result<Ticket, Error> {
        let permit = self.admit()?;
        let submitted = self.attempt(deadline, false, |client| {
            if client.state.is_full() {
                return Err(Tried::unsent(client.state.blocked(Full::Replies)));
            }
            let (slot, _) = send(client, message_type, request, Expected::Response, deadline)?;
            Ok((slot, client.state.tickets.hand_out(slot)))
        });
        match submitted {
            Ok((slot, ticket)) => {
                self.permits.keep(slot, permit);
                Ok(Ticket { generation: self.link.generation(), ticket })
            }
            Err(error) => {
                judge(permit, Some(&error));
                Err(error)
            }
        }
    }

    pub(super) fn call_streaming_until(
        &mut self,
        message_type: u16,
        request: &[u8],
        deadline: Deadline,
    ) -> Result<Streaming<'_>, Error> {
        let permit = self.admit()?;
        let sent = self.attempt(deadline, false, |client| {
            client.state.clear_early();
            send(client, message_type, request, Expected::Items, deadline)
        });
        match sent {
            Ok((slot, correlation)) => {
                let generation = self.link.generation();
                let items = self.link.live()?.items(slot, message_type, correlation);
                Ok(Streaming { items, generation, permit })
            }
            Err(error) => {
                judge(permit, Some(&error));
                Err(error)
            }
        }
    }

    /// Makes an attempt at a request on the present connection, or the next; and further ones, where it was not sent, or
    /// may be sent twice.
    fn attempt<T>(
        &mut self,
        deadline: Deadline,
        idempotent: bool,
        mut act: impl FnMut(&mut Client) -> Result<T, Tried>,
    ) -> Result<T, Error> {
        let (mut may_have_executed, mut attempts) = (false, 0_u32);
        let most = self.link.max_attempts.unwrap_or(u32::MAX);
        loop {
            if let Err(error) = self.connected(deadline) {
                return Err(error.executed(may_have_executed));
            }
            let client = self.link.live()?;
            let Tried { error, sent, refused } = match act(client) {
                Ok(done) => return Ok(done),
                Err(tried) => tried,
            };
            let said_goodbye = matches!(client.state.closed, Some(Closed::Goodbye(_)));
            may_have_executed |= sent;
            attempts += 1;
            let is_over = self.link.has_ended() || said_goodbye && (!sent || refused);
            let error = self.link.failed(error, is_over, may_have_executed);
            let again = is_over && (!sent || idempotent) && attempts < most && !deadline.has_passed();
            if !again {
                return Err(error);
            }
        }
    }

    /// Hands out an answer that has arrived.
    pub(super) fn finish(
        &mut self,
        exchanged: Result<(usize, Arrived), Error>,
        permit: Option<Permit>,
    ) -> Result<Reply<'_>, Error> {
        let reply = match exchanged {
            Ok((slot, arrived)) => {
                self.link.answered();
                self.link.live()?.take_reply(slot, arrived)
            }
            Err(error) => Err(error),
        };
        judge(permit, reply.as_ref().err());
        reply
    }
}

pub(super) fn judge(permit: Option<Permit>, error: Option<&Error>) {
    if let Some(permit) = permit {
        permit.judge(error);
    }
}

pub(super) fn copy(reply: Result<Reply<'_>, Error>, buffer: &mut Vec<u8>) -> Result<usize, Error> {
    buffer.clear();
    reply?.payload().append_to(buffer);
    Ok(buffer.len())
}

/// Sends a request; says its slot and its correlation.
fn send(
    client: &mut Client,
    message_type: u16,
    request: &[u8],
    expected: Expected,
    deadline: Deadline,
) -> Result<(usize, u64), Tried> {
    let (slot, correlation) = client.next_slot().map_err(Tried::unsent)?;
    client.send_request(message_type, request, expected, deadline).map_err(|error| {
        // Half of it is there: a handler that takes it piece by piece has begun.
        let sent = client.state.tickets.entry(slot).withdrawn == correlation;
        Tried { error, sent, refused: false }
    })
}

fn wait(client: &mut Client, slot: usize, expected: Header) -> Result<(usize, Arrived), Tried> {
    client.await_or_abandon(slot, expected).map(|arrived| (slot, arrived)).map_err(Tried::sent)
}

/// Behind a goodbye: whether the answer says that the server does not take requests any more.
#[cold]
fn look_at_refusal(client: &mut Client, slot: usize, arrived: Arrived) -> Result<(usize, Arrived), Tried> {
    let kind = match arrived {
        Arrived::InRing(found) => found.header().kind,
        Arrived::Stored | Arrived::Streamed => client.state.tickets.entry(slot).kind,
    };
    if kind != Kind::Error {
        return Ok((slot, arrived));
    }
    match client.take_reply(slot, arrived) {
        // An error it is.
        Ok(_) => Err(Tried::sent(ErrorKind::PeerClosed.into())),
        Err(error) => {
            let refused = error.status() == Some(Status::Unavailable);
            Err(Tried { error, sent: true, refused })
        }
    }
}
