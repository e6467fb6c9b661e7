//! What a call costs besides time, on either side: allocations, system calls, locks, instructions.
//!
//! - Allocations are counted by an allocator, both sides in one process and in two.
//! - System calls are counted by a debugger that stops at each: 100,000 calls. The bar's million, with the figures:
//!   `RINGWIRE_CALLS=1000000 cargo test --release --test call_costs system_calls -- --nocapture`
//! - A debugger goes through calls instruction by instruction: none may lock memory. Their number counts in optimised code
//!   only, where it has a limit:
//!   `cargo test --release --test call_costs steps -- --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod allocations;
mod scene;
// A build that measures coverage counts its lines by instructions of its own.
#[cfg(all(target_arch = "x86_64", not(coverage)))]
mod steps;
#[cfg(target_arch = "x86_64")]
mod system_calls;
#[cfg(target_arch = "x86_64")]
mod traced;

#[test]
fn child_entry() {
    common::child_entry(&[
        ("serving", scene::serving),
        #[cfg(target_arch = "x86_64")]
        ("calling", system_calls::calling),
        #[cfg(all(target_arch = "x86_64", not(coverage)))]
        ("stepped", steps::stepped),
    ]);
}
