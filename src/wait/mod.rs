//! Waiting: absolute deadlines, the spin policy, and parking without a lost wake-up.

mod busy_poll;
mod chase;
mod deadline;
mod park;
mod patience;
mod spin;

pub use busy_poll::{BusyPoll, Turn};
pub use deadline::Deadline;
pub use park::{LOOK_EVERY_NS, Mark, Park, WaitError, Waker, disarm};
pub use patience::{Habit, Patience, Slices};
pub use spin::{Spin, Spinner, WaitStrategy, online_cores};
