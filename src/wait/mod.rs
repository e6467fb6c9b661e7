//! Waiting: absolute deadlines, the spin policy, and parking without a lost wake-up.

mod chase;
mod deadline;
mod park;
mod patience;
mod spin;

pub use deadline::Deadline;
pub use park::{LOOK_EVERY_NS, Mark, Park, WaitError, Waker, disarm};
pub use patience::{Patience, Slices};
pub use spin::{Spin, Spinner, WaitStrategy};
