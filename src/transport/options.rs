//! What both sides of a connection can choose.

use crate::shm::{Direction, Layout, SegmentOptions};
use crate::wait::WaitStrategy;
use crate::wire::{Features, VERSION};

/// Size of each ring unless asked otherwise, in bytes.
pub const DEFAULT_RING_BYTES: u32 = 64 << 10;
/// The longest message that is put together whole unless asked otherwise, in bytes.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 10 << 20;

/// What a send does when the ring is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backpressure {
    /// Waits for room, at most for the send timeout.
    #[default]
    Wait,
    /// Fails with [`ErrorKind::Full`](crate::ErrorKind::Full).
    Fail,
    /// Leaves the message out, counts it and succeeds. For messages of which only the latest matter.
    Drop,
}

/// What the handshake has settled: the same on both sides, but for the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Negotiated {
    /// The protocol version.
    pub version: u16,
    /// Optional abilities that both sides have.
    pub features: Features,
    /// Size of the ring from client to server in bytes.
    pub to_server_bytes: u32,
    /// Size of the ring from server to client in bytes.
    pub to_client_bytes: u32,
    /// The core that both sides' threads of this connection share, if it has the latency class.
    pub latency_core: Option<u32>,
    /// The longest message that the other side puts together whole, in bytes.
    pub peer_max_message_bytes: u64,
}

impl Negotiated {
    /// Of two ends of one build.
    pub(super) fn without_handshake(layout: Layout, max_message_bytes: u64) -> Self {
        Self {
            version: VERSION,
            features: Features::SUPPORTED,
            to_server_bytes: layout.ring_bytes(Direction::ToServer),
            to_client_bytes: layout.ring_bytes(Direction::ToClient),
            latency_core: None,
            peer_max_message_bytes: max_message_bytes,
        }
    }
}

/// One side's choices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) strategy: WaitStrategy,
    pub(super) max_message_bytes: usize,
    pub(super) segment: SegmentOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: WaitStrategy::default(),
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            segment: SegmentOptions::default(),
        }
    }
}
