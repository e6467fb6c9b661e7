//! The platform port: what the ring and the parker need from memory and from the kernel, and its native form.
//!
//! The algorithm ([`ring`](crate::ring), [`wait`](crate::wait)) is generic over [`Platform`] and [`Kernel`].
//! Production instantiates it once with [`Native`]: real atomics over a shared mapping. The `loom-tests` package
//! instantiates the very same code with a model checker's types. This room is the only one that touches raw atomics.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("ringwire counts bytes of a ring in 32 bits and adds them as usize: it needs 64-bit pointers");

mod copy;
mod counter;
#[doc(hidden)]
pub mod failpoint;
mod native;
mod pending;
mod permits;
mod port;
mod prefetch;
mod signal;

pub use counter::Counter;
pub use native::{Native, NativeArea, NativeWord};
pub use pending::Pending;
pub use permits::{Permit, Permits};
pub use port::{Area, Heard, Kernel, Ordering, Platform, RecordArea, Word, weak};
pub use signal::Signal;
