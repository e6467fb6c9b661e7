//! The usual model: one thread writes, one reads.

use loom::thread;
use ringwire::ring::RingError;

use crate::{Ends, Shape};

/// What is sent, as the lengths of messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script {
    /// One by one, before the reader's thread exists.
    pub before: &'static [usize],
    /// One by one.
    pub singly: &'static [usize],
    /// Then these in one batch.
    pub batch: &'static [usize],
    /// And then the end.
    pub close: bool,
}

impl Script {
    /// Sends `singly` one by one.
    #[must_use]
    pub const fn singly(singly: &'static [usize]) -> Self {
        Self { before: &[], singly, batch: &[], close: false }
    }

    /// Sends `batch` in one batch.
    #[must_use]
    pub const fn batch(batch: &'static [usize]) -> Self {
        Self { before: &[], singly: &[], batch, close: false }
    }

    /// The same behind others that have been sent `before`.
    #[must_use]
    pub const fn behind(self, before: &'static [usize]) -> Self {
        Self { before, ..self }
    }

    /// The same, and then the end.
    #[must_use]
    pub const fn then_close(self) -> Self {
        Self { close: true, ..self }
    }
}

/// One execution: everything that is sent arrives whole, in order, once, and nothing else does.
///
/// # Panics
/// If not.
pub fn run<const WEAK: u64>(shape: Shape, script: Script) {
    let Ends { mut sender, mut receiver, .. } = shape.open::<WEAK>();
    for length in script.before {
        sender.send(*length).unwrap();
    }
    let writer = thread::spawn(move || {
        for length in script.singly {
            sender.send(*length).unwrap();
        }
        for length in script.batch {
            sender.append(*length).unwrap();
        }
        // Not behind single messages: a second look would hide that the first is missing.
        if !script.batch.is_empty() {
            sender.producer.flush();
        }
        if script.close {
            sender.producer.close();
        }
        sender.producer.position()
    });
    for length in [script.before, script.singly, script.batch].concat() {
        assert_eq!(receiver.receive(), Ok(length));
    }
    if script.close {
        assert_eq!(receiver.receive(), Err(RingError::Closed));
    }
    let end = writer.join().unwrap();
    assert_eq!(receiver.consumer.position(), end);
    let nothing_more = if script.close { Err(RingError::Closed) } else { Ok(None) };
    assert_eq!(receiver.try_receive(), nothing_more);
}
