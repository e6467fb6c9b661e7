//! [`Items`]: a streamed response, item by item.

use super::connection::Client;
use super::intake::parse_status;
use super::reply::Reply;
use super::tickets::Expected;
use super::waiting::{Arrived, status_error, too_large};
use crate::error::Error;
use crate::transport::{Deadline, Payload};
use crate::wire::{Header, Kind, Status};

impl Client {
    /// Asks for a streamed response.
    ///
    /// The server is never further ahead than the ring is long. What else arrives meanwhile is kept, as in
    /// [`Client::call`]. A response in one piece is a stream of one item. The [call
    /// timeout](super::ClientBuilder::call_timeout) does not count here; a deadline by [`Client::request`] does, for the
    /// stream as a whole.
    ///
    /// ```
    /// # use ringwire::{Client, Stream, Header, Kind};
    /// # let (stream, mut server) = Stream::pair()?;
    /// # let mut client = Client::builder("").over(stream);
    /// # let thread = std::thread::spawn(move || -> Result<(), ringwire::Error> {
    /// #     for _ in 0..2 {
    /// #         let asked = server.receive()?.header();
    /// #         for word in ["fn", "main", "()"] {
    /// #             server.send(Header::new(Kind::StreamItem, asked.message_type, asked.correlation), word.as_bytes())?;
    /// #         }
    /// #         server.send(Header::new(Kind::StreamEnd, asked.message_type, asked.correlation), &[0; 8])?;
    /// #     }
    /// #     Ok(())
    /// # });
    /// const COMPLETE: u16 = 7;
    /// let mut tokens = client.call_streaming(COMPLETE, b"an empty program")?;
    /// while let Some(token) = tokens.next_item()? {
    ///     assert!(token.len() <= 4); // in the ring until it is dropped
    /// }
    /// drop(tokens);
    ///
    /// // Or as an iterator of vectors. Who stops early cancels the rest.
    /// let first = client.call_streaming(COMPLETE, b"an empty program")?.next().unwrap()?;
    /// assert_eq!(first, b"fn");
    /// # drop(client);
    /// # let _ = thread.join();
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::call`], except for what a server answers: see [`Items::next_item`].
    pub fn call_streaming(&mut self, message_type: u16, request: &[u8]) -> Result<Items<'_>, Error> {
        self.call_streaming_until(message_type, request, Deadline::NEVER)
    }

    pub(super) fn call_streaming_until(
        &mut self,
        message_type: u16,
        request: &[u8],
        deadline: Deadline,
    ) -> Result<Items<'_>, Error> {
        self.state.clear_early();
        let (slot, correlation) = self.send_request(message_type, request, Expected::Items, deadline)?;
        Ok(self.items(slot, message_type, correlation))
    }

    pub(super) fn items(&mut self, slot: usize, message_type: u16, correlation: u64) -> Items<'_> {
        let item = Header::new(Kind::StreamItem, message_type, correlation);
        Items { client: self, slot, item, early: Vec::new(), ended: false }
    }
}

/// The items of a streamed response, as they come: from [`Client::call_streaming`].
///
/// Dropped before the end it cancels the request: the server is told, and what still comes is left out.
#[derive(Debug)]
pub struct Items<'a> {
    client: &'a mut Client,
    slot: usize,
    /// What the header of each item is, if it is one record.
    item: Header,
    /// The item in the caller's hand, if it came before its request had been sent to its end.
    early: Vec<u8>,
    ended: bool,
}

impl Items<'_> {
    /// Waits for the next item; `None` at the end of the stream. The item lies in the ring until it is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Status`] if the server ended the stream with one, [`ErrorKind::TimedOut`] by the deadline,
    /// [`ErrorKind::MessageTooLarge`] for an item beyond the limit; else as [`Client::call`]. Each ends the stream.
    ///
    /// [`ErrorKind::Status`]: crate::ErrorKind::Status
    /// [`ErrorKind::TimedOut`]: crate::ErrorKind::TimedOut
    /// [`ErrorKind::MessageTooLarge`]: crate::ErrorKind::MessageTooLarge
    #[inline]
    pub fn next_item(&mut self) -> Result<Option<Reply<'_>>, Error> {
        if self.ended {
            return Ok(None);
        }
        if let Some(item) = self.client.state.pop_early() {
            self.early = item;
            return Ok(Some(Reply::in_buffer(&mut self.early)));
        }
        if self.client.state.tickets.entry(self.slot).fault.is_some() {
            return Err(self.refuse_long_item());
        }
        if let Some(place) = self.client.await_plainly(self.slot, self.item) {
            let (_, receiver) = self.client.stream.halves();
            return Ok(Some(Reply::in_ring(receiver, place)));
        }
        self.next_slowly()
    }

    #[cold]
    #[inline(never)]
    fn next_slowly(&mut self) -> Result<Option<Reply<'_>>, Error> {
        match self.client.await_slot(self.slot, self.item) {
            Ok(Arrived::InRing(found)) if found.is(self.item) => {
                let (_, receiver) = self.client.stream.halves();
                Ok(Some(Reply::in_ring(receiver, found.place())))
            }
            Ok(arrived) => self.take_other(arrived),
            Err(error) => {
                self.ended = true;
                Err(self.client.abandon(self.slot, error))
            }
        }
    }

    /// An item that came in pieces, or the end.
    #[cold]
    fn take_other(&mut self, arrived: Arrived) -> Result<Option<Reply<'_>>, Error> {
        let entry = self.client.state.tickets.entry(self.slot);
        let kind = match arrived {
            Arrived::InRing(found) => found.header().kind,
            Arrived::Stored | Arrived::Streamed => entry.kind,
        };
        match kind {
            Kind::StreamItem if entry.fault.is_some() => Err(self.refuse_long_item()),
            Kind::StreamItem => Ok(Some(Reply::in_buffer(self.client.state.take_bytes(self.slot)))),
            Kind::StreamEnd => {
                self.ended = true;
                self.take_end(arrived).map(|()| None)
            }
            // One response, or an error.
            _ => {
                self.ended = true;
                self.client.take_reply(self.slot, arrived).map(Some)
            }
        }
    }

    #[cold]
    fn refuse_long_item(&mut self) -> Error {
        self.ended = true;
        let error = too_large(self.client.state.max_message_bytes);
        self.client.abandon(self.slot, error)
    }

    fn take_end(&mut self, arrived: Arrived) -> Result<(), Error> {
        let said = match arrived {
            Arrived::InRing(found) => {
                let (_, receiver) = self.client.stream.halves();
                let said = parse_status(&receiver.record_payload(&found));
                receiver.release_record(found);
                said
            }
            Arrived::Stored | Arrived::Streamed => {
                parse_status(&Payload::private(&self.client.state.tickets.entry(self.slot).bytes))
            }
        };
        self.client.state.finish(self.slot);
        if said.status == Status::Ok {
            Ok(())
        } else {
            Err(status_error(said, self.client.state.tickets.entry(self.slot).deadline))
        }
    }
}

/// Each item in a vector of its own. Behind an error comes nothing.
impl Iterator for Items<'_> {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_item().map(|item| item.map(|item| item.to_vec())).transpose()
    }
}

impl Drop for Items<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.client.state.clear_early();
            self.client.tell_cancelled(self.slot);
            self.client.state.abandon(self.slot);
        }
    }
}
