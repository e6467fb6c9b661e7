//! What a pool of connections promises: order and fairness of its callers, connections that work, a size that follows the
//! load, and figures that add up, whatever callers, server and clock do.
//!
//! Longer forms: `RINGWIRE_POOL_LONG=1 cargo test --release --test pool -- --nocapture --test-threads=1` (1,000,000 loans
//! among 64 threads, 10,000 histories against the model, what a loan costs in nanoseconds).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod rig;

mod breaking;
mod cost;
mod fairness;
mod model;
mod queue;
mod unsettled;
mod upkeep;

/// Whether the longer forms were asked for.
fn is_long() -> bool {
    std::env::var_os("RINGWIRE_POOL_LONG").is_some()
}

#[test]
fn child_entry() {
    common::child_entry(&[("serves", breaking::serves), ("leaves nothing", upkeep::leaves_nothing)]);
}
