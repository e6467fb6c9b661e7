//! [`Signal`]: raised by any thread of a process, taken by one.
#![allow(clippy::disallowed_types, reason = "this room wraps the raw atomics")]

use core::sync::atomic::{AtomicU32, Ordering};

/// A mark between the threads of one process: what was done before [`Signal::raise`] is seen behind the
/// [`Signal::take`] that answers `true`.
///
/// ```
/// use ringwire::sync::Signal;
/// let signal = Signal::default();
/// signal.raise();
/// signal.raise();
/// assert!(signal.is_raised());
/// assert!(signal.take() && !signal.take());
/// ```
#[derive(Debug, Default)]
pub struct Signal(AtomicU32);

impl Signal {
    /// Raises it, if it is not up already.
    pub fn raise(&self) {
        // Release, and the other swap Acquire. A swap here, so that who takes the last of several raises sees what was done
        // before each of them (with a store, the model `no_interruption_hides_another` fails); and there, because a raise
        // between a load and a store would be taken back unseen.
        self.0.swap(1, Ordering::Release);
    }

    /// Whether it is up. Orders nothing.
    #[inline(always)]
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Takes it down, and says whether it was up.
    #[inline]
    #[must_use]
    pub fn take(&self) -> bool {
        self.is_raised() && self.0.swap(0, Ordering::AcqRel) != 0
    }
}
