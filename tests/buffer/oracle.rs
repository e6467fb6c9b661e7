//! What a pool must do, as plain counts: compared with the pool after each step.

use proptest::sample::Index;
use ringwire::buffer::{Buffer, Pool, PoolConfig, PoolError, TierConfig};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// So many bytes, without waiting.
    Acquire(usize),
    /// One of the buffers held.
    Release(Index),
    /// One of the buffers held, for ever.
    Leak(Index),
}

#[derive(Clone, Copy)]
struct Tier {
    config: TierConfig,
    lent: usize,
    /// The most that were ever lent at once.
    peak: usize,
    keeps: bool,
}

struct Held {
    buffer: Buffer,
    tier: usize,
    mark: u8,
}

/// Does every step with a pool and with the counts.
pub(crate) fn run(config: PoolConfig, steps: &[Step]) {
    let pool = Pool::new(config).unwrap();
    let tier = |config, keeps| Tier { config, lent: 0, peak: 0, keeps };
    let mut tiers = [tier(config.small, true), tier(config.medium, true), tier(config.large, false)];
    let mut held: Vec<Held> = Vec::new();
    let mut mark = 0u8;
    for step in steps {
        match step {
            Step::Acquire(bytes) => {
                mark = mark.wrapping_add(1).max(1);
                held.extend(acquire(&pool, &mut tiers, *bytes, mark, config.zero_on_release));
            }
            Step::Release(which) if !held.is_empty() => {
                let Held { buffer, tier, mark } = held.swap_remove(which.index(held.len()));
                assert!(buffer.iter().all(|byte| *byte == mark), "somebody else wrote to a lent buffer");
                drop(buffer);
                tiers[tier].lent -= 1;
            }
            Step::Leak(which) if !held.is_empty() => {
                std::mem::forget(held.swap_remove(which.index(held.len())).buffer);
            }
            Step::Release(_) | Step::Leak(_) => {}
        }
        compare(&pool, &tiers, config);
    }
}

fn acquire(pool: &Pool, tiers: &mut [Tier; 3], bytes: usize, mark: u8, zeroed: bool) -> Option<Held> {
    let expected = tiers.iter().position(|tier| tier.config.count > 0 && bytes <= tier.config.buffer_bytes);
    let Some(at) = expected else {
        let limit =
            tiers.iter().filter(|tier| tier.config.count > 0).map(|tier| tier.config.buffer_bytes).max();
        match pool.try_acquire(bytes).unwrap_err() {
            PoolError::TooLarge { limit_bytes, .. } => assert_eq!(Some(limit_bytes), limit),
            other => panic!("{bytes} bytes fit nowhere: {other}"),
        }
        return None;
    };
    let tier = &mut tiers[at];
    if tier.lent == tier.config.count {
        match pool.try_acquire(bytes).unwrap_err() {
            PoolError::Exhausted { buffer_bytes, count } => {
                assert_eq!((buffer_bytes, count), (tier.config.buffer_bytes, tier.config.count));
            }
            other => panic!("all are lent: {other}"),
        }
        return None;
    }
    let mut buffer = pool.try_acquire(bytes).unwrap();
    tier.lent += 1;
    tier.peak = tier.peak.max(tier.lent);
    assert_eq!(buffer.len(), tier.config.buffer_bytes);
    if zeroed || !tier.keeps {
        assert!(buffer.iter().all(|byte| *byte == 0), "a buffer shows what another had written");
    }
    buffer.fill(mark);
    Some(Held { buffer, tier: at, mark })
}

fn compare(pool: &Pool, tiers: &[Tier; 3], config: PoolConfig) {
    for (found, tier) in pool.stats().tiers().iter().zip(tiers) {
        let with_memory = if tier.keeps { tier.peak } else { tier.lent };
        assert_eq!(found.capacity, tier.config.count);
        assert_eq!((found.lent, found.free), (tier.lent, tier.config.count - tier.lent));
        assert_eq!(found.resident_bytes, with_memory * tier.config.buffer_bytes);
    }
    assert!(pool.stats().resident_bytes() <= config.max_bytes());
}
