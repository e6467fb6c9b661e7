//! The corpus of the fuzz targets through the same bodies, on stable; and random inputs, so that a body that asserts too
//! much is noticed before somebody fuzzes. The targets themselves: `tests/fuzz/Cargo.toml`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]
#![allow(unreachable_pub, missing_docs, reason = "the bodies are written for the fuzz targets")]

mod common;
#[path = "fuzz/bodies/handshake.rs"]
mod handshake;
#[path = "fuzz/bodies/ring_memory.rs"]
mod ring_memory;

use std::path::Path;

use common::{Random, Watchdog};

/// Runs every input of `target`'s corpus, and as many random ones as are asked for.
fn replay(target: &str, random_inputs: u64, body: fn(&[u8])) {
    let _watchdog = Watchdog::start();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        body(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 10, "the corpus of {target} has {inputs} inputs");
    for seed in 1..=random_inputs {
        let mut random = Random(seed);
        let length = random.below(2000);
        body(&(0..length).map(|_| random.next() as u8).collect::<Vec<_>>());
    }
}

#[test]
fn the_ring_s_memory() {
    replay("ring_memory", 2000, ring_memory::run);
}

#[test]
fn the_handshake() {
    replay("handshake", 500, handshake::run);
}
