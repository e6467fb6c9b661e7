//! [`Pool`]: picks the tier, lends from it, and tells what is lent.

use std::sync::Arc;
use std::time::Instant;

use super::tier::{OnRelease, Tier};
use super::{Buffer, PoolConfig, PoolError, TierStats};
use crate::error::Error;

/// A pool of buffers; see the [module](super). Clones share the buffers.
///
/// ```
/// use std::time::{Duration, Instant};
/// use ringwire::buffer::{Pool, PoolConfig};
///
/// let pool = Pool::new(PoolConfig::default())?;
/// let deadline = Instant::now() + Duration::from_secs(1);
/// let mut buffer = pool.acquire(50_000, Some(deadline))?;
/// buffer[..50_000].fill(1);
/// assert_eq!(pool.stats().medium.lent, 1);
/// drop(buffer);
/// assert_eq!(pool.stats().lent(), 0);
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    /// By ascending size.
    tiers: [Arc<Tier>; 3],
}

impl Pool {
    /// A pool within `config`. Nothing is mapped yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): see [`PoolConfig::validate`].
    pub fn new(config: PoolConfig) -> Result<Self, Error> {
        config.validate()?;
        let kept = if config.zero_on_release { OnRelease::Zero } else { OnRelease::Keep };
        let tiers = [(config.small, kept), (config.medium, kept), (config.large, OnRelease::Unmap)];
        Ok(Self { tiers: tiers.map(|(tier, on_release)| Arc::new(Tier::new(tier, on_release))) })
    }

    /// Lends the smallest buffer of at least `bytes` bytes. If all of its tier are lent, waits for one until
    /// `deadline`, without one as long as it takes. A free buffer is lent even after the deadline.
    ///
    /// # Errors
    /// [`PoolError::TooLarge`] at once, [`PoolError::Exhausted`] at the deadline, [`PoolError::OutOfMemory`] if a
    /// buffer that was never lent, or a large one, cannot be mapped.
    #[inline]
    pub fn acquire(&self, bytes: usize, deadline: Option<Instant>) -> Result<Buffer, PoolError> {
        let tier = self.tier_for(bytes)?;
        tier.try_lend().unwrap_or_else(|| tier.wait(deadline))
    }

    /// As [`acquire`](Self::acquire), but does not wait.
    ///
    /// # Errors
    /// [`PoolError::TooLarge`], [`PoolError::Exhausted`], [`PoolError::OutOfMemory`], as there.
    ///
    /// # Examples
    /// A larger buffer rather than waiting:
    ///
    /// ```
    /// use ringwire::buffer::{Pool, PoolConfig, PoolError};
    ///
    /// let pool = Pool::new(PoolConfig::default())?;
    /// let buffer = match pool.try_acquire(100) {
    ///     Err(PoolError::Exhausted { buffer_bytes, .. }) => pool.acquire(buffer_bytes + 1, None)?,
    ///     other => other?,
    /// };
    /// # drop(buffer);
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    #[inline]
    pub fn try_acquire(&self, bytes: usize) -> Result<Buffer, PoolError> {
        let tier = self.tier_for(bytes)?;
        tier.try_lend().unwrap_or_else(|| Err(tier.exhausted()))
    }

    /// The most bytes that can be asked for.
    #[must_use]
    pub fn max_buffer_bytes(&self) -> usize {
        self.tiers.iter().map(|tier| tier.limit_bytes()).max().unwrap_or(0)
    }

    /// What is lent and what is free now, tier by tier. Each is right by itself; other threads go on between them.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let [small, medium, large] = &self.tiers;
        PoolStats { small: small.stats(), medium: medium.stats(), large: large.stats() }
    }

    #[inline]
    fn tier_for(&self, bytes: usize) -> Result<&Arc<Tier>, PoolError> {
        self.tiers.iter().find(|tier| tier.fits(bytes)).ok_or_else(|| self.too_large(bytes))
    }

    #[cold]
    fn too_large(&self, bytes: usize) -> PoolError {
        PoolError::TooLarge { bytes, limit_bytes: self.max_buffer_bytes() }
    }
}

/// A [`Pool`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// See [`PoolConfig::small`].
    pub small: TierStats,
    /// See [`PoolConfig::medium`].
    pub medium: TierStats,
    /// See [`PoolConfig::large`].
    pub large: TierStats,
}

