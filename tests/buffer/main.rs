//! The buffer pool beside a naive oracle: one thread with any sequence of steps, many threads, and the process's mappings.
//!
//! `RINGWIRE_TEST_POOL_ROUNDS` sets how often each thread lends, 4,000 by default.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod mappings;
mod oracle;
mod threads;

use common::Watchdog;
use oracle::{Step, run};
use proptest::prelude::*;
use ringwire::buffer::{PoolConfig, TierConfig};

#[test]
fn child_entry() {
    common::child_entry(&[("lend_large", mappings::lend_large)]);
}

/// A pool that a short run exhausts.
fn config(small: usize, medium: usize, large: usize, zero_on_release: bool) -> PoolConfig {
    PoolConfig {
        small: TierConfig::new(4096, small),
        medium: TierConfig::new(8192, medium),
        large: TierConfig::new(32_768, large),
        budget_bytes: small * 4096 + medium * 8192,
        zero_on_release,
    }
}

fn configs() -> impl Strategy<Value = PoolConfig> {
    (0..4usize, 0..4usize, 0..3usize, any::<bool>())
        .prop_filter("a pool has buffers", |(small, medium, large, _)| small + medium + large > 0)
        .prop_map(|(small, medium, large, zero)| config(small, medium, large, zero))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // At and around each tier's size.
    let size =
        prop_oneof![Just(0), Just(4096), Just(4097), Just(8192), Just(8193), Just(32_769), 0..40_000usize];
    let step = prop_oneof![
        8 => size.prop_map(Step::Acquire),
        5 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => any::<prop::sample::Index>().prop_map(Step::Leak),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_lends_what_the_oracle_expects(config in configs(), steps in steps()) {
        let _watchdog = Watchdog::start();
        run(config, &steps);
    }
}
