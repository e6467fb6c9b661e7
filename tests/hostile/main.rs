//! A peer that writes whatever it wants, wherever it can: an error on this side, never a panic, a hang, or an access
//! outside the segment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod connections;
mod endless;
mod greetings;
mod neighbour;
mod rounds;
mod scribble;
mod victim;
mod welcomes;
mod words;

#[test]
fn child_entry() {
    common::child_entry(&[
        ("hostile", attacks::hostile),
        ("victim", victim::victim),
        ("neighbour", neighbour::neighbour),
        ("busy", neighbour::busy),
        ("door", greetings::door),
        ("greeter", greetings::greeter),
        ("caller", welcomes::caller),
    ]);
}
