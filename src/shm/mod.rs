//! Shared memory: a sealed memfd per connection, its layout, its mapping, and the one cast to ring memory.

mod layout;
mod segment;

pub use layout::{CONTROL_BYTES, Direction, Layout, LayoutError};
pub use segment::{Segment, SegmentOptions, ShmError};
