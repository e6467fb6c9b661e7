//! What both sides of a connection can choose.

use crate::shm::SegmentOptions;
use crate::wait::WaitStrategy;

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
