//! The system calls that `nix` does not wrap safely: the shared futex, receipt of descriptors, real-time scheduling.

mod descriptors;
mod futex;
mod scheduling;

pub use descriptors::{Received, receive_with_descriptor};
pub use futex::{futex_wait, futex_wake};
pub use scheduling::set_realtime_priority;
