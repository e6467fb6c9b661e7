//! placeholder
mod error;
pub mod sync;
pub mod sys;
#[forbid(unsafe_code)]
pub mod wait;
#[forbid(unsafe_code)]
pub mod wire;
pub mod ring;
pub mod shm;
#[forbid(unsafe_code)]
pub mod transport;
pub use error::{Error, ErrorKind};
pub use transport::{
    Backpressure, Batch, Connector, Credentials, Incoming, Listener, ListenerBuilder, Message, MessageReader, MessageWriter,
    Payload, PeerPolicy, Receiver, Sender, Slot, Stream,
};
pub use wait::WaitStrategy;
pub use wire::{Header, Kind};
