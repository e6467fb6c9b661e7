//! Calls: one request, one response.

use std::mem;

use super::connection::Client;
use super::reply::Reply;
use super::tickets::Expected;
use super::waiting::Arrived;
use crate::error::Error;
use crate::transport::{Deadline, Payload, Slot};
use crate::wire::{Header, Kind};

impl Client {
    /// Asks, and waits for the answer.
    ///
    /// What else arrives meanwhile is kept: events in their queue, responses to other [tickets](super::Ticket) until they
    /// are collected.
    ///
    /// # Errors
    /// - [`ErrorKind::Status`]: the server answered with a status: see [`Error::status`], [`Error::retry_after`].
    /// - [`ErrorKind::TimedOut`]: the [call timeout](super::ClientBuilder::call_timeout) has passed; the server is told,
    ///   and the answer left out when it comes.
    /// - [`ErrorKind::MessageTooLarge`]: the request, for the server's limit, or the response for this side's.
    /// - [`ErrorKind::ResourceExhausted`]: 64 requests are under way, or what has arrived in front of the answer has no
    ///   place: collect replies, take events.
    /// - [`ErrorKind::InvalidInput`]: the server answers this type with a stream.
    /// - [`ErrorKind::PeerClosed`], [`ErrorKind::PeerDied`], [`ErrorKind::CorruptPeer`]: the connection is over.
    ///
    /// [`ErrorKind::Status`]: crate::ErrorKind::Status
    /// [`ErrorKind::TimedOut`]: crate::ErrorKind::TimedOut
    /// [`ErrorKind::MessageTooLarge`]: crate::ErrorKind::MessageTooLarge
    /// [`ErrorKind::ResourceExhausted`]: crate::ErrorKind::ResourceExhausted
    /// [`ErrorKind::InvalidInput`]: crate::ErrorKind::InvalidInput
    /// [`ErrorKind::PeerClosed`]: crate::ErrorKind::PeerClosed
    /// [`ErrorKind::PeerDied`]: crate::ErrorKind::PeerDied
    /// [`ErrorKind::CorruptPeer`]: crate::ErrorKind::CorruptPeer
    #[inline]
    pub fn call(&mut self, message_type: u16, request: &[u8]) -> Result<Reply<'_>, Error> {
        self.call_until(message_type, request, self.default_deadline())
    }

    /// Asks, and puts the response into `buffer`, whose former content is lost; says how many bytes it has.
    ///
    /// A long response, which travels in fragments, goes from the ring to `buffer` and nowhere else.
    ///
    /// # Errors
    /// As [`Client::call`].
    #[inline]
    pub fn call_into(
        &mut self,
        message_type: u16,
        request: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        self.call_into_until(message_type, request, buffer, self.default_deadline())
    }

    /// Asks with a request that `write` writes into the ring, at most `request_bytes` long
    /// ([one record](Client::max_record_bytes) at the most), and reads the response where it lies.
    ///
    /// Nothing is copied that the caller does not copy. What `write` leaves out of `request_bytes` is not sent.
    ///
    /// ```
    /// # use ringwire::{Client, Stream, Header, Kind};
    /// # let (stream, mut server) = Stream::pair()?;
    /// # let mut client = Client::builder("").over(stream);
    /// # std::thread::spawn(move || {
    /// #     let request = server.receive()?;
    /// #     let (asked, sum) = (request.header(), { let mut s = 0; request.payload().take_words(|word| s += word); s });
    /// #     drop(request);
    /// #     server.send(Header::new(Kind::Response, asked.message_type, asked.correlation), &sum.to_ne_bytes())
    /// # });
    /// // Adds up 100 numbers that are computed straight into the ring.
    /// const SUM: u16 = 7;
    /// let mut next = 0;
    /// let sum = client.call_with(
    ///     SUM,
    ///     800,
    ///     |request| {
    ///         request.write_words(100, || { next += 1; next });
    ///     },
    ///     |response| response.read_at::<u64>(0),
    /// )?;
    /// assert_eq!(sum, Some(5_050));
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`].
    #[inline]
    pub fn call_with<R>(
        &mut self,
        message_type: u16,
        request_bytes: usize,
        write: impl FnOnce(&mut Slot<'_>),
        read: impl FnOnce(Payload<'_>) -> R,
    ) -> Result<R, Error> {
        self.call_with_until(message_type, request_bytes, write, read, self.default_deadline())
    }

    #[inline(always)]
    pub(super) fn call_until(
        &mut self,
        message_type: u16,
        request: &[u8],
        deadline: Deadline,
    ) -> Result<Reply<'_>, Error> {
        let (slot, correlation) = self.send_request(message_type, request, Expected::Response, deadline)?;
        let expected = Header::new(Kind::Response, message_type, correlation);
        self.await_reply(slot, expected)
    }

    #[inline(always)]
    pub(super) fn call_with_until<R>(
        &mut self,
        message_type: u16,
        request_bytes: usize,
        write: impl FnOnce(&mut Slot<'_>),
        read: impl FnOnce(Payload<'_>) -> R,
        deadline: Deadline,
    ) -> Result<R, Error> {
        let (slot, correlation) = self.send_request_with(message_type, request_bytes, write, deadline)?;
        let expected = Header::new(Kind::Response, message_type, correlation);
        let reply = self.await_reply(slot, expected)?;
        Ok(read(reply.payload()))
    }

    #[inline(always)]
    pub(super) fn call_into_until(
        &mut self,
        message_type: u16,
        request: &[u8],
        buffer: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<usize, Error> {
        let (slot, correlation) = self.send_request(message_type, request, Expected::Response, deadline)?;
        let expected = Header::new(Kind::Response, message_type, correlation);
        buffer.clear();
        if self.state.has_begun(slot) {
            self.await_reply(slot, expected)?.payload().append_to(buffer);
            return Ok(buffer.len());
        }
        if let Some(place) = self.await_plainly(slot, expected) {
            self.take_plain_reply(slot, place).payload().append_to(buffer);
            return Ok(buffer.len());
        }
        // Pieces of a long response go to where they are wanted: the caller's buffer stands in for the slot's.
        self.swap_bytes(slot, buffer);
        let arrived = self.await_slot(slot, expected);
        let called = match arrived {
            Ok(Arrived::InRing(_)) => {
                self.swap_bytes(slot, buffer);
                let reply = self.take_reply(slot, arrived?)?;
                reply.payload().append_to(buffer);
                return Ok(buffer.len());
            }
            Ok(arrived) => self.take_reply(slot, arrived).map(mem::forget),
            Err(error) => Err(self.abandon(slot, error)),
        };
        self.swap_bytes(slot, buffer);
        if called.is_err() {
            buffer.clear();
        }
        called.map(|()| buffer.len())
    }

    #[inline]
    fn swap_bytes(&mut self, slot: usize, buffer: &mut Vec<u8>) {
        mem::swap(buffer, &mut self.state.tickets.entry_mut(slot).bytes);
    }
}
