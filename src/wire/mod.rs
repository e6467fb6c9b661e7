//! What the two sides say to each other, byte by byte: record headers, handshake messages, status codes.
//!
//! Plain data without behaviour towards the outside. All integers are in the machine's byte order: both sides run on
//! one machine.

pub mod call;
mod handshake;
mod header;
mod status;

pub use handshake::{
    Answer, Features, HELLO_MIN_BYTES, HandshakeError, Hello, MAGIC, MAX_HANDSHAKE_BYTES, REASON_BYTES,
    VERSION, VERSION_OLDEST,
};
pub(crate) use header::PackedHeader;
pub use header::{Flags, Header, HeaderError, Kind, RecordHeader};
pub use status::Status;
