//! The kill matrix: a process that is killed at each step of the protocol, while its peer waits in each way.
//!
//! A second process arms a failpoint (cargo feature `failpoints`) and has itself killed there by SIGKILL; another one is
//! single-stepped and killed after each instruction. The survivor, this process, must receive whole messages, all that
//! were committed and no other, then the death; and keep no descriptor, mapping or file.
//!
//! - `RINGWIRE_KILL_RUNS=50`: that many runs of each case (2 by default), and each instruction (a seventh by default).
//! - `RINGWIRE_KILL_TIMES=200`: that many measurements of how long a death takes to be seen (5 by default), and victims
//!   with 1,000 threads. With `-- --nocapture --exact times::deaths_are_seen_in_time` for the figures.
//! - `RINGWIRE_KILL_TABLE=1`: prints the table of `src/transport/crash_matrix.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod handshakes;
mod matrix;
mod rows;
mod steps;
mod survivor;
mod table;
mod times;
mod victims;

use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[test]
fn child_entry() {
    common::child_entry(&[
        ("victim", victims::victim),
        ("connecting", handshakes::connecting),
        ("serving", handshakes::serving),
        #[cfg(target_arch = "x86_64")]
        ("stepped", steps::stepped),
        ("timed", times::timed),
    ]);
}

/// One test at a time: they count the process's descriptors.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect(name))
}

fn runs() -> u64 {
    number("RINGWIRE_KILL_RUNS").unwrap_or(2)
}
