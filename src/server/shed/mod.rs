//! Load shedding: middleware that refuses early what the server cannot, or must not, serve.
//!
//! | middleware | refuses | status | hint when to retry |
//! |---|---|---|---|
//! | [`SharedToken`] | everything before the right token | `unauthenticated` | none: time does not help |
//! | [`SharedToken`] | guesses, beyond ten at once and one a second of a user | `resource exhausted` | when the next is taken |
//! | [`RateLimit`] | what comes too fast on a connection, or from a user | `resource exhausted` | when the next is taken |
//! | [`MaxInFlight`] | what comes on top of enough unanswered requests | `resource exhausted` | as chosen; 10 ms |
//! | [`QueueTime`] | what has waited too long, or has too little time left | `unavailable`, `deadline exceeded` | the limit |
//!
//! The client sees the status as [`Error::status`](crate::Error::status), the hint as
//! [`Error::retry_after`](crate::Error::retry_after); hints are rounded up to milliseconds, so who waits that long is not
//! early. Notifications have no answer: refused, they are left out. Each middleware counts what it refuses; in the
//! server's own counters they are `handler_errors`.
//!
//! In which order: the token first (the builder sees to that), then [`QueueTime`], which has to see everything, then the
//! rate, then the number in flight, so that no refused request occupies a place.
//!
//! A request of more than one record has been put together in a buffer before a middleware other than the token's is
//! asked; pings and requests of unknown type reach none.
//!
//! ```
//! use ringwire::server::shed::{MaxInFlight, QueueTime, Rate, RateLimit, SharedToken};
//! use ringwire::wire::Status;
//! use ringwire::{Client, Server};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("shed.sock");
//! const WORK: u16 = 1;
//! let rate = Arc::new(RateLimit::new().per_connection(Rate::new(2, Duration::from_secs(3600))));
//! let server = Server::builder(&path)
//!     .require_token(SharedToken::new(b"of the editor and its engine")?)
//!     .middleware(QueueTime::new(Duration::from_millis(100)))
//!     .middleware(Arc::clone(&rate))
//!     .middleware(MaxInFlight::new().per_server(256).per_connection(16))
//!     .handle(WORK, |request, reply| reply.send_payload(request.payload()))
//!     .build()?;
//! let handle = server.handle();
//! let serving = std::thread::spawn(move || server.serve());
//!
//! let mut client = Client::builder(&path).token(b"of the editor and its engine").connect()?;
//! client.call(WORK, b"once")?;
//! // The token was the first of the two.
//! let refused = client.call(WORK, b"twice").unwrap_err();
//! assert_eq!(refused.status(), Some(Status::ResourceExhausted));
//! assert!(refused.retry_after().is_some_and(|after| after <= Duration::from_secs(1800)));
//! assert_eq!(rate.refused(), 1);
//! # drop(client);
//! # assert!(handle.shutdown(Duration::from_secs(10)));
//! # serving.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bucket;
mod in_flight;
mod local;
mod queue_time;
mod rate;
mod token;

pub use bucket::{Rate, TokenBucket};
pub use in_flight::MaxInFlight;
pub use queue_time::QueueTime;
pub use rate::RateLimit;
pub use token::{Authenticated, MAX_TOKEN_BYTES, SharedToken};

pub(super) use in_flight::Held;

use std::time::Duration;

/// A hint that is not early on a wire that counts milliseconds.
fn whole_ms(ns: u64) -> Duration {
    Duration::from_millis(ns.div_ceil(1_000_000))
}

fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
