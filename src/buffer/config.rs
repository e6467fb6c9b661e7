//! [`PoolConfig`]: how many buffers of which size, checked before the first is lent.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// Buffers are mapped, so their sizes are multiples of a page.
const PAGE_BYTES: usize = 4096;
/// A tier's queue is allocated for its count up front; the kernel allows a process about as many mappings.
const MAX_COUNT: usize = 65_536;

/// One size of buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TierConfig {
    /// Size of each buffer in bytes, a multiple of 4,096.
    pub buffer_bytes: usize,
    /// How many can be lent at once, at most 65,536; with 0 the tier is left out.
    pub count: usize,
}

impl TierConfig {
    /// `count` buffers of `buffer_bytes` each.
    #[must_use]
    pub const fn new(buffer_bytes: usize, count: usize) -> Self {
        Self { buffer_bytes, count }
    }

    fn total_bytes(self) -> Option<usize> {
        self.buffer_bytes.checked_mul(self.count)
    }
}

impl fmt::Display for TierConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} bytes", self.count, self.buffer_bytes)
    }
}

/// What a [`Pool`](super::Pool) may use.
///
/// ```
/// use ringwire::buffer::{PoolConfig, TierConfig};
///
/// let mut config = PoolConfig::default();
/// assert_eq!(config.budget_bytes, 512 << 10);
/// assert_eq!(config.max_bytes(), (512 << 10) + (1 << 20));
///
/// config.medium = TierConfig::new(64 << 10, 20);
/// let error = config.validate().unwrap_err();
/// assert!(error.to_string().contains("budget_bytes"), "{error}");
///
/// config.budget_bytes = 2 << 20;
/// config.validate()?;
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolConfig {
    /// The smallest buffers: 32 of 4 KiB by default. Kept once taken.
    pub small: TierConfig,
    /// 6 of 64 KiB by default. Kept once taken.
    pub medium: TierConfig,
    /// The largest buffers: one of 1 MiB by default. Mapped when lent, unmapped when given back, so not in the budget.
    pub large: TierConfig,
    /// What the small and the medium tier may take together, in bytes: 512 KiB by default.
    pub budget_bytes: usize,
    /// Whether a kept buffer is zeroed when it is given back, so that nobody finds in it what another wrote: off by
    /// default. Costs a write to the whole buffer. A large buffer is always zero when lent.
    pub zero_on_release: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            small: TierConfig::new(4 << 10, 32),
            medium: TierConfig::new(64 << 10, 6),
            large: TierConfig::new(1 << 20, 1),
            budget_bytes: 512 << 10,
            zero_on_release: false,
        }
    }
}

impl PoolConfig {
    /// What all buffers take while all are lent, in bytes; `usize::MAX` if it is more than can be counted.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.tiers()
            .iter()
            .fold(0, |sum, (_, tier)| sum.saturating_add(tier.buffer_bytes.saturating_mul(tier.count)))
    }

    /// Checks what [`Pool::new`](super::Pool::new) checks.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`]: a size is no multiple of 4,096 bytes or not above that of the tier before, a
    /// count is too high, there is no buffer at all, or the small and the medium tier exceed the budget.
    pub fn validate(&self) -> Result<(), Error> {
        let mut below = 0;
        for (name, tier) in self.tiers() {
            let TierConfig { buffer_bytes, count } = tier;
            if buffer_bytes == 0 || buffer_bytes % PAGE_BYTES != 0 {
                return Err(invalid(format!(
                    "buffers of the {name} tier: expected a multiple of {PAGE_BYTES} bytes, found {buffer_bytes}"
                )));
            }
            if buffer_bytes <= below {
                return Err(invalid(format!(
                    "buffers of the {name} tier: expected more than the {below} bytes of the tier below, \
                     found {buffer_bytes}"
                )));
            }
            if count > MAX_COUNT {
                return Err(invalid(format!(
                    "buffers of the {name} tier: expected at most {MAX_COUNT}, found {count}"
                )));
            }
            below = buffer_bytes;
        }
        if self.tiers().iter().all(|(_, tier)| tier.count == 0) {
            return Err(invalid("a pool without buffers: expected a count above 0 in one tier".to_owned()));
        }
        self.validate_budget()
    }

    fn validate_budget(&self) -> Result<(), Error> {
        let (small, medium, budget) = (self.small, self.medium, self.budget_bytes);
        let kept = small.total_bytes().zip(medium.total_bytes()).and_then(|(a, b)| a.checked_add(b));
        match kept {
            Some(bytes) if bytes <= budget => Ok(()),
            _ => {
                let bytes =
                    kept.map_or_else(|| "more than can be counted".to_owned(), |n| format!("{n} bytes"));
                Err(invalid(format!(
                    "small ({small}) and medium ({medium}) buffers: expected at most the budget of {budget} bytes, \
                     found {bytes}; lower a count or raise budget_bytes"
                )))
            }
        }
    }

    fn tiers(&self) -> [(&'static str, TierConfig); 3] {
        [("small", self.small), ("medium", self.medium), ("large", self.large)]
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    #[track_caller]
    fn assert_refused(change: impl FnOnce(&mut PoolConfig), words: &[&str]) {
        let mut config = PoolConfig::default();
        change(&mut config);
        let error = config.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        for word in words {
            assert!(error.to_string().contains(word), "{error} lacks {word}");
        }
    }

    #[test]
    fn the_default_takes_exactly_the_budget() {
        let config = PoolConfig::default();
        config.validate().unwrap();
        assert_eq!(config.max_bytes() - config.large.buffer_bytes, config.budget_bytes);
        assert_refused(|config| config.budget_bytes -= 1, &["32 x 4096", "6 x 65536", "524287", "524288"]);
    }

    #[test]
    fn sizes_are_whole_pages_and_ascend() {
        assert_refused(|config| config.small.buffer_bytes = 0, &["small", "multiple of 4096", "found 0"]);
        assert_refused(|config| config.medium.buffer_bytes = 65_537, &["medium", "found 65537"]);
        assert_refused(|config| config.medium.buffer_bytes = 4 * KIB, &["medium", "4096 bytes of the tier"]);
        assert_refused(|config| config.large.buffer_bytes = 8 * KIB, &["large", "more than the 65536"]);
    }

    #[test]
    fn counts_have_limits() {
        assert_refused(|config| config.large.count = MAX_COUNT + 1, &["large", "at most 65536", "65537"]);
        assert_refused(
            |config| {
                config.small.count = 0;
                config.medium.count = 0;
                config.large.count = 0;
            },
            &["without buffers"],
        );
        assert_refused(|config| config.medium.count = 7, &["7 x 65536", "589824", "raise budget_bytes"]);
    }

    #[test]
    fn what_cannot_be_counted_is_over_budget() {
        let huge = usize::MAX / PAGE_BYTES * PAGE_BYTES - PAGE_BYTES;
        let change = |config: &mut PoolConfig| {
            config.medium = TierConfig::new(huge, 2);
            config.large.buffer_bytes = huge + PAGE_BYTES;
            config.budget_bytes = usize::MAX;
        };
        assert_refused(change, &["more than can be counted"]);
        let mut config = PoolConfig::default();
        change(&mut config);
        assert_eq!(config.max_bytes(), usize::MAX);
    }

    #[test]
    fn a_tier_may_be_left_out() {
        let config = PoolConfig { small: TierConfig::new(4 * KIB, 0), ..PoolConfig::default() };
        config.validate().unwrap();
        assert_eq!(config.max_bytes(), 6 * 64 * KIB + 1024 * KIB);
    }
}
