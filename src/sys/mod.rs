//! What `nix` does not wrap safely: the shared futex, receipt of descriptors, real-time scheduling, malloc's arenas.

mod descriptors;
mod futex;
mod malloc;
mod scheduling;

pub use descriptors::{Received, receive_with_descriptor};
pub use futex::{futex_wait, futex_wake};
pub use malloc::{limit_malloc_arenas, release_freed_memory};
pub use scheduling::{Scheduling, set_time_slice, time_slice_ns};
