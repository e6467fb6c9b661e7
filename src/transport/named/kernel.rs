//! What waiting for a named ring asks of the kernel: futexes and locks, and never a descriptor to poll.

use super::object::NamedObject;
use crate::error::{Error, ErrorKind};
use crate::ring::RingError;
use crate::sync::{Counter, Heard, Kernel, NativeWord, Ordering, Word};
use crate::sys;
use crate::wait::{Deadline, WaitError};

/// A reader that sleeps looks this often whether the writer lives.
const LOCK_LOOK_EVERY_NS: u64 = 100_000_000;

/// The kernel's part in waiting for a named ring.
#[derive(Debug)]
pub struct NamedKernel {
    object: NamedObject,
    /// Rings of the bell that the reader has taken in: those of a writer that rings between the reader's last look and
    /// its sleep are still to be answered, like bytes in a socket.
    heard: Counter,
}

impl NamedKernel {
    pub(super) fn new(object: NamedObject) -> Self {
        Self { object, heard: Counter::new(0) }
    }

    pub(super) fn object(&self) -> &NamedObject {
        &self.object
    }

    /// The public error for what the ring said.
    #[cold]
    pub(super) fn error(&self, error: RingError) -> Error {
        let name = self.object.name();
        match error {
            RingError::Full => ErrorKind::Full.into(),
            RingError::Wait(WaitError::TimedOut) => ErrorKind::TimedOut.into(),
            RingError::Closed => {
                Error::new(ErrorKind::PeerClosed, format!("the other side of {name} closed it"))
            }
            RingError::Wait(WaitError::PeerDied) => {
                Error::new(ErrorKind::PeerDied, format!("the other side of {name} died without closing it"))
            }
            RingError::TooLarge { .. } => Error::new(ErrorKind::MessageTooLarge, error.to_string()),
            RingError::Corrupt(violation) => {
                let message = format!("the other side of {name} broke the protocol");
                Error::with_source(ErrorKind::CorruptPeer, message, violation)
            }
        }
    }
}

impl Kernel<NativeWord> for NamedKernel {
    fn sleep(&self, word: &NativeWord, expected: u32, until_ns: u64) {
        sys::futex_wait(word.as_ptr(), expected, until_ns);
    }

    fn wake(&self, word: &NativeWord) {
        sys::futex_wake(word.as_ptr());
    }

    fn listen(&self, until_ns: u64) -> Heard {
        let bell = self.object.memory().bell();
        // The truncation is the bell's own width.
        let heard = self.heard.get() as u32;
        if bell.load(Ordering::Acquire) == heard {
            let slice_ns = Deadline::now_ns() + LOCK_LOOK_EVERY_NS;
            sys::futex_wait(bell.as_ptr(), heard, slice_ns.min(until_ns));
        }
        let rung = bell.load(Ordering::Acquire).wrapping_sub(heard);
        if rung != 0 {
            self.heard.add(u64::from(rung));
            return Heard::Bell;
        }
        if self.peer_is_gone() { Heard::HungUp } else { Heard::Nothing }
    }

    fn ring_bell(&self) {
        // Its one writer is this half's process. Release: who hears it sees what it was rung for.
        let bell = self.object.memory().bell();
        bell.store(bell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        sys::futex_wake(bell.as_ptr());
    }

    fn peer_is_gone(&self) -> bool {
        self.object.peer_is_gone()
    }

    fn discard(&self, _from: u32, _to: u32) {
        // A page given back may be missing when it is written again: that would be SIGBUS.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::Half;

    fn in_ms(ms: u64) -> u64 {
        Deadline::now_ns() + ms * 1_000_000
    }

    #[test]
    fn a_bell_is_heard_once_also_one_that_rang_before() {
        let name = format!("/ringwire-test-{}-bell", std::process::id());
        let writer = NamedKernel::new(NamedObject::create(&name, Half::Writing, 4096).unwrap());
        let reader = NamedKernel::new(NamedObject::open(&name, Half::Reading).unwrap());
        for _ in 0..3 {
            writer.ring_bell();
            writer.ring_bell();
            assert_eq!(reader.listen(u64::MAX), Heard::Bell);
            assert_eq!(reader.listen(in_ms(1)), Heard::Nothing);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| writer.ring_bell());
            assert_eq!(reader.listen(u64::MAX), Heard::Bell);
        });
        writer.ring_bell();
        drop(writer);
        assert_eq!(reader.listen(u64::MAX), Heard::Bell, "what was rung for comes first");
        assert_eq!(reader.listen(in_ms(1)), Heard::HungUp);
    }

    #[test]
    fn who_has_not_come_yet_is_not_gone() {
        let name = format!("/ringwire-test-{}-alone", std::process::id());
        let owner = NamedKernel::new(NamedObject::create(&name, Half::Reading, 4096).unwrap());
        assert_eq!(owner.listen(in_ms(1)), Heard::Nothing);
        let other = NamedObject::open(&name, Half::Writing).unwrap();
        assert!(!owner.peer_is_gone());
        drop(other);
        assert!(owner.peer_is_gone());
        assert_eq!(owner.listen(in_ms(1)), Heard::HungUp);
    }
}
