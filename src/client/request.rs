//! [`Call`]: a call with a deadline of its own.

use std::time::Duration;

use super::connection::Client;
use super::items::Items;
use super::reply::Reply;
use super::tickets::Ticket;
use crate::error::Error;
use crate::transport::{Deadline, Payload, Slot};

/// A call that is about to be made: from [`Client::request`].
#[derive(Debug)]
#[must_use = "nothing has been sent yet"]
pub struct Call<'a> {
    client: &'a mut Client,
    message_type: u16,
    deadline: Option<Deadline>,
}

impl Client {
    /// Begins a call that is not as the others, by its deadline.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringwire::{Client, ErrorKind, Stream};
    /// # let (stream, _server) = Stream::pair()?;
    /// # let mut client = Client::builder("").over(stream);
    /// const SLOW: u16 = 7;
    /// let error = client.request(SLOW).deadline(Duration::from_millis(5)).call(b"?").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TimedOut);
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    #[inline]
    pub fn request(&mut self, message_type: u16) -> Call<'_> {
        Call { client: self, message_type, deadline: None }
    }
}

impl<'a> Call<'a> {
    /// The call ends `after` from now at the latest. The server knows: it skips the request if it is late already, and its
    /// handler can ask how much time is left.
    #[inline]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(Deadline::after(after));
        self
    }

    /// As [`Call::deadline`], with the point in time: that of a request which this one serves, say.
    #[inline]
    pub fn deadline_at(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    #[inline(always)]
    fn until(&self) -> Deadline {
        self.deadline.unwrap_or_else(|| self.client.default_deadline())
    }

    /// See [`Client::call`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn call(self, request: &[u8]) -> Result<Reply<'a>, Error> {
        let deadline = self.until();
        self.client.call_until(self.message_type, request, deadline)
    }

    /// See [`Client::call_into`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn call_into(self, request: &[u8], buffer: &mut Vec<u8>) -> Result<usize, Error> {
        let deadline = self.until();
        self.client.call_into_until(self.message_type, request, buffer, deadline)
    }

    /// See [`Client::call_with`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn call_with<R>(
        self,
        request_bytes: usize,
        write: impl FnOnce(&mut Slot<'_>),
        read: impl FnOnce(Payload<'_>) -> R,
    ) -> Result<R, Error> {
        let deadline = self.until();
        self.client.call_with_until(self.message_type, request_bytes, write, read, deadline)
    }

    /// See [`Client::submit`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn submit(self, request: &[u8]) -> Result<Ticket, Error> {
        let deadline = self.until();
        self.client.submit_until(self.message_type, request, deadline)
    }

    /// See [`Client::call_streaming`].
    ///
    /// # Errors
    /// As there.
    pub fn call_streaming(self, request: &[u8]) -> Result<Items<'a>, Error> {
        let deadline = self.deadline.unwrap_or(Deadline::NEVER);
        self.client.call_streaming_until(self.message_type, request, deadline)
    }

    /// See [`Client::notify`].
    ///
    /// # Errors
    /// As there.
    pub fn notify(self, message: &[u8]) -> Result<(), Error> {
        let deadline = self.until();
        self.client.notify_until(self.message_type, message, deadline)
    }
}
