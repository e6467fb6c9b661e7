//! Waiting: absolute deadlines, the spin policy, and parking without a lost wake-up.

mod deadline;
mod park;
mod spin;

pub use deadline::Deadline;
pub use park::{FUTEX_STAGE_NS, LOOK_EVERY_NS, Mark, Park, WaitError, Waker, disarm};
pub use spin::{Spin, Spinner, WaitStrategy};
