//! Many threads and few buffers: none lent twice, never more than there are, and whoever waits gets one.

use std::collections::HashSet;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringwire::buffer::{Buffer, Pool, PoolError, PoolStats};
use ringwire::sync::Counter;

use super::common::{Random, Watchdog, wait_until};
use super::config;

const THREADS: u64 = 8;
const SIZES: [usize; 3] = [4096, 8192, 32_768];

fn rounds() -> u64 {
    std::env::var("RINGWIRE_TEST_POOL_ROUNDS").map_or(4000, |text| text.parse().unwrap())
}

/// As long as the longer forms may take on a busy machine.
fn watchdog() -> Watchdog {
    Watchdog::lasting(Duration::from_secs(60) + Duration::from_millis(rounds() * 10))
}

/// Which buffers are out, by address, and how many there have been at most.
#[derive(Default)]
struct Oracle {
    out: Mutex<[HashSet<usize>; 3]>,
    peaks: [Counter; 3],
}

impl Oracle {
    fn lent(&self, tier: usize, buffer: &Buffer) {
        let mut out = self.out.lock().unwrap();
        assert!(out[tier].insert(buffer.as_ptr().addr()), "lent twice at once");
        self.peaks[tier].raise_to(out[tier].len() as u64);
    }

    /// To be told before the buffer is dropped: so what is out here is never more than what is lent.
    fn returned(&self, tier: usize, buffer: &Buffer) {
        assert!(self.out.lock().unwrap()[tier].remove(&buffer.as_ptr().addr()));
    }

    fn peak(&self, tier: usize) -> usize {
        usize::try_from(self.peaks[tier].get()).unwrap()
    }
}

/// Writes its own mark over the whole buffer, gives others the time to do the same, and looks.
fn use_alone(buffer: &mut Buffer, mark: u8, random: &mut Random) {
    buffer.fill(mark);
    if random.below(4) == 0 {
        thread::yield_now();
    }
    assert!(buffer.iter().all(|byte| *byte == mark), "two threads had the same buffer");
}

fn assert_within(stats: PoolStats, counts: [usize; 3]) {
    for (tier, count) in stats.tiers().iter().zip(counts) {
        assert!(tier.lent <= count && tier.lent + tier.free == count, "{tier:?}");
        assert!(tier.resident_bytes <= count * tier.buffer_bytes, "{tier:?}");
    }
}

#[test]
fn no_buffer_is_lent_twice_and_no_tier_lends_more_than_it_has() {
    let _watchdog = watchdog();
    let counts = [3, 2, 1];
    let pool = Pool::new(config(counts[0], counts[1], counts[2], false)).unwrap();
    let (oracle, rounds, done) = (Oracle::default(), rounds(), Counter::new(0));
    thread::scope(|scope| {
        for number in 1..=THREADS {
            let (pool, oracle, done) = (pool.clone(), &oracle, &done);
            scope.spawn(move || {
                let mut random = Random(number);
                for _ in 0..rounds {
                    let tier = usize::try_from(random.below(3)).unwrap();
                    let mut buffer = pool.acquire(SIZES[tier], None).unwrap();
                    assert_eq!(buffer.len(), SIZES[tier]);
                    oracle.lent(tier, &buffer);
                    use_alone(&mut buffer, u8::try_from(number).unwrap(), &mut random);
                    oracle.returned(tier, &buffer);
                }
                done.add(1);
            });
        }
        wait_until(|| {
            assert_within(pool.stats(), counts);
            done.get() == THREADS
        });
    });
    assert_eq!(pool.stats().lent(), 0);
    for (tier, (found, count)) in pool.stats().tiers().iter().zip(counts).enumerate() {
        assert!((1..=count).contains(&oracle.peak(tier)), "{} of {count}", oracle.peak(tier));
        assert!(tier == 2 || found.resident_bytes >= oracle.peak(tier) * found.buffer_bytes);
    }
}

/// Fails if a buffer that comes back can miss the one who waits for it: the thread would sleep for ever.
#[test]
fn whoever_waits_gets_the_one_buffer_in_turn() {
    let _watchdog = watchdog();
    let rounds = rounds() / 2;
    for bytes in [4096, 32_768] {
        let pool = Pool::new(config(1, 0, 1, true)).unwrap();
        let total = Counter::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let mut buffer = pool.acquire(bytes, None).unwrap();
                        assert_eq!(buffer[0], 0, "not zeroed");
                        buffer[0] = 1;
                        thread::yield_now();
                        total.add(1);
                    }
                });
            }
        });
        assert_eq!(total.get(), THREADS * rounds);
        assert_eq!(pool.stats().lent(), 0);
    }
}

#[test]
fn all_buffers_can_be_out_at_once_and_one_more_waits() {
    let _watchdog = Watchdog::start();
    let pool = Pool::new(config(4, 0, 0, false)).unwrap();
    let (together, asked) = (Barrier::new(5), Counter::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let _buffer = pool.acquire(1, None).unwrap();
                together.wait(); // all four hold one
                together.wait(); // the fifth has been refused one
                wait_until(|| asked.get() == 1);
            });
        }
        together.wait();
        assert_eq!(pool.stats().small.free, 0);
        let deadline = Instant::now() + Duration::from_millis(20);
        assert!(matches!(pool.acquire(1, Some(deadline)), Err(PoolError::Exhausted { count: 4, .. })));
        assert!(Instant::now() >= deadline);
        together.wait();
        asked.add(1);
        let _fifth = pool.acquire(1, None).unwrap();
    });
    assert_eq!(pool.stats().lent(), 0);
}

/// A mapping that fails is an answer to who asked, and no buffer less for the others.
#[test]
fn threads_that_get_no_memory_are_all_told() {
    let _watchdog = Watchdog::start();
    let mut config = config(1, 0, 1, false);
    config.large.buffer_bytes = 1 << 60;
    let pool = Pool::new(config).unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..200 {
                    let error = pool.acquire(1 << 30, None).unwrap_err();
                    assert!(matches!(error, PoolError::OutOfMemory { .. }), "{error}");
                }
            });
        }
    });
    assert_eq!((pool.stats().large.lent, pool.stats().large.free), (0, 1));
}
