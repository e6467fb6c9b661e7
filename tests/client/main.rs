//! What a client promises, against a server that does as each test says: answers in any order, late, twice, wrong, in
//! fragments, or never.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod peer;

mod calls;
mod deadlines;
mod endings;
mod events;
mod pipeline;
mod processes;
mod rehearsal;
mod soak;
mod streams;

/// A type that the tests' servers know.
const WORK: u16 = 7;

#[test]
fn child_entry() {
    common::child_entry(&[
        ("echo", processes::echo),
        ("dies", processes::dies),
        ("streams", processes::streams),
    ]);
}
