//! `ByteStream` behaves as `UnixStream` does: the scenarios of std's own tests by name, threads that share a stream, a
//! second process that lives, closes or dies, and two protocols of other people run over it unchanged.
//!
//! `RINGWIRE_BYTES_MIB` says how much goes through each of the two protocols (8 MiB unless set; the full form is 100).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod clones;
mod full;
mod processes;
mod scenarios;
mod tls;
mod websocket;

use std::thread;

use common::Watchdog;
use ringwire::{ByteStream, Listener, Stream, WaitStrategy};

const STRATEGIES: [WaitStrategy; 3] =
    [WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce, WaitStrategy::SpinOnly];

#[test]
fn child_entry() {
    common::child_entry(&[
        ("echo", processes::echo),
        ("writer", processes::writer),
        ("tls client", tls::client),
        ("websocket client", websocket::client),
    ]);
}

/// A pair whose rings hold `ring_bytes` each.
fn pair_of(ring_bytes: u32) -> (ByteStream, ByteStream) {
    let (one, other) = Stream::pair_with(ring_bytes, WaitStrategy::default()).unwrap();
    (one.into(), other.into())
}

/// Plays a scenario over a pair, then over a connection through a listener; under each wait strategy.
fn everywhere(scenario: impl Fn(ByteStream, ByteStream)) {
    let _watchdog = Watchdog::start();
    for strategy in STRATEGIES {
        let (one, other) = Stream::pair_with(64 << 10, strategy).unwrap();
        scenario(one.into(), other.into());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let mut listener = Listener::builder(&path).wait_strategy(strategy).bind().unwrap();
        let client = thread::spawn(move || Stream::builder(path).wait_strategy(strategy).connect().unwrap());
        let server = listener.accept().unwrap();
        scenario(client.join().unwrap().into(), server.into());
    }
}

/// How much goes through each of the protocols, in bytes.
fn protocol_bytes() -> u64 {
    let mib = std::env::var("RINGWIRE_BYTES_MIB").map_or(8, |mib| mib.parse().unwrap());
    mib << 20
}
