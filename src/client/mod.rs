//! The client: calls, pipelined and streamed ones, and events, over one connection and in one thread.
//!
//! # A call
//!
//! ```
//! # use std::thread;
//! # use ringwire::{Header, Kind, Listener};
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("engine.sock");
//! # let mut listener = Listener::bind(&path)?;
//! # let server = thread::spawn(move || -> Result<(), ringwire::Error> {
//! #     let (mut stream, mut request) = (listener.accept()?, Vec::new());
//! #     while let Ok(asked) = stream.receive_into(&mut request) {
//! #         stream.send(Header::new(Kind::Response, asked.message_type, asked.correlation), &request)?;
//! #     }
//! #     Ok(())
//! # });
//! use ringwire::Client;
//! use ringwire::client::ECHO;
//!
//! let mut client = Client::connect(&path)?;
//! for name in ["world", "ring"] {
//!     let reply = client.call(ECHO, name.as_bytes())?;
//!     println!("hello, {}", String::from_utf8_lossy(&reply.to_vec()));
//! }
//! println!("served by {}", client.server().credentials);
//! # client.close();
//! # server.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Client::call_into`] brings the response into a buffer of the caller, [`Client::call_with`] writes the request and
//! reads the response in the ring, [`Client::call_typed`] sends and receives values. [`Client::request`] gives a call a
//! deadline of its own. [`rehearse_until`] sees to it that a call is as short as in a loop though it comes rarely.
//!
//! # Pipelining
//!
//! ```
//! # use std::thread;
//! # use ringwire::{Client, Header, Kind, Stream};
//! # let (stream, mut engine) = Stream::pair()?;
//! # let server = thread::spawn(move || {
//! #     let mut request = Vec::new();
//! #     while let Ok(asked) = engine.receive_into(&mut request) {
//! #         let answer = Header::new(Kind::Response, asked.message_type, asked.correlation);
//! #         if engine.send(answer, &request).is_err() { break }
//! #     }
//! # });
//! # let mut client = Client::builder("").over(stream);
//! const CHECK: u16 = 7;
//! let files = ["a.rs", "b.rs", "c.rs"];
//! let mut tickets = Vec::new();
//! for file in files {
//!     tickets.push(client.submit(CHECK, file.as_bytes())?); // up to 64 under way
//! }
//! for (file, ticket) in files.into_iter().zip(tickets).rev() {
//!     assert_eq!(client.collect(ticket)?.to_vec(), file.as_bytes()); // in any order
//! }
//! # drop(client);
//! # server.join().unwrap();
//! # Ok::<(), ringwire::Error>(())
//! ```
//!
//! See [`Client::call_streaming`] for streamed responses, [`Client::next_event`] for events, [`Client::call_with`] for
//! requests and responses in place.
//!
//! # What becomes of a request
//!
//! Each request takes one of 64 slots until its final answer has *arrived*, wanted or not: so an answer never meets a
//! later request in its slot, and the server's look at a cancellation never means another one. What happens to a slot:
//!
//! | | waiting | ready: the answer lies in the slot's buffer | abandoned: nobody wants the answer |
//! |---|---|---|---|
//! | the answer, and its caller waits for it | handed out from the ring (one in fragments: from the slot's buffer); **free** | | |
//! | the answer, and the caller waits for something else, or for room | into the slot's buffer; **ready**. Without place for it: it stays in the ring, and the caller is told (`ResourceExhausted`) | a second answer: `CorruptPeer` | left out; **free** |
//! | an item of a stream | its reader waits for it: handed out. Its reader has been forgotten: left out. No stream was expected: `InvalidInput` at once if its caller waits, else once the stream has ended | as above | left out |
//! | [`collect`](Client::collect), [`collect_any`](Client::collect_any) | waits | handed out; **free** | |
//! | [`cancel`](Client::cancel) | the server is told; still waiting | nothing | |
//! | [`give_up`](Client::give_up), a failed [`call`](Client::call), a dropped [`Items`] | the server is told; **abandoned** | **free** | |
//! | the deadline, seen by who waits | `TimedOut`, the server is told; **abandoned** | handed out: it is there | |
//! | the server gives its answer up half-way | forgets the half; still waiting | | still abandoned |
//! | the server's goodbye | still waiting: what was accepted is answered. New requests fail with [`Status::Unavailable`] | as ever | as ever |
//! | the peer closes, or dies | what it had sent comes first; then each wait fails with `PeerClosed`, `PeerDied` | as ever | stays: there are no more requests |
//! | the protocol is broken ([`CorruptPeer`]), or an event ends the connection ([`EventPolicy::Disconnect`]) | each wait fails | as ever | stays |
//!
//! A request whose sending fails takes no slot. If its beginning was sent, the server knows that the rest does not come; an
//! answer to it is left out. An answer that comes before its request has been sent to its end is the answer, and the rest is
//! not sent; items of a stream that come so early are kept for their reader.
//!
//! # Memory
//!
//! Nothing is allocated for a call whose answer is whole and comes when its caller waits for it. Answers that wait to be
//! collected take at most [`max_message_bytes`](ClientBuilder::max_message_bytes) in all, and the one that is being put
//! together for its caller as much again; events the same. Each slot keeps a buffer of up to 64 KiB for the next answer.
//!
//! [`Status::Unavailable`]: crate::wire::Status::Unavailable
//! [`CorruptPeer`]: crate::ErrorKind::CorruptPeer

mod authenticate;
mod batch;
mod backoff;
mod breaker;
mod builder;
mod calls;
mod connection;
mod events;
mod intake;
mod items;
mod pipeline;
pub mod pool;
mod queue;
pub mod reconnect;
mod rehearsal;
mod reply;
mod request;
mod server_info;
mod storing;
mod tickets;
mod typed;
mod waiting;
mod window;

pub use backoff::{Backoff, Delays};
pub use batch::Batch;
pub use breaker::{BreakerState, BreakerStats, CircuitBreaker, CircuitBreakerBuilder, Permit};
pub use builder::ClientBuilder;
pub use connection::Client;
pub use events::{Event, Events};
pub use items::Items;
pub use pool::{ClientPool, ClientPoolBuilder, ClientPoolMetrics, PooledClient};
pub use queue::EventPolicy;
pub use reconnect::{ReconnectingBuilder, ReconnectingClient};
pub use rehearsal::rehearse_until;
pub use reply::Reply;
pub use request::Call;
pub use server_info::ServerInfo;
pub use tickets::Ticket;

pub use crate::wire::call::{BUILT_IN_FIRST, ECHO, PING, SERVER_INFO, STATS};