impl PoolStats {
    /// The tiers, by ascending size.
    #[must_use]
    pub fn tiers(&self) -> [TierStats; 3] {
        [self.small, self.medium, self.large]
    }

    /// Buffers lent.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.tiers().iter().map(|tier| tier.lent).sum()
    }

    /// Bytes mapped, lent or not.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.tiers().iter().map(|tier| tier.resident_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::buffer::TierConfig;
    use crate::error::ErrorKind;

    const KIB: usize = 1 << 10;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(30))
    }

    #[test]
    fn the_smallest_tier_that_fits_lends() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        for (bytes, lent) in [
            (0, 4 * KIB),
            (1, 4 * KIB),
            (4 * KIB, 4 * KIB),
            (4 * KIB + 1, 64 * KIB),
            (64 * KIB, 64 * KIB),
            (64 * KIB + 1, 1024 * KIB),
            (1024 * KIB, 1024 * KIB),
        ] {
            assert_eq!(pool.acquire(bytes, None).unwrap().len(), lent, "{bytes}");
        }
        let error = pool.acquire(1024 * KIB + 1, None).unwrap_err();
        assert!(matches!(error, PoolError::TooLarge { bytes: 1_048_577, limit_bytes: 1_048_576 }));
        assert_eq!(pool.stats().lent(), 0);
    }

    #[test]
    fn a_tier_left_out_passes_its_requests_on() {
        let config = PoolConfig {
            small: TierConfig::new(4 * KIB, 0),
            large: TierConfig::new(1024 * KIB, 0),
            ..PoolConfig::default()
        };
        let pool = Pool::new(config).unwrap();
        assert_eq!(pool.try_acquire(1).unwrap().len(), 64 * KIB);
        assert_eq!(pool.max_buffer_bytes(), 64 * KIB);
        assert!(matches!(
            pool.try_acquire(64 * KIB + 1).unwrap_err(),
            PoolError::TooLarge { limit_bytes: 65_536, .. }
        ));
    }

    #[test]
    fn an_exhausted_tier_waits_and_takes_from_no_other() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let all: Vec<Buffer> = (0..6).map(|_| pool.try_acquire(64 * KIB).unwrap()).collect();
        assert!(matches!(pool.try_acquire(5000), Err(PoolError::Exhausted { count: 6, .. })));
        let before = Instant::now();
        let error = pool.acquire(5000, soon()).unwrap_err();
        assert!(before.elapsed() >= Duration::from_millis(30));
        assert!(matches!(error, PoolError::Exhausted { buffer_bytes: 65_536, count: 6 }), "{error}");
        assert_eq!((pool.stats().medium.free, pool.stats().large.lent), (0, 0));
        assert_eq!(
            (pool.try_acquire(1).unwrap().len(), pool.try_acquire(70_000).unwrap().len()),
            (4096, 1 << 20)
        );
        drop(all);
        assert_eq!(pool.stats().medium.free, 6);
    }

    #[test]
    fn a_free_buffer_is_lent_after_the_deadline() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let past = Some(Instant::now());
        let _one_mib = pool.acquire(1 << 20, past).unwrap();
        assert!(matches!(pool.acquire(1 << 20, past), Err(PoolError::Exhausted { count: 1, .. })));
    }

    #[test]
    fn the_sum_of_the_stats_stays_within_the_configuration() {
        let config = PoolConfig::default();
        let pool = Pool::new(config).unwrap();
        let mut held = Vec::new();
        for bytes in [1, 5000, 70_000] {
            while let Ok(buffer) = pool.try_acquire(bytes) {
                held.push(buffer);
            }
        }
        assert_eq!((held.len(), pool.stats().lent()), (39, 39));
        assert_eq!(pool.stats().resident_bytes(), config.max_bytes());
        drop(held);
        assert_eq!(pool.stats().resident_bytes(), config.budget_bytes);
    }

    #[test]
    fn clones_share_and_a_buffer_outlives_them() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let other = pool.clone();
        let mut buffer = pool.try_acquire(1).unwrap();
        assert_eq!(other.stats().small.lent, 1);
        drop((pool, other));
        buffer.fill(1);
    }

    #[test]
    fn a_wrong_configuration_makes_no_pool() {
        let error = Pool::new(PoolConfig { budget_bytes: 0, ..PoolConfig::default() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
