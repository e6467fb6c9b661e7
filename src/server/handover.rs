//! [`Boxes`]: how a stream gets from the accepting thread to its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::transport::Stream;

/// More than this are on their way only while threads are slower to start than clients to come.
const MAX_EMPTY: usize = 16;

/// A stream on its way; empty once it has arrived.
pub(super) type BoxedStream = Box<Option<Stream>>;

/// What streams are handed over in. A thread needs its box no longer once it has the stream, but it is not to free it: what a
/// thread frees stays in the allocator's cache of that thread (with glibc's, 3/4 KiB for each connection).
#[derive(Debug, Default)]
pub(super) struct Boxes {
    empty: Mutex<Vec<BoxedStream>>,
}

impl Boxes {
    pub(super) fn pack(&self, stream: Stream) -> BoxedStream {
        let mut boxed = self.lock().pop().unwrap_or_default();
        *boxed = Some(stream);
        boxed
    }

    /// The stream, and the box for the next one; `None` if it had been taken out before.
    #[inline(never)]
    pub(super) fn unpack(&self, mut boxed: BoxedStream) -> Option<Stream> {
        let stream = boxed.take();
        let mut empty = self.lock();
        if empty.len() < MAX_EMPTY {
            empty.push(boxed);
        }
        stream
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BoxedStream>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_arrives_with_its_stream_and_is_used_again() {
        let boxes = Boxes::default();
        let (one, two) = Stream::pair().unwrap();
        let (first, second) = (boxes.pack(one), boxes.pack(two));
        let address = std::ptr::from_ref(&*first);
        assert!(boxes.unpack(first).is_some());
        let again = boxes.pack(boxes.unpack(second).unwrap());
        assert_eq!(boxes.lock().len(), 1);
        let last = boxes.pack(boxes.unpack(again).unwrap());
        assert!(last.is_some());
        assert!(boxes.lock().iter().any(|empty| std::ptr::eq(&**empty, address)));
        let many: Vec<_> = (0..2 * MAX_EMPTY).map(|_| BoxedStream::default()).collect();
        many.into_iter().for_each(|empty| assert!(boxes.unpack(empty).is_none()));
        assert_eq!(boxes.lock().len(), MAX_EMPTY);
    }
}
