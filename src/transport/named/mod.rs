//! Named rings: records in one direction between two cooperating processes, by a name and without a socket.
//!
//! One side *creates* the ring, with the half of its choice, and owns the name; the other side *opens* the other half.
//! The name is that of a POSIX shared memory object (`shm_open(3)`). Everything else is as in a
//! [`Stream`](crate::Stream): the same ring, the same waiting, the same errors. What differs:
//!
//! - One direction, one record a message: what is longer than [`NamedSender::max_record_bytes`] is refused.
//! - The other process is trusted. A named object cannot be sealed: a process of the same user can cut it short under
//!   both sides, and an access then ends them by SIGBUS. Sizes, version and header are checked when a ring is opened,
//!   and every record when it is read, but against mistakes, not against malice. Only this user's objects are opened.
//! - All memory is allocated when the ring is created, so that a full `/dev/shm` is an error then, and no SIGBUS later.
//!   None is given back before the end.
//! - A thread that waits wakes up every 100 ms to look whether the other side is alive: an idle ring is not free.
//!
//! # Who lives
//!
//! The kernel knows: locks on the object end with their holder, however that ends, and in any pid namespace. The creator
//! holds a `flock` on the object for as long as it lives, which makes the name its own; besides, each side holds a lock
//! on a byte of its own (`F_OFD_SETLK`), at which the other side looks. No heartbeat: a stopped process is not declared
//! dead. (A child forked without exec keeps its parent's locks.)
//!
//! | killed | it leaves | the next `create` | `open` | the other side |
//! |---|---|---|---|---|
//! | creator, before the header is written | an empty object | takes the object | connection refused | |
//! | creator, before its byte is locked | an unlocked object with a header | replaces the object | connection refused | |
//! | creator, from then on | the same, in use by the other side | replaces the object | connection refused | receives what was sent, then `peer died` |
//! | creator, closing, before the name is removed | the same | replaces the object | connection refused | receives what was sent, then `peer closed` |
//! | opener, before it says that it is there | nothing | | can be tried again | goes on waiting for it |
//! | opener, from then on | a used ring | address in use | connection refused | receives what was sent, then `peer died` |
//!
//! A ring is used once: whoever has had the opened half, nobody else gets it afterwards. Drop it and create another.
//! What stands at the name and is not a ring is refused and never removed.

mod kernel;
mod object;
mod receiver;
mod sender;

pub use receiver::{NamedMessage, NamedReceiver};
pub use sender::{NamedSender, NamedSlot};
