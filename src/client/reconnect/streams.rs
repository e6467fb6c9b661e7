//! [`Streaming`]: a streamed response of a connection that may be lost.

use super::ReconnectingClient;
use super::calls::judge;
use super::link::lost;
use crate::client::breaker::Permit;
use crate::client::items::Items;
use crate::client::reply::Reply;
use crate::error::{Error, ErrorKind};
use crate::transport::Deadline;

/// The items of a streamed response, as they come: from [`ReconnectingClient::call_streaming`]. As [`Items`]; a connection
/// that is lost amid the stream ends it with [`ErrorKind::ConnectionLost`].
#[derive(Debug)]
pub struct Streaming<'a> {
    pub(super) items: Items<'a>,
    pub(super) generation: u64,
    pub(super) permit: Option<Permit>,
}

impl ReconnectingClient {
    /// As [`Client::call_streaming`](crate::Client::call_streaming), and waits for a connection first where there is none.
    ///
    /// # Errors
    /// As [`ReconnectingClient::call`], except for what a server answers: see [`Streaming::next_item`].
    pub fn call_streaming(&mut self, message_type: u16, request: &[u8]) -> Result<Streaming<'_>, Error> {
        self.call_streaming_until(message_type, request, Deadline::NEVER)
    }
}

impl Streaming<'_> {
    /// Waits for the next item; `None` at the end of the stream. The item lies in the ring until it is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionLost`]: what came before it was good, the rest does not come; else as [`Items::next_item`].
    pub fn next_item(&mut self) -> Result<Option<Reply<'_>>, Error> {
        let next = self.items.next_item();
        match next {
            Ok(Some(item)) => Ok(Some(item)),
            Ok(None) => {
                judge(self.permit.take(), None);
                Ok(None)
            }
            Err(error) => {
                let is_over = matches!(
                    error.kind(),
                    ErrorKind::PeerClosed | ErrorKind::PeerDied | ErrorKind::CorruptPeer
                );
                let error = if is_over { lost(self.generation, error, true) } else { error };
                judge(self.permit.take(), Some(&error));
                Err(error)
            }
        }
    }
}

/// Each item in a vector of its own. Behind an error comes nothing.
impl Iterator for Streaming<'_> {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_item().map(|item| item.map(|item| item.to_vec())).transpose()
    }
}

impl Drop for Streaming<'_> {
    fn drop(&mut self) {
        // Who stops early says nothing about the server.
        if let Some(permit) = self.permit.take() {
            permit.abandon();
        }
    }
}
