//! [`Permits`]: how many threads of this process may spin at once.

use super::Counter;

/// A count of permits shared by the threads of one process. Taking one never waits.
///
/// ```
/// use ringwire::sync::Permits;
/// let permits = Permits::new(1);
/// let first = permits.try_take();
/// assert!(first.is_some());
/// assert!(permits.try_take().is_none());
/// drop(first);
/// assert!(permits.try_take().is_some());
/// ```
#[derive(Debug)]
pub struct Permits {
    taken: Counter,
    limit: u64,
}

impl Permits {
    /// `limit` permits.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self { taken: Counter::new(0), limit }
    }

    /// Takes a permit if one is left; dropping it gives it back.
    #[inline]
    #[must_use]
    pub fn try_take(&self) -> Option<Permit<'_>> {
        self.taken.add_below(self.limit).then(|| Permit { permits: self })
    }
}

/// A permit taken from [`Permits`].
#[derive(Debug)]
pub struct Permit<'a> {
    permits: &'a Permits,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.permits.taken.subtract(1);
    }
}
