//! [`Backoff`]: how long to wait between attempts.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The longest delay that a jitter is computed for; nobody waits longer.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How the delay between two attempts grows with the attempts that have failed.
///
/// ```
/// use ringwire::client::Backoff;
/// use std::time::Duration;
///
/// let delays: Vec<_> = (1..=8).map(|failed| Backoff::default().delay(failed).as_millis()).collect();
/// assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
/// let linear = Backoff::Linear { step: Duration::from_millis(50), cap: Duration::from_millis(120) };
/// assert_eq!([1, 2, 3].map(|failed| linear.delay(failed).as_millis()), [50, 100, 120]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backoff {
    /// `initial`, then `factor` times as long each time, at most `cap`.
    Exponential {
        /// Behind the first failure.
        initial: Duration,
        /// From one delay to the next.
        factor: u32,
        /// The longest.
        cap: Duration,
    },
    /// `step`, then one step more each time, at most `cap`.
    Linear {
        /// Behind the first failure, and what comes on top each time.
        step: Duration,
        /// The longest.
        cap: Duration,
    },
    /// Always the same.
    Fixed(Duration),
}

impl Default for Backoff {
    /// Exponential: 100 ms, twice as long each time, at most 5 s.
    fn default() -> Self {
        Self::Exponential { initial: Duration::from_millis(100), factor: 2, cap: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// The delay behind the `failed`-th failure in a row, counted from 1, without jitter.
    #[must_use]
    pub fn delay(&self, failed: u32) -> Duration {
        let before = failed.saturating_sub(1);
        match *self {
            Self::Exponential { initial, factor, cap } => {
                let grown = factor.checked_pow(before).and_then(|times| initial.checked_mul(times));
                // Overflow is growth too.
                grown.unwrap_or(if initial.is_zero() { initial } else { cap }).min(cap)
            }
            Self::Linear { step, cap } => step.saturating_mul(before.saturating_add(1)).min(cap),
            Self::Fixed(delay) => delay,
        }
    }

    /// The delays behind the first failure, the second, ..., each shortened at random by at most `jitter` (0 to 1) of
    /// itself: so clients that lost the same server at the same moment do not come back at the same moment.
    ///
    /// The same `seed` gives the same delays; `None` a different sequence each time. For retries of your own, too:
    ///
    /// ```
    /// use ringwire::client::Backoff;
    /// for delay in Backoff::default().delays(0.5, None).take(3) {
    ///     println!("failed; again in {delay:?}");
    /// }
    /// ```
    #[must_use]
    pub fn delays(self, jitter: f64, seed: Option<u64>) -> Delays {
        // A NaN is none.
        let jitter = if jitter > 0.0 { jitter.min(1.0) } else { 0.0 };
        let random = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Delays { backoff: self, jitter, random, failed: 0 }
    }
}

/// One delay after the other, without end: from [`Backoff::delays`].
#[derive(Clone, Debug)]
pub struct Delays {
    backoff: Backoff,
    jitter: f64,
    random: u64,
    failed: u32,
}

impl Delays {
    /// Begins again with the first delay; the random numbers go on.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// Delays given since the beginning, or the last [`Delays::reset`].
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// splitmix64, as a fraction below 1: see <https://prng.di.unimi.it/splitmix64.c>.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // The upper 53 bits: what an f64 holds exactly.
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failed = self.failed.saturating_add(1);
        let delay = self.backoff.delay(self.failed).min(LONGEST);
        let shortened = self.jitter * self.fraction();
        Some(delay.mul_f64(1.0 - shortened).min(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_cap_and_never_overflow() {
        let second = Duration::from_secs(1);
        for (backoff, last) in [
            (Backoff::default(), Duration::from_secs(5)),
            (Backoff::Linear { step: second, cap: second * 7 }, second * 7),
            (Backoff::Fixed(second), second),
            (Backoff::Exponential { initial: Duration::ZERO, factor: 2, cap: second }, Duration::ZERO),
            (Backoff::Exponential { initial: second, factor: 0, cap: second }, Duration::ZERO),
            (Backoff::Fixed(Duration::MAX), Duration::MAX),
        ] {
            assert_eq!(backoff.delay(u32::MAX), last, "{backoff:?}");
            let first = backoff.delay(1);
            assert_eq!(backoff.delay(0), first, "{backoff:?}");
        }
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_reaches_them() {
        for jitter in [0.0, 0.25, 1.0] {
            let backoff = Backoff::Fixed(Duration::from_secs(1));
            let delays: Vec<_> = backoff.delays(jitter, Some(1)).take(10_000).collect();
            let (shortest, longest) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
            assert!(shortest.as_secs_f64() >= 1.0 - jitter - 1e-9, "{shortest:?} with {jitter}");
            assert!(shortest.as_secs_f64() <= 1.0 - jitter + 0.01, "{shortest:?} with {jitter}");
            assert!((0.99..=1.0).contains(&longest.as_secs_f64()), "{longest:?} with {jitter}");
        }
        for strange in [f64::NAN, -1.0] {
            assert_eq!(Backoff::default().delays(strange, None).next(), Some(Duration::from_millis(100)));
        }
        assert!(Backoff::Fixed(Duration::MAX).delays(7.0, None).next().unwrap() <= LONGEST);
    }

    #[test]
    fn the_same_seed_gives_the_same_delays_and_no_seed_other_ones() {
        let some = |seed| Backoff::default().delays(0.5, seed).take(20).collect::<Vec<_>>();
        assert_eq!(some(Some(7)), some(Some(7)));
        assert_ne!(some(Some(7)), some(Some(8)));
        assert_ne!(some(None), some(None));
        let mut delays = Backoff::default().delays(0.0, None);
        assert_eq!(delays.by_ref().take(3).last(), Some(Duration::from_millis(400)));
        assert_eq!(delays.failed(), 3);
        delays.reset();
        assert_eq!(delays.next(), Some(Duration::from_millis(100)));
    }
}
