//! Shared memory: a sealed memfd per connection, or a named object for a ring without one; layouts, mappings, and the
//! casts to ring memory.

mod layout;
mod named;
mod segment;

pub use layout::{CONTROL_BYTES, Direction, Layout, LayoutError};
pub use named::{Half, NamedError, NamedHeader, NamedMemory};
pub use segment::{Segment, SegmentOptions, ShmError};
