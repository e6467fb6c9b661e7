//! One size of buffers: a queue of those that are free, and [`Buffer`], what it lends.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;
use std::{fmt, io};

use crossbeam_channel::{Receiver, Sender, bounded};
use memmap2::MmapOptions;

use super::{PoolError, TierConfig};

#[allow(clippy::disallowed_types, reason = "private anonymous memory: no other process can reach it")]
type Memory = memmap2::MmapMut;

/// What happens to the memory of a buffer that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnRelease {
    Keep,
    Zero,
    Unmap,
}

/// The right to lend one buffer, with its memory if it has any yet.
type Claim = Option<Memory>;

/// At any time there are `count` claims: in `fresh`, in `idle`, or one in each buffer lent.
#[derive(Debug)]
pub(super) struct Tier {
    buffer_bytes: usize,
    count: usize,
    on_release: OnRelease,
    /// Claims never used. Only taken from, and only when none is idle, so that no more memory is taken than was lent at once.
    fresh: Receiver<()>,
    /// Claims given back. Who waits, waits here: when `fresh` is empty, it stays so.
    idle: (Sender<Claim>, Receiver<Claim>),
}

impl Tier {
    pub(super) fn new(config: TierConfig, on_release: OnRelease) -> Self {
        let TierConfig { buffer_bytes, count } = config;
        // A channel of capacity 0 would be a rendezvous.
        let (fill, fresh) = bounded(count.max(1));
        for _ in 0..count {
            let _ = fill.try_send(()); // it has room for all
        }
        Self { buffer_bytes, count, on_release, fresh, idle: bounded(count.max(1)) }
    }

    /// The size of its buffers, 0 if it has none.
    pub(super) fn limit_bytes(&self) -> usize {
        if self.count == 0 { 0 } else { self.buffer_bytes }
    }

    #[inline]
    pub(super) fn fits(&self, bytes: usize) -> bool {
        bytes <= self.buffer_bytes && self.count > 0
    }

    /// Lends a buffer if one is free.
    #[inline]
    pub(super) fn try_lend(self: &Arc<Self>) -> Option<Result<Buffer, PoolError>> {
        match self.idle.1.try_recv() {
            Ok(Some(memory)) => Some(Ok(Buffer { memory: Some(memory), tier: Arc::clone(self) })),
            Ok(None) => Some(self.map()),
            Err(_) => self.fresh.try_recv().is_ok().then(|| self.map()),
        }
    }

    /// Lends the next buffer that comes back.
    #[cold]
    pub(super) fn wait(self: &Arc<Self>, deadline: Option<Instant>) -> Result<Buffer, PoolError> {
        let claim = match deadline {
            Some(deadline) => self.idle.1.recv_deadline(deadline).ok(),
            None => self.idle.1.recv().ok(),
        };
        match claim {
            Some(Some(memory)) => Ok(Buffer { memory: Some(memory), tier: Arc::clone(self) }),
            Some(None) => self.map(),
            None => Err(self.exhausted()),
        }
    }

    #[cold]
    pub(super) fn exhausted(&self) -> PoolError {
        PoolError::Exhausted { buffer_bytes: self.buffer_bytes, count: self.count }
    }

    /// Lends a claim that has no memory yet; if there is none to be had, gives it back to whoever waits.
    #[cold]
    fn map(self: &Arc<Self>) -> Result<Buffer, PoolError> {
        match map_anonymous(self.buffer_bytes) {
            Ok(memory) => Ok(Buffer { memory: Some(memory), tier: Arc::clone(self) }),
            Err(source) => {
                self.give_back(None);
                Err(PoolError::OutOfMemory { buffer_bytes: self.buffer_bytes, source })
            }
        }
    }

    #[inline]
    fn release(&self, mut memory: Memory) {
        let claim = match self.on_release {
            OnRelease::Keep => Some(memory),
            OnRelease::Zero => {
                memory.fill(0);
                Some(memory)
            }
            OnRelease::Unmap => {
                // Before the claim is given back: the next one may be mapped at once.
                drop(memory);
                None
            }
        };
        self.give_back(claim);
    }

    #[inline]
    fn give_back(&self, claim: Claim) {
        let given = self.idle.0.try_send(claim);
        debug_assert!(given.is_ok(), "there are as many places as claims");
    }

    pub(super) fn stats(&self) -> TierStats {
        // In this order a claim that moves meanwhile counts as lent, never twice: none moves from `idle` to `fresh`.
        let idle = self.idle.1.len();
        let fresh = self.fresh.len();
        let lent = self.count.saturating_sub(idle + fresh);
        let with_memory = if self.on_release == OnRelease::Unmap { lent } else { lent + idle };
        TierStats {
            buffer_bytes: self.buffer_bytes,
            capacity: self.count,
            lent,
            free: self.count - lent,
            resident_bytes: with_memory * self.buffer_bytes,
        }
    }
}

#[cold]
fn map_anonymous(bytes: usize) -> io::Result<Memory> {
    MmapOptions::new().len(bytes).map_anon()
}

/// A tier at one moment. Other threads may have changed it before the caller looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// Size of each buffer.
    pub buffer_bytes: usize,
    /// How many buffers there are: `lent + free`.
    pub capacity: usize,
    /// How many are lent. One that never falls to 0 in a quiet process is a leak.
    pub lent: usize,
    /// How many can be lent now.
    pub free: usize,
    /// Bytes that are mapped, lent or not, and so at most resident: pages that nobody has touched take no memory.
    pub resident_bytes: usize,
}

