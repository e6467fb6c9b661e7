//! [`RateLimit`]: so many requests in so much time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::bucket::{Rate, TokenBucket};
use super::local::PerConnection;
use super::whole_ms;
use crate::server::{Context, Failure, Flow, Middleware};
use crate::transport::{Counter, Deadline};

/// Refuses what comes too fast: [`Status::ResourceExhausted`](crate::wire::Status::ResourceExhausted), with the time until
/// the next request is taken.
///
/// Each connection has a [`TokenBucket`] of its own, each user (by uid, as the kernel vouches for it) one for all of its
/// connections; a request takes a token of both, a refused one of neither. No lock per request: a connection finds its
/// user's bucket once.
///
/// ```
/// use ringwire::server::shed::{Rate, RateLimit};
/// let limit = RateLimit::new()
///     .per_connection(Rate::per_second(1_000).burst(50))
///     .per_uid(Rate::per_second(5_000));
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("rate.sock");
/// let server = ringwire::Server::builder(path).middleware(limit).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "it limits nothing until a server has it"]
pub struct RateLimit {
    connection: Option<Rate>,
    uid: Option<Rate>,
    users: Users,
    local: PerConnection,
    refused: Counter,
}

/// The buckets of one connection.
struct Buckets {
    connection: Option<TokenBucket>,
    user: Option<Arc<TokenBucket>>,
}

impl RateLimit {
    /// No limit so far.
    pub fn new() -> Self {
        let (users, local) = (Users::default(), PerConnection::new());
        Self { connection: None, uid: None, users, local, refused: Counter::new(0) }
    }

    /// At most `rate` on each connection.
    pub fn per_connection(mut self, rate: Rate) -> Self {
        self.connection = Some(rate);
        self
    }

    /// At most `rate` on all connections of a user together.
    pub fn per_uid(mut self, rate: Rate) -> Self {
        self.uid = Some(rate);
        self
    }

    /// Requests refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    #[cold]
    fn refuse(&self, whose: &'static str, wait_ns: u64) -> Failure {
        self.refused.add(1);
        let after = whole_ms(wait_ns);
        Failure::resource_exhausted(format!("{whose} sends too fast: retry in {after:?}")).retry_after(after)
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for RateLimit {
    fn before(&self, context: &Context<'_>) -> Result<Flow, Failure> {
        let now_ns = Deadline::now_ns();
        let info = context.connection();
        let make = || Buckets {
            connection: self.connection.map(TokenBucket::new),
            user: self.uid.map(|rate| self.users.bucket(info.peer().uid, rate, now_ns)),
        };
        self.local.with(info, make, |buckets| {
            // Nobody else takes from the connection's own: a look is enough until the user's has been asked.
            if let Some(Err(wait_ns)) = buckets.connection.as_ref().map(|bucket| bucket.check(now_ns)) {
                return Err(self.refuse("the connection", wait_ns));
            }
            if let Some(Err(wait_ns)) = buckets.user.as_ref().map(|bucket| bucket.take(now_ns)) {
                return Err(self.refuse("the user", wait_ns));
            }
            let _: Option<Result<(), u64>> = buckets.connection.as_ref().map(|bucket| bucket.take(now_ns));
            Ok(Flow::Continue)
        })
    }
}

/// Users that are remembered before those with full buckets are forgotten.
const MAX_IDLE_USERS: usize = 256;

/// A bucket for each user.
#[derive(Debug, Default)]
pub(super) struct Users {
    buckets: Mutex<BTreeMap<u32, Arc<TokenBucket>>>,
}

impl Users {
    pub(super) fn bucket(&self, uid: u32, rate: Rate, now_ns: u64) -> Arc<TokenBucket> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_IDLE_USERS && !buckets.contains_key(&uid) {
            buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_full(now_ns));
        }
        Arc::clone(buckets.entry(uid).or_insert_with(|| Arc::new(TokenBucket::new(rate))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_a_bucket_each_and_are_forgotten_when_it_is_full() {
        let (users, rate) = (Users::default(), Rate::per_second(1));
        let first = users.bucket(7, rate, 0);
        assert!(first.take(0).is_ok() && users.bucket(7, rate, 0).take(0).is_err());
        assert!(users.bucket(8, rate, 0).take(0).is_ok(), "another user");
        let count = || users.buckets.lock().unwrap().len();
        for uid in 100..100 + 2 * u32::try_from(MAX_IDLE_USERS).unwrap() {
            drop(users.bucket(uid, rate, 500));
        }
        assert!(count() <= MAX_IDLE_USERS);
        assert!(users.bucket(8, rate, 500).take(500).is_err(), "not full: kept");
        drop(users.bucket(9, rate, 2_000_000_000));
        assert!(users.bucket(7, rate, 2_000_000_000).take(0).is_err(), "in use: kept");
    }
}
