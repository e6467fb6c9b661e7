//! The token bucket against a naive one, with a clock that the test sets.

use std::time::Duration;

use proptest::prelude::*;
use ringwire::server::shed::{Rate, TokenBucket};

/// Counts by filling: the time for `burst` requests at most.
struct Naive {
    interval_ns: u128,
    burst: u128,
    filled_ns: u128,
    looked_ns: u64,
}

impl Naive {
    fn new(requests: u32, period_ns: u64, burst: u32) -> Self {
        let interval_ns = u128::from(period_ns).div_ceil(u128::from(requests));
        let burst = u128::from(burst);
        Self { interval_ns, burst, filled_ns: burst * interval_ns, looked_ns: 0 }
    }

    fn take(&mut self, now_ns: u64) -> Result<(), u64> {
        let passed_ns = u128::from(now_ns - self.looked_ns);
        self.looked_ns = now_ns;
        self.filled_ns = (self.filled_ns + passed_ns).min(self.burst * self.interval_ns);
        if self.filled_ns < self.interval_ns {
            return Err(u64::try_from(self.interval_ns - self.filled_ns).unwrap());
        }
        self.filled_ns -= self.interval_ns;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_bucket_takes_what_a_naive_one_takes_and_says_when_it_will(
        requests in 1..2_000u32,
        period_ns in 1..3_000_000_000u64,
        burst in 1..40u32,
        start_ns in 0..1u64 << 62,
        steps in prop::collection::vec((0..4u8, 0..1_000u64), 1..200),
    ) {
        let rate = Rate::new(requests, Duration::from_nanos(period_ns)).burst(burst);
        let (bucket, mut naive) = (TokenBucket::new(rate), Naive::new(requests, period_ns, burst));
        let interval_ns = period_ns.div_ceil(requests.into());
        let (mut now_ns, mut taken_ns) = (start_ns, Vec::new());
        naive.looked_ns = start_ns;
        let mut hint_ns = None;
        for (kind, size) in steps {
            now_ns += match (kind, hint_ns) {
                (0, _) => 0,
                (1, _) => interval_ns * size / 500,
                // Just when it was told, or a nanosecond before.
                (2, Some(hint_ns)) => hint_ns,
                (3, Some(hint_ns)) => hint_ns - 1,
                (_, _) => interval_ns * u64::from(burst) * size / 500,
            };
            prop_assert_eq!(bucket.check(now_ns), bucket.check(now_ns), "a look changes nothing");
            let looked = bucket.check(now_ns);
            let taken = bucket.take(now_ns);
            prop_assert_eq!(taken, naive.take(now_ns));
            prop_assert_eq!(taken, looked);
            match (kind, hint_ns) {
                (2, Some(_)) => prop_assert_eq!(taken, Ok(())),
                (3, Some(_)) => prop_assert_eq!(taken, Err(1)),
                _ => {}
            }
            hint_ns = taken.err();
            taken_ns.extend(taken.is_ok().then_some(now_ns));
        }
        // No window of time holds more than the burst and what was filled meanwhile.
        for (first, from) in taken_ns.iter().enumerate() {
            for (last, until) in taken_ns.iter().enumerate().skip(first) {
                let count = (last - first + 1) as u64;
                prop_assert!(count <= u64::from(burst) + (until - from) / interval_ns);
            }
        }
    }
}
