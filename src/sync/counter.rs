//! [`Counter`]: a number that several threads of one process count in.
#![allow(clippy::disallowed_types, reason = "this room wraps the raw atomics")]

use core::sync::atomic::{AtomicU64, Ordering};

/// A 64-bit count or gauge shared by the threads of one process.
///
/// Relaxed: it orders nothing, and is never used to hand over memory.
///
/// ```
/// use ringwire::sync::Counter;
/// let counter = Counter::new(0);
/// assert_eq!(counter.add(2), 0);
/// assert_eq!(counter.get(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter that starts at `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value: for a counter that one thread alone writes, cheaper than adding.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `n` (wrapping) and returns the value before.
    pub fn add(&self, n: u64) -> u64 {
        self.0.fetch_add(n, Ordering::Relaxed)
    }

    /// Subtracts `n` (wrapping) and returns the value before.
    pub fn subtract(&self, n: u64) -> u64 {
        self.0.fetch_sub(n, Ordering::Relaxed)
    }

    /// Adds 1 unless the value has reached `limit`; says whether it did.
    pub fn add_below(&self, limit: u64) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| (value < limit).then(|| value + 1))
            .is_ok()
    }

    /// Replaces the value by what `next` makes of it, in one step, unless that is `None`; returns the value before, in an
    /// `Err` if it stays. `next` may be asked several times.
    ///
    /// # Errors
    /// The value, if `next` does not replace it.
    pub fn update(&self, next: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
    }

    /// Raises the value to `value` if that is more.
    pub fn raise_to(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_up_down_and_to_a_limit() {
        let counter = Counter::new(3);
        assert_eq!(counter.add(4), 3);
        assert_eq!(counter.subtract(2), 7);
        assert_eq!(counter.get(), 5);
        assert!(counter.add_below(6));
        assert!(!counter.add_below(6));
        counter.raise_to(4);
        assert_eq!(counter.get(), 6);
        counter.raise_to(9);
        assert_eq!(counter.get(), 9);
        counter.set(2);
        assert_eq!(counter.get(), 2);
        assert_eq!(counter.update(|value| value.checked_sub(2)), Ok(2));
        assert_eq!(counter.update(|value| value.checked_sub(2)), Err(0));
    }
}