/// A buffer lent by a [`Pool`](super::Pool); dropping it, on any thread, gives it back.
///
/// It derefs to all bytes of its tier's size, at least as many as asked for. Unless
/// [`PoolConfig::zero_on_release`](super::PoolConfig::zero_on_release) is set, they hold what whoever had it before left there:
/// read only what was written.
///
/// ```
/// use ringwire::buffer::{Pool, PoolConfig};
///
/// let pool = Pool::new(PoolConfig::default())?;
/// let mut buffer = pool.try_acquire(5)?;
/// buffer[..5].copy_from_slice(b"hello");
/// assert_eq!(buffer.len(), 4096);
/// assert_eq!(&buffer[..5], b"hello");
/// # Ok::<(), ringwire::Error>(())
/// ```
#[must_use = "a buffer goes back to the pool when it is dropped"]
pub struct Buffer {
    /// `None` only while it is dropped.
    memory: Claim,
    tier: Arc<Tier>,
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.tier.release(memory);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("bytes", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 8192;

    fn tier(count: usize, on_release: OnRelease) -> Arc<Tier> {
        Arc::new(Tier::new(TierConfig::new(BYTES, count), on_release))
    }

    fn lend(tier: &Arc<Tier>) -> Buffer {
        tier.try_lend().unwrap().unwrap()
    }

    #[test]
    fn memory_is_taken_only_for_what_is_lent_at_once() {
        let tier = tier(4, OnRelease::Keep);
        assert_eq!(tier.stats().resident_bytes, 0);
        let first = lend(&tier).as_ptr();
        for _ in 0..10 {
            assert_eq!(lend(&tier).as_ptr(), first);
        }
        assert_eq!(tier.stats().resident_bytes, BYTES);
        let both = (lend(&tier), lend(&tier));
        assert_ne!(both.0.as_ptr(), both.1.as_ptr());
        drop(both);
        assert_eq!(tier.stats().resident_bytes, 2 * BYTES);
    }

    #[test]
    fn stats_follow_every_buffer() {
        let tier = tier(2, OnRelease::Keep);
        let expect = |lent, resident_bytes| TierStats {
            buffer_bytes: BYTES,
            capacity: 2,
            lent,
            free: 2 - lent,
            resident_bytes,
        };
        assert_eq!(tier.stats(), expect(0, 0));
        let first = lend(&tier);
        assert_eq!(tier.stats(), expect(1, BYTES));
        let second = lend(&tier);
        assert_eq!(tier.stats(), expect(2, 2 * BYTES));
        assert!(tier.try_lend().is_none());
        drop(first);
        assert_eq!(tier.stats(), expect(1, 2 * BYTES));
        drop(second);
        assert_eq!(tier.stats(), expect(0, 2 * BYTES));
    }

    #[test]
    fn a_leak_stays_in_the_gauge_and_the_rest_goes_on() {
        let tier = tier(2, OnRelease::Keep);
        std::mem::forget(lend(&tier));
        for _ in 0..5 {
            drop(lend(&tier));
        }
        assert_eq!(tier.stats().lent, 1);
        assert_eq!(tier.stats().free, 1);
    }

    #[test]
    fn contents_survive_or_are_zeroed_as_configured() {
        for (on_release, left) in [(OnRelease::Keep, 7), (OnRelease::Zero, 0), (OnRelease::Unmap, 0)] {
            let tier = tier(1, on_release);
            lend(&tier).fill(7);
            assert!(lend(&tier).iter().all(|byte| *byte == left), "{on_release:?}");
        }
    }

    #[test]
    fn an_unmapping_tier_holds_nothing_between_loans() {
        let tier = tier(2, OnRelease::Unmap);
        for _ in 0..3 {
            let both = (lend(&tier), lend(&tier));
            assert!(tier.try_lend().is_none());
            assert_eq!(tier.stats().resident_bytes, 2 * BYTES);
            drop(both);
            assert_eq!(tier.stats().resident_bytes, 0);
        }
    }

    #[test]
    fn a_buffer_that_cannot_be_mapped_stays_available() {
        // More than an address space.
        let tier = Arc::new(Tier::new(TierConfig::new(1 << 60, 1), OnRelease::Unmap));
        for _ in 0..3 {
            let error = tier.try_lend().unwrap().unwrap_err();
            assert!(matches!(error, PoolError::OutOfMemory { buffer_bytes, .. } if buffer_bytes == 1 << 60));
            assert_eq!(tier.stats().free, 1);
        }
    }

    #[test]
    fn an_empty_tier_fits_nothing() {
        let tier = tier(0, OnRelease::Keep);
        assert!(!tier.fits(0));
        assert_eq!(tier.limit_bytes(), 0);
        assert!(tier.try_lend().is_none());
        assert_eq!(tier.stats().capacity, 0);
    }

    #[test]
    fn a_panicking_holder_gives_back() {
        let tier = tier(1, OnRelease::Keep);
        let lent = lend(&tier);
        let ended = std::thread::spawn(move || {
            let _held = lent;
            panic!("as a handler may");
        });
        assert!(ended.join().is_err());
        assert_eq!(tier.stats().lent, 0);
    }
}
