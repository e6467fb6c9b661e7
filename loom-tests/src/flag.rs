//! What the protocol must not do.

use std::rc::Rc;

use loom::sync::atomic::fence;
use ringwire::sync::{Area, Kernel, Ordering, Word};
use ringwire::wait::Mark;

use crate::{LoomArea, LoomKernel, LoomWord};

/// A fact in a word of its own, that nobody sleeps on: between the sleeper's look at it and its sleep, the wake-up is lost.
#[derive(Clone, Debug)]
pub struct Flag(Rc<LoomWord>);

impl Default for Flag {
    fn default() -> Self {
        Self(Rc::new(LoomWord::new(0)))
    }
}

impl Flag {
    /// The sleeper's look at it.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Sets it, then wakes whoever sleeps at `area`; store, fence and look are in the right order.
    pub fn set(&self, area: &LoomArea, kernel: &LoomKernel) {
        self.0.store(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if let Some(mark) = Mark::from_word(area.reader_parked().load(Ordering::Relaxed)) {
            kernel.wake(area.word(mark.position()));
        }
        if area.writer_parked().load(Ordering::Relaxed) != 0 {
            kernel.wake(area.head());
        }
    }
}
