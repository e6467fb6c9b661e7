//! A peer that writes whatever it wants, wherever it can: an error on this side, never a panic, a hang, or an access
//! outside the segment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod connections;
mod endless;
mod scribble;
mod words;
