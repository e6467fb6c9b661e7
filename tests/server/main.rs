//! Servers with handlers: what every request comes to, whatever handlers, clients and the machine do.
//!
//! Longer forms: `RINGWIRE_SERVER_LONG=1 cargo test --release --test server` (panics 100,000 requests, questions 10,000,
//! twenty rounds of 1,000 connections).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod busy_poll;
mod caller;
mod calls;
mod cancelling;
mod choices;
mod counting;
mod deferred;
mod ending;
mod events;
mod failing;
mod fragments;
mod held;
mod limits;
mod with_client;

use common::child_entry as play;

/// Whether the longer forms were asked for.
fn is_long() -> bool {
    std::env::var_os("RINGWIRE_SERVER_LONG").is_some()
}

#[test]
fn child_entry() {
    play(&[
        ("short of threads", limits::short_of_threads),
        ("short of descriptors", limits::short_of_descriptors),
        ("under load", ending::under_load),
        ("crowded", limits::crowded),
        ("in the latency class", with_client::in_the_latency_class),
    ]);
}
