//! The server: one blocking thread per connection, handlers by message type.
//!
//! # Ten lines
//!
//! ```
//! use ringwire::{Client, Server};
//! const ECHO: u16 = 1;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("engine.sock");
//! let server = Server::builder(&path)
//!     .max_connections(1000)
//!     .handle(ECHO, |request, reply| reply.send_payload(request.payload()))
//!     .build()?; // from here on clients can connect
//! let handle = server.handle();
//! let serving = std::thread::spawn(move || server.serve()); // blocks until it is shut down
//!
//! let mut client = Client::connect(&path)?;
//! assert_eq!(client.call(ECHO, b"hello")?.to_vec(), b"hello");
//! assert!(handle.shutdown(std::time::Duration::from_secs(5)));
//! serving.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A handler runs on its connection's thread. It copies out of the request's [`Payload`](crate::Payload) what it needs,
//! and answers through its [`Reply`], once: what comes back is [`Replied`], the proof that the handler's result asks for.
//! `?` answers with an error; a panic answers `internal`. Slow handlers hold up their own connection alone, and may
//! [detach](Reply::detach) their answer so as not to do that either.
//!
//! # Streams
//!
//! ```
//! # use ringwire::{Client, Server};
//! use std::io::Read;
//! const WORDS: u16 = 2;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("engine.sock");
//! let server = Server::builder(&path)
//!     .handle_streaming(WORDS, |mut request, items| {
//!         let mut text = String::new(); // a request of any length, read from the ring piece by piece
//!         request.read_to_string(&mut text)?;
//!         text.split(' ').try_for_each(|word| items.send(word.as_bytes()))
//!     })
//!     .build()?;
//! # let handle = server.handle();
//! # let serving = std::thread::spawn(move || server.serve());
//! let mut client = Client::connect(&path)?;
//! let words: Vec<Vec<u8>> = client.call_streaming(WORDS, b"one two three")?.collect::<Result<_, _>>()?;
//! assert_eq!(words, [&b"one"[..], b"two", b"three"]);
//! # assert!(handle.shutdown(std::time::Duration::from_secs(5)));
//! # serving.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Answers that come later
//!
//! ```
//! # use ringwire::{Client, Server};
//! use std::sync::mpsc::channel;
//! const COMPILE: u16 = 3;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("engine.sock");
//! let (queue, work) = channel();
//! let worker = std::thread::spawn(move || {
//!     for (source, later) in work {
//!         let _: Vec<u8> = source;
//!         let later: ringwire::DeferredReply = later;
//!         let _ = later.send(format!("{} bytes compiled", source.len())); // fails if the client has gone
//!     }
//! });
//! let server = Server::builder(&path)
//!     .handle(COMPILE, move |request, reply| {
//!         let (replied, later) = reply.detach();
//!         queue.send((request.payload().to_vec(), later)).ok(); // dropped, it would answer `internal`
//!         Ok(replied)
//!     })
//!     .build()?;
//! # let handle = server.handle();
//! # let serving = std::thread::spawn(move || server.serve());
//! let mut client = Client::connect(&path)?;
//! assert_eq!(client.call(COMPILE, b"fn main() {}")?.to_vec(), b"12 bytes compiled");
//! # assert!(handle.shutdown(std::time::Duration::from_secs(5)));
//! # serving.join().unwrap()?;
//! # drop(handle);
//! # worker.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Events
//!
//! ```
//! # use ringwire::{Client, Server};
//! use std::time::Duration;
//! const OPEN: u16 = 4;
//! const CHANGED: u16 = 5;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("engine.sock");
//! let server = Server::builder(&path)
//!     .handle(OPEN, |request, reply| reply.send(&request.connection().id().to_ne_bytes()))
//!     .build()?;
//! let handle = server.handle();
//! # let serving = std::thread::spawn(move || server.serve());
//! let mut client = Client::connect(&path)?;
//! let id: u64 = client.call(OPEN, b"main.rs")?.read()?;
//! // From any thread of the server's process: to one client, or to all.
//! handle.connection(id).ok_or("still open")?.send_event(CHANGED, b"main.rs")?;
//! assert_eq!(handle.broadcast(CHANGED, b"lib.rs"), 1);
//! for changed in ["main.rs", "lib.rs"] {
//!     let event = client.next_event(Some(Duration::from_secs(5)))?.ok_or("an event")?;
//!     assert_eq!((event.message_type(), event.to_vec()), (CHANGED, changed.as_bytes().to_vec()));
//! }
//! # assert!(handle.shutdown(Duration::from_secs(5)));
//! # serving.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Around every handler
//!
//! [`Middleware`] sees each request before its handler and its outcome after; [`Logging`] and [`Timing`] are two. Those
//! that were added first are outermost.
//!
//! ```
//! # use ringwire::{Client, Server};
//! use ringwire::server::{Context, Failure, Flow, Logging, Middleware, Timing};
//! use std::sync::Arc;
//!
//! /// Answers no more than so many requests of a connection.
//! struct Quota(u64);
//! impl Middleware for Quota {
//!     fn before(&self, context: &Context<'_>) -> Result<Flow, Failure> {
//!         let metadata = context.connection().metadata();
//!         let used = metadata.get::<u64>().map_or(0, |used| *used);
//!         metadata.set(used + 1);
//!         if used < self.0 { Ok(Flow::Continue) } else { Err(Failure::resource_exhausted("quota used up")) }
//!     }
//! }
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("engine.sock");
//! let timing = Arc::new(Timing::default());
//! let server = Server::builder(&path)
//!     .middleware(Logging)
//!     .middleware(Arc::clone(&timing))
//!     .middleware(Quota(1))
//!     .handle(1, |request, reply| reply.send_payload(request.payload()))
//!     .build()?;
//! # let handle = server.handle();
//! # let serving = std::thread::spawn(move || server.serve());
//! let mut client = Client::connect(&path)?;
//! assert_eq!(client.call(1, b"one")?.to_vec(), b"one");
//! assert_eq!(client.call(1, b"two").unwrap_err().to_string(), "quota used up");
//! let (_, total) = timing.report()[0];
//! assert_eq!((total.count, total.failures), (2, 1));
//! # assert!(handle.shutdown(std::time::Duration::from_secs(5)));
//! # serving.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What becomes of a request
//!
//! Each request that the server takes is answered once. What the [`ErrorPolicy`] makes of an error is written as the
//! default policy has it.
//!
//! | what happens | what the client gets | and then |
//! |---|---|---|
//! | the handler answers | the response, or the items and an end | |
//! | the handler returns an error, before or behind its items | its status and words, as an error or as the end of the stream | counted |
//! | the handler returns an error behind its answer | the answer | counted |
//! | the handler panics | `internal` with the panic's words | counted, a warning for each type once; the connection goes on |
//! | the answer is beyond the client's limit | `message too large` with the limit | |
//! | no handler of that type | `unimplemented` with the number | |
//! | it is cancelled before its handler begins | `cancelled` | the handler never runs |
//! | it is cancelled later | what the handler makes of [`Context::is_cancelled`]; a send of [`Items`] fails with `cancelled` | |
//! | its deadline passes before its handler begins | `deadline exceeded` | the handler never runs |
//! | its deadline passes later | what the handler makes of [`Context::time_left`] | |
//! | it is too long to be put together for a plain handler | `message too large` with the limit | the rest is skipped |
//! | no buffer of the pool is free within its time, or 1 s | `resource exhausted` | the rest is skipped |
//! | it does not come to its end within its time, or 10 s ([`ServerBuilder::request_timeout`]), for a plain handler | `deadline exceeded` | the rest is skipped |
//! | its sender gives it up half-way | `cancelled` | |
//! | 64 requests of its connection are detached and unanswered | `resource exhausted` | |
//! | its [`DeferredReply`] is dropped | `internal`, or the end of the stream with that | a warning |
//! | its connection ends first | nothing | the handler finishes; its [`Reply`] and [`DeferredReply`] say `unavailable`, or that the connection has ended |
//! | the server is shut down while it runs, is detached, or lies in the ring | its answer | then the connection closes |
//! | it comes behind the goodbye, and behind what was there then | `unavailable` | |
//! | the shutdown's deadline passes first | nothing: the connection is cut off | a handler that never returns keeps its thread, and nothing else |
//! | no thread, no descriptor, a connection too many | the *connection* is refused, with a status and the reason | the others go on |
//!
//! # Who may touch what
//!
//! | state | touched by |
//! |---|---|
//! | the ring positions of a connection, its view of the handlers, its timers | the connection's thread alone |
//! | the handlers' table | replaced as a whole under a lock by whoever adds or removes; a connection's thread asks once per request, by one load, whether it has the present one |
//! | the queues of a connection: events, deferred answers | any thread puts in, then interrupts; the connection's thread takes out when it is interrupted, and each 32 requests |
//! | what is wanted of a connection: goodbye, disconnect | raised by any thread; read by the connection's |
//! | counters | each connection's requests: written by its thread alone; all others added to by any thread; read by all |
//! | metadata of a connection | any thread, under a lock of its own |
//! | the list of connections, the phase of the server | any thread, under one lock; handlers never run under it |
//! | a handler, a middleware, the error policy | called by all connections' threads at once |
//!
//! So a request that finds its connection awake takes no lock, no allocation and no system call between its arrival and its
//! answer, apart from what its handler does.
//!
//! # Events and full queues
//!
//! Events of other threads wait in a queue of the connection, not for room in its ring: a client that takes nothing in does
//! not keep its connection's thread from its requests. What happens at a full queue says [`WhenFull`]. What a handler
//! sends itself ([`Reply::emit`], [`Items::emit`]) goes into the ring at once, before its answer, and waits for room
//! there. Between the two there is no order.

mod assemble;
mod builder;
mod built_in;
mod connection;
mod context;
mod core;
mod deferred;
mod dispatch;
mod errors;
mod failure;
mod handle;
mod handover;
mod items;
mod latency;
mod metadata;
mod middleware;
mod peer;
mod placement;
mod registry;
mod rehearsal;
mod reply;
mod serve;
pub mod shed;
mod stats;
mod threads;

pub use builder::ServerBuilder;
pub use context::{ConnectionInfo, Context, Request};
pub use deferred::DeferredReply;
pub use errors::{Action, DefaultErrorPolicy, ErrorClass, ErrorEvent, ErrorPolicy};
pub use failure::Failure;
pub use handle::{ConnectionHandle, ServerHandle};
pub use items::{Items, StreamingRequest};
pub use metadata::Metadata;
pub use middleware::{Flow, Logging, Middleware, Outcome, Timing, TypeTiming};
pub use peer::WhenFull;
pub use placement::Placement;
pub use reply::{Replied, Reply};
pub use serve::Server;
pub use stats::{ConnectionSummary, ServerStats};
