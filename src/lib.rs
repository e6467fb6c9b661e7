//! Blocking inter-process communication over shared memory.
//!
//! Two processes of one machine exchange messages through a pair of rings in sealed shared memory: no async runtime, no
//! daemon, no background thread, and nothing left behind by a crash. A path names a server, as with a Unix socket; the
//! socket introduces the two sides and then only watches over them. Where both sides are awake, a message costs what a
//! cache line costs to move; where one sleeps, it costs one wake-up.
//!
//! # Overview
//!
//! - A [`Server`] answers requests with handlers, one blocking thread per connection; a [`Client`] calls it: one request and
//!   its response, up to 64 under way at once, streamed responses, events.
//! - [`ClientPool`] lends the threads of a program a few of them; a [`ReconnectingClient`] outlives its server's restarts; a
//!   [`CircuitBreaker`] spares a server that fails.
//! - Below that, [`Listener`] binds a path and accepts; [`Stream::connect`] is the other end.
//! - A [`Stream`] carries messages both ways: a [`Header`] ([`Kind`], message type, correlation) and a payload.
//!   [`Stream::send`] and [`Stream::receive`] for messages of one record, [`Stream::reserve`] to write one in place,
//!   [`Stream::batch`] for many at once, [`Stream::receive_into`] for messages of any form up to a limit,
//!   [`Stream::write_message`] and [`Stream::read_message`] for messages without one, piece by piece.
//! - [`Stream::split`] gives each direction to a thread of its own.
//! - [`ByteStream`] carries bytes instead, with the habits of [`std::os::unix::net::UnixStream`].
//! - [`NamedSender`] and [`NamedReceiver`] are the two ends of a ring without a socket, for processes that trust each
//!   other: see [`transport::named`].
//! - [`Stream::arm`] puts a connection into an event loop: epoll, mio or tokio.
//! - [`WaitStrategy`] says what a thread does while it waits: spin, sleep, or first one and then the other.
//! - Every failure is an [`Error`] with a [`kind`](Error::kind); a peer that dies is seen from every wait as
//!   [`ErrorKind::PeerDied`], one that breaks the protocol as [`ErrorKind::CorruptPeer`].
//!
//! # Example
//!
//! A receiver:
//!
//! ```no_run
//! use ringwire::Listener;
//!
//! let mut listener = Listener::bind("/run/user/1000/engine.sock")?;
//! let mut stream = listener.accept()?;
//! loop {
//!     let message = stream.receive()?; // Err(PeerClosed) at the end
//!     println!("{}: {} bytes", message.header().correlation, message.payload().len());
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), ringwire::Error>(())
//! ```
//!
//! and its sender:
//!
//! ```no_run
//! use ringwire::{Header, Kind, Stream};
//!
//! let mut stream = Stream::connect("/run/user/1000/engine.sock")?;
//! for number in 0..10 {
//!     stream.send(Header::new(Kind::Event, 1, number), b"hello")?;
//! }
//! # Ok::<(), ringwire::Error>(())
//! ```
//!
//! # What it promises
//!
//! - **The peer may write any byte of the shared memory at any time.** It can spoil its own data, but it causes no access
//!   outside the memory, no panic, no wait beyond a deadline, no unbounded memory. So a received [`Payload`] is copied
//!   out, never borrowed; in-place slices are `unsafe`.
//! - **No wake-up is lost**, and no message is torn: the shipped ring and parking code runs under the loom model checker
//!   (package `loom-tests`), with a weakened variant that must fail for every ordering.
//! - **A dead peer is noticed**, without heartbeats: within 5 to 10 ms by a thread that spins or sleeps on the ring (100
//!   where threads queue for the cores, and by a server in the latency class), at once by one that has slept for as long.
//!   What it had sent is delivered first. A stopped one is not declared dead.
//!   Step by step: the [crash matrix](transport::crash_matrix).
//! - **Memory follows the traffic**, not the size of the rings: a quiet connection touches two pages.
//!
//! # Limits
//!
//! Linux only. A child forked without exec shares the socket: the peer's death is seen when the child ends too. A send
//! that finds room does not notice that the peer is gone: only waits do. Waking a sleeping thread costs 5 to 50 us,
//! whatever the library.
//!
//! # The rooms
//!
//! In reading order; each uses only those in front of it (`tests/architecture.rs`). Rooms below `transport` are public for
//! the model checker and the benchmarks; their interfaces may change in any release.
//!
//! # Cargo features
//!
//! None by default. `protocol` adds calls with values as JSON ([`Client::call_json`](client::Client)). `cli` builds the
//! `ringwire` command.
//! `failpoints` is for this package's own tests alone: a test can have its process killed at a named step.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

#[forbid(unsafe_code)]
mod error;
pub mod sync;
pub mod sys;
#[forbid(unsafe_code)]
pub mod wait;
#[forbid(unsafe_code)]
pub mod wire;
pub mod ring;
pub mod shm;
#[forbid(unsafe_code)]
pub mod buffer;
#[forbid(unsafe_code)]
pub mod transport;
#[forbid(unsafe_code)]
pub mod client;
#[forbid(unsafe_code)]
pub mod server;

pub use client::{
    Call, CircuitBreaker, Client, ClientBuilder, ClientPool, Event, EventPolicy, Events, Items, PooledClient,
    ReconnectingClient, Reply, ServerInfo, Ticket,
};
pub use error::{Error, ErrorKind};
pub use server::{DeferredReply, Failure, Replied, Server, ServerBuilder, ServerHandle};
pub use transport::{
    Backpressure, Batch, ByteStream, Connector, Credentials, Incoming, Listener, ListenerBuilder, Message,
    MessageReader, MessageWriter, NamedMessage, NamedReceiver, NamedSender, NamedSlot, Payload, PeerPolicy,
    Readiness, Receiver, Sender, Slot, Stream,
};
pub use wait::WaitStrategy;
pub use wire::{Header, Kind, Status};
