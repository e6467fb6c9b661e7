//! The cache of threads that serve connections: reuse, timeouts, panics, exhaustion, shutdown, and what a thread costs.
//!
//! Beside it, what a server asks of the system: the latency class, more descriptors, fewer arenas. The figures are those
//! of `cargo test --release --test threads -- --nocapture memory`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod endings;
mod latency;
mod memory;
mod reuse;
// A private module of the crate: the tests look at it as a library of its own.
#[allow(dead_code, reason = "the tests use what they need")]
#[path = "../../src/server/threads.rs"]
mod threads;

use std::fs;
use std::time::Duration;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use threads::{Threads, ThreadsConfig};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

/// A cache whose threads nobody else's are mistaken for: at most 8 bytes of name.
fn cache(name: &str, max_idle: usize, idle_timeout: Duration) -> Threads {
    assert!(name.len() <= 8);
    let name_prefix = name.to_owned();
    Threads::new(ThreadsConfig { name_prefix, max_idle, idle_timeout, ..ThreadsConfig::default() })
}

/// Threads of this process, as the kernel counts them, whose name begins with `name` and a dash.
fn alive(name: &str) -> usize {
    let mut count = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        // One that ends meanwhile is none.
        let found = fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default();
        count += usize::from(found.starts_with(&format!("{name}-")));
    }
    count
}

/// Becomes a user whom limits bind.
fn become_nobody() {
    if Uid::effective().is_root() {
        let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
        setgroups(&[]).unwrap();
        setresgid(gid, gid, gid).unwrap();
        setresuid(uid, uid, uid).unwrap();
        // Lost with the user.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

#[test]
fn child_entry() {
    common::child_entry(&[
        ("threads", memory::keep_threads),
        ("threads with two arenas", memory::keep_threads_with_two_arenas),
        ("burst", memory::burst),
        ("short of threads", endings::short_of_threads),
        ("unprivileged", latency::unprivileged),
        ("descriptors", latency::descriptors),
    ]);
}
