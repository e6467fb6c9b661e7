//! [`Stash`]: what a sender that waits for room has taken in meanwhile.

use std::collections::VecDeque;

use crate::wire::Header;

/// Records set aside in private memory, in order, up to a limit in bytes.
#[derive(Debug)]
pub(super) struct Stash {
    records: VecDeque<(Header, Vec<u8>)>,
    bytes: usize,
    limit_bytes: usize,
}

/// What a record costs besides its payload.
const OVERHEAD_BYTES: usize = size_of::<(Header, Vec<u8>)>();

impl Stash {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { records: VecDeque::new(), bytes: 0, limit_bytes }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn front(&self) -> Option<&(Header, Vec<u8>)> {
        self.records.front()
    }

    /// Whether a payload of `bytes` more stays within the limit.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes + OVERHEAD_BYTES <= self.limit_bytes
    }

    pub(super) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    pub(super) fn push(&mut self, header: Header, payload: Vec<u8>) {
        self.bytes += payload.len() + OVERHEAD_BYTES;
        self.records.push_back((header, payload));
    }

    pub(super) fn pop(&mut self) {
        if let Some((_, payload)) = self.records.pop_front() {
            self.bytes -= payload.len() + OVERHEAD_BYTES;
        }
        if self.records.is_empty() {
            // A burst's memory is not kept.
            self.records = VecDeque::new();
        }
    }
}
