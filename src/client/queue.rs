//! [`Queue`]: events that came while the caller waited for something else.

use std::collections::VecDeque;
use std::mem;

/// What happens to an event that arrives when the queue is full: that is, while the program waits for something else, and
/// has not taken [as many](super::ClientBuilder::events_capacity) earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventPolicy {
    /// It stays in the ring, and what is behind it too: the server waits. A call whose answer may be behind it fails with
    /// [`ErrorKind::ResourceExhausted`](crate::ErrorKind::ResourceExhausted): take events, then go on.
    #[default]
    Wait,
    /// The oldest in the queue is left out, and [counted](super::Client::events_dropped).
    DropOldest,
    /// The connection is closed.
    Disconnect,
}

/// Buffers up to this size, and that many, are kept for the next events.
const KEPT_BYTES: usize = 4 << 10;
const KEPT: usize = 32;

/// Events in the order of their arrival, bounded in number and in bytes.
#[derive(Debug)]
pub(super) struct Queue {
    events: VecDeque<(u16, Vec<u8>)>,
    bytes: usize,
    capacity: usize,
    capacity_bytes: usize,
    pub(super) policy: EventPolicy,
    pub(super) dropped: u64,
    spares: Vec<Vec<u8>>,
    /// The event that the program has, or had last.
    current: Vec<u8>,
}

impl Queue {
    pub(super) fn new(capacity: usize, capacity_bytes: usize, policy: EventPolicy) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            capacity: capacity.max(1),
            capacity_bytes,
            policy,
            dropped: 0,
            spares: Vec::new(),
            current: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether an event of `bytes` fits as it is.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.events.len() < self.capacity && self.bytes + bytes <= self.capacity_bytes
    }

    /// Leaves out the oldest events until one of `bytes` fits; one that never does is counted instead.
    ///
    /// Says whether there is room now.
    pub(super) fn drop_oldest(&mut self, bytes: usize) -> bool {
        while !self.has_room(bytes) {
            self.dropped += 1;
            match self.pop_front() {
                Some((_, buffer)) => self.keep(buffer),
                None => return false,
            }
        }
        true
    }

    /// An empty buffer for the next event.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    pub(super) fn push(&mut self, message_type: u16, payload: Vec<u8>) {
        self.bytes += payload.len();
        self.events.push_back((message_type, payload));
    }

    /// Takes the oldest event: its type and its bytes.
    pub(super) fn pop(&mut self) -> Option<(u16, &[u8])> {
        let (message_type, payload) = self.pop_front()?;
        let former = mem::replace(&mut self.current, payload);
        self.keep(former);
        Some((message_type, &self.current))
    }

    fn pop_front(&mut self) -> Option<(u16, Vec<u8>)> {
        let event = self.events.pop_front()?;
        self.bytes -= event.1.len();
        Some(event)
    }

    pub(super) fn keep(&mut self, mut buffer: Vec<u8>) {
        if (1..=KEPT_BYTES).contains(&buffer.capacity()) && self.spares.len() < KEPT {
            buffer.clear();
            self.spares.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(capacity: usize, capacity_bytes: usize) -> Queue {
        Queue::new(capacity, capacity_bytes, EventPolicy::DropOldest)
    }

    fn push(queue: &mut Queue, number: u8) {
        let mut buffer = queue.buffer();
        assert!(buffer.is_empty(), "a kept buffer is handed out empty");
        buffer.extend([number; 10]);
        assert!(queue.drop_oldest(buffer.len()));
        queue.push(number.into(), buffer);
    }

    #[test]
    fn events_come_out_in_order_and_the_oldest_makes_room() {
        let mut queue = queue(3, 1_000);
        for number in 0..5 {
            push(&mut queue, number);
        }
        assert_eq!((queue.len(), queue.dropped), (3, 2));
        for number in 2..5u8 {
            assert_eq!(queue.pop(), Some((number.into(), &[number; 10][..])));
        }
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn bytes_are_bounded_too_and_what_never_fits_is_counted() {
        let mut queue = queue(1_000, 35);
        for number in 0..5 {
            push(&mut queue, number);
        }
        assert_eq!((queue.len(), queue.dropped), (3, 2));
        assert!(!queue.drop_oldest(36), "more than the whole queue");
        assert_eq!((queue.len(), queue.dropped), (0, 6));
        assert!(queue.has_room(35) && !queue.has_room(36));
    }

    #[test]
    fn buffers_are_used_again_and_large_ones_are_not_kept() {
        let mut queue = queue(10, 1 << 20);
        queue.push(1, vec![0; KEPT_BYTES + 1]);
        push(&mut queue, 2);
        queue.pop();
        queue.pop();
        queue.pop();
        assert!(queue.spares.is_empty(), "{}", queue.spares.len());
        push(&mut queue, 3);
        queue.pop();
        assert_eq!(queue.spares.len(), 1);
    }
}
