//! Connections: a path names a server, a Unix socket introduces the two sides, shared memory carries everything else.
//!
//! No payload byte passes the socket. It carries the handshake, then stays open as the *lifeline*: the kernel closes it
//! when a process dies, and a reader that has slept for 10 ms (a server's, for 40) is woken through it.

mod accepting;
mod admission;
mod arm;
mod bind;
mod bytes;
mod connect;
mod connection;
mod credentials;
mod fragments;
mod handshake;
mod interrupt;
mod latency;
mod limits;
mod listener;
mod message;
pub mod named;
mod options;
mod receiver;
mod records;
mod rousing;
mod sender;
mod sending;
mod stash;
mod stream;
mod waits;

#[doc = include_str!("crash_matrix.md")]
pub mod crash_matrix {}

pub use admission::{Admission, Admit, Stopper};
pub use bytes::ByteStream;
pub use connect::Connector;
pub use credentials::{Credentials, PeerPolicy};
pub use interrupt::{Cancellation, Cancellations, Interrupter, Received, SharedCancellation};
pub(crate) use latency::CorePoller;
pub use latency::{DEFAULT_LATENCY_PRIORITY, LatencyGuard, enter_latency_class};
pub use limits::raise_fd_limit;
pub use listener::{Incoming, Listener, ListenerBuilder};
pub use message::{Message, MessageReader, MessageWriter};
pub use named::{NamedMessage, NamedReceiver, NamedSender, NamedSlot};
pub use options::{Backpressure, DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_RING_BYTES, Negotiated};
pub use receiver::Receiver;
pub use sender::{Batch, Sender, Slot};
pub use stream::Stream;

pub use crate::ring::Readiness;
pub use crate::sync::{Counter, Pending};
pub use crate::sys::{limit_malloc_arenas, release_freed_memory, set_time_slice, time_slice_ns};
pub use crate::wait::{Deadline, WaitStrategy};
pub use crate::wire::Status;

pub(crate) use receiver::Found;
pub(crate) use records::Unsent;
pub(crate) use sender::Meanwhile;

pub(crate) use crate::ring::Place;

/// Received bytes: see [`ring::Payload`](crate::ring::Payload).
pub type Payload<'a> = crate::ring::Payload<'a, crate::sync::NativeArea>;
