//! [`Connection`]: a client with what the pool knows of it, and how it finds out more.

use std::mem;
use std::time::Duration;

use super::clock;
use crate::client::connection::Client;
use crate::client::intake::Awaited;
use crate::error::Error;
use crate::transport::Deadline;
use crate::wire::call;

/// Who was idle for longer than this is looked at, with one system call, before it is lent: what has died since then is
/// seen by that.
const LOOK_AFTER_NS: u64 = 20_000_000;

/// A connection of the pool.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    /// What the borrower may have changed, as it was.
    call_timeout: Option<Duration>,
    /// When it is too old; later connections differ a little, lest all of a pool's be opened anew at once.
    pub(super) expires_ns: u64,
    /// When it was given back.
    pub(super) idle_since_ns: u64,
    /// When it was last known to answer.
    pub(super) checked_ns: u64,
    /// The pool's count of broken connections when this one was last looked at.
    pub(super) seen_broken: u64,
}

/// What has to be done before an idle connection is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    Nothing,
    /// Whether the server lives: one system call.
    Look,
    Ping,
    /// It is too old.
    Close,
}

impl Connection {
    pub(super) fn new(client: Client, number: u64, max_lifetime: Option<Duration>, seen_broken: u64) -> Self {
        let now = clock::now_ns();
        let lifetime = clock::ns_or_never(max_lifetime);
        // Up to a tenth less: sixteen steps, in an order that neighbours do not share.
        let less = lifetime / 160 * (number.wrapping_mul(7) % 16);
        Self {
            call_timeout: client.call_timeout,
            client,
            expires_ns: now.saturating_add(if lifetime == u64::MAX { lifetime } else { lifetime - less }),
            idle_since_ns: now,
            checked_ns: now,
            seen_broken,
        }
    }

    #[inline]
    pub(super) fn is_expired(&self, now_ns: u64) -> bool {
        now_ns >= self.expires_ns
    }

    /// What it takes to lend it now.
    #[inline]
    pub(super) fn care(&self, now_ns: u64, check_after_ns: u64, broken: u64) -> Care {
        let idle_ns = now_ns.saturating_sub(self.idle_since_ns.max(self.checked_ns));
        if self.is_expired(now_ns) {
            Care::Close
        } else if idle_ns > check_after_ns {
            Care::Ping
        } else if idle_ns > LOOK_AFTER_NS || self.seen_broken != broken {
            Care::Look
        } else {
            Care::Nothing
        }
    }

    /// Whether nothing at all is under way, by what this side knows and by one look into the ring; no system call.
    #[inline]
    pub(super) fn is_at_rest(&mut self) -> bool {
        if !self.client.state.is_at_rest() {
            return false;
        }
        let (_, receiver) = self.client.stream.halves();
        matches!(receiver.poll_any_record(), Ok(None))
    }

    /// Takes in what has come, and leaves out what nobody will ask for: events, answers that nobody collected. Says whether
    /// nothing is under way then, and the server is there: one system call.
    #[cold]
    pub(super) fn settle(&mut self) -> bool {
        let client = &mut self.client;
        if client.state.closed.is_some() {
            return false;
        }
        // Before, so that there is room; and after.
        while client.state.events.pop().is_some() {}
        let looked = look(client);
        while client.state.events.pop().is_some() {}
        for slot in 0..call::SLOTS {
            if client.state.tickets.is_ready(slot) {
                client.state.abandon(slot);
            }
        }
        looked.is_ok() && self.is_at_rest()
    }

    /// Whether the connection is over, as opposed to in the middle of something.
    pub(super) fn is_over(&self) -> bool {
        self.client.state.closed.is_some()
    }

    /// Undoes what the borrower chose.
    #[inline]
    pub(super) fn reset(&mut self) {
        self.client.call_timeout = self.call_timeout;
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// As [`Client::ping`]: the connection is of no use then, whatever the error.
    pub(super) fn ping(&mut self, deadline: Deadline) -> Result<(), Error> {
        let usual = mem::replace(&mut self.client.call_timeout, deadline.left());
        let answered = self.client.ping();
        self.client.call_timeout = usual;
        answered.map(drop)
    }
}

/// Takes in what is there, and looks whether the peer is: one system call.
fn look(client: &mut Client) -> Result<(), Error> {
    client.poll_for(Awaited::Nothing)?;
    let (_, receiver) = client.stream.halves();
    receiver.check_peer().map_err(|error| client.ended(error))
}
