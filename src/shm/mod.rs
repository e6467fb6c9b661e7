//! Shared memory: a sealed memfd per connection, or a named object for a ring without one; layouts, mappings, and the
//! casts to ring memory.

mod layout;
mod named;
mod named_header;
mod segment;

pub use layout::{CANCEL_SLOTS, CONTROL_BYTES, Direction, Layout, LayoutError};
pub use named::NamedMemory;
pub use named_header::{Half, NamedError, NamedHeader};
pub use segment::{Segment, SegmentOptions, ShmError};
