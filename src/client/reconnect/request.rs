//! [`Call`]: a call with a deadline of its own, or one that may be sent again.

use std::time::Duration;

use super::ReconnectingClient;
use super::calls::copy;
use super::streams::Streaming;
use super::tickets::Ticket;
use crate::client::reply::Reply;
use crate::error::Error;
use crate::transport::Deadline;

/// A call that is about to be made: from [`ReconnectingClient::request`].
#[derive(Debug)]
#[must_use = "nothing has been sent yet"]
pub struct Call<'a> {
    client: &'a mut ReconnectingClient,
    message_type: u16,
    deadline: Option<Deadline>,
    idempotent: bool,
}

impl<'a> Call<'a> {
    /// The call ends `after` from now at the latest, the wait for a connection included.
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(Deadline::after(after));
        self
    }

    /// As [`Call::deadline`], with the point in time.
    pub fn deadline_at(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// To execute it twice is to execute it once: it may be sent again when its connection is lost.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    fn until(&self) -> Deadline {
        self.deadline.unwrap_or_else(|| self.client.default_deadline())
    }

    /// See [`ReconnectingClient::call`].
    ///
    /// # Errors
    /// As there.
    pub fn call(self, request: &[u8]) -> Result<Reply<'a>, Error> {
        let deadline = self.until();
        self.client.call_until(self.message_type, request, deadline, self.idempotent)
    }

    /// See [`ReconnectingClient::call_into`].
    ///
    /// # Errors
    /// As there.
    pub fn call_into(self, request: &[u8], buffer: &mut Vec<u8>) -> Result<usize, Error> {
        copy(self.call(request), buffer)
    }

    /// See [`ReconnectingClient::submit`]. Idempotent or not, it is not sent again.
    ///
    /// # Errors
    /// As there.
    pub fn submit(self, request: &[u8]) -> Result<Ticket, Error> {
        let deadline = self.until();
        self.client.submit_until(self.message_type, request, deadline)
    }

    /// See [`ReconnectingClient::call_streaming`]; the deadline is that of the stream as a whole.
    ///
    /// # Errors
    /// As there.
    pub fn call_streaming(self, request: &[u8]) -> Result<Streaming<'a>, Error> {
        let deadline = self.deadline.unwrap_or(Deadline::NEVER);
        self.client.call_streaming_until(self.message_type, request, deadline)
    }

    /// See [`ReconnectingClient::notify`].
    ///
    /// # Errors
    /// As there.
    pub fn notify(self, message: &[u8]) -> Result<(), Error> {
        let deadline = self.until();
        self.client.notify_until(self.message_type, message, deadline)
    }
}

impl ReconnectingClient {
    /// Begins a call that is not as the others: by its deadline, or because it may be sent again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringwire::{Client, ErrorKind};
    /// # let directory = tempfile::tempdir()?;
    /// # let mut client = Client::builder(directory.path().join("no.sock")).reconnecting().build();
    /// const READ: u16 = 7;
    /// let request = client.request(READ).idempotent().deadline(Duration::from_millis(30));
    /// let error = request.call(b"a file").unwrap_err();
    /// assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::TimedOut, Some(false)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn request(&mut self, message_type: u16) -> Call<'_> {
        Call { client: self, message_type, deadline: None, idempotent: false }
    }
}
