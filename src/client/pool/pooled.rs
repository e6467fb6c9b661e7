//! [`PooledClient`]: a connection on loan.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::book::Why;
use super::connection::Connection;
use super::shared::Shared;
use crate::client::connection::Client;

/// A [`Client`] on loan from a [`ClientPool`](super::ClientPool); dropping it gives it back.
///
/// What is in the middle of something when it is dropped is closed instead: an answer is outstanding (also that of a call
/// that timed out), a stream has not come to its end, the connection is over. Answers that have come and that nobody has
/// collected are left out, and so are events; a call timeout that the borrower has set is undone. All this also where a
/// panic of the borrower drops it.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub struct PooledClient {
    shared: Arc<Shared>,
    /// Until it is dropped or taken out.
    connection: Option<Box<Connection>>,
}

impl PooledClient {
    #[inline]
    pub(super) fn new(shared: &Arc<Shared>, connection: Box<Connection>) -> Self {
        Self { shared: Arc::clone(shared), connection: Some(connection) }
    }

    /// Closes the connection instead of giving it back: it is known to be of no use.
    pub fn discard(mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.remove(connection, Why::TakenOut);
        }
    }

    /// Takes the connection out of the pool, for good: another one may be opened in its place.
    ///
    /// ```
    /// # use ringwire::{Client, ClientPool, Stream};
    /// # let connect = |_| Ok(Client::builder("").over(Stream::pair()?.0));
    /// # let pool = ClientPool::over(connect).min_connections(1).max_connections(1).build()?;
    /// let own: Client = pool.acquire()?.detach();
    /// let _another = pool.acquire()?; // with at most one connection in the pool
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    #[must_use = "dropping it closes it"]
    pub fn detach(mut self) -> Client {
        match self.connection.take() {
            Some(connection) => {
                self.shared.forget(Why::TakenOut);
                connection.client
            }
            None => unreachable!("taken only by what consumes the loan"),
        }
    }
}

impl Deref for PooledClient {
    type Target = Client;

    #[inline]
    fn deref(&self) -> &Client {
        match &self.connection {
            Some(connection) => &connection.client,
            None => unreachable!("taken only by what consumes the loan"),
        }
    }
}

impl DerefMut for PooledClient {
    #[inline]
    fn deref_mut(&mut self) -> &mut Client {
        match &mut self.connection {
            Some(connection) => &mut connection.client,
            None => unreachable!("taken only by what consumes the loan"),
        }
    }
}

impl Drop for PooledClient {
    #[inline]
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.give_back(connection);
        }
    }
}
