//! [`Pending`]: how much is under way, with the order that a look at zero needs.
#![allow(clippy::disallowed_types, reason = "this room wraps the raw atomics")]

use core::sync::atomic::{AtomicU64, Ordering};

/// How many things are under way, shared by the threads of one process: who finds that there are none sees what was done
/// before each of them ended.
///
/// ```
/// use ringwire::sync::Pending;
/// let pending = Pending::default();
/// pending.begin();
/// assert!(!pending.is_none());
/// pending.end();
/// assert!(pending.is_none());
/// ```
#[derive(Debug, Default)]
pub struct Pending(AtomicU64);

impl Pending {
    /// One more.
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less. First leave what came of it where it is looked for.
    pub fn end(&self) {
        // Release, and the other end Acquire in `is_none`. All changes are swaps, which continue each other's release
        // sequences: a load that reads 0 synchronises with every end before it, and not only with the last.
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// How many. Orders nothing.
    #[inline]
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether all have ended; what was done before [`Pending::end`] is seen behind it then.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_none_sees_what_came_of_each() {
        let (pending, done) = (Pending::default(), [const { AtomicU64::new(0) }; 3]);
        for _ in 0..200 {
            for mark in &done {
                mark.store(0, Ordering::Relaxed);
                pending.begin();
            }
            assert_eq!(pending.count(), 3);
            std::thread::scope(|scope| {
                for mark in &done {
                    scope.spawn(|| {
                        mark.store(1, Ordering::Relaxed);
                        pending.end();
                    });
                }
                while !pending.is_none() {
                    std::thread::yield_now();
                }
                assert!(done.iter().all(|mark| mark.load(Ordering::Relaxed) == 1));
            });
        }
    }
}
