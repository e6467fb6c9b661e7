//! What a connection promises, between two threads of one process, for every wait strategy and several ring sizes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod closing;
mod crossing;
mod flow;
mod messages;
mod pieces;
mod traffic;
mod waits;

use ringwire::{Header, Kind, Listener, Stream, WaitStrategy};

const STRATEGIES: [WaitStrategy; 4] = [
    WaitStrategy::SpinThenPark,
    WaitStrategy::ParkAtOnce,
    WaitStrategy::SpinOnly,
    WaitStrategy::YieldThenPark,
];
const RINGS: [u32; 3] = [4 << 10, 64 << 10, 1 << 20];

fn event(correlation: u64) -> Header {
    Header::new(Kind::Event, 1, correlation)
}

/// Runs `body` with a fresh pair for each strategy and ring size.
fn each_pair(body: impl Fn(Stream, Stream, WaitStrategy, u32)) {
    for strategy in STRATEGIES {
        for ring_bytes in RINGS {
            let (one, two) = Stream::pair_with(ring_bytes, strategy).unwrap();
            body(one, two, strategy, ring_bytes);
        }
    }
}

/// Client and server whose limits for whole messages differ.
fn pair_with_limits(client_takes: usize, server_takes: usize, ring_bytes: u32) -> (Stream, Stream) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let mut listener =
        Listener::builder(&path).max_message_bytes(server_takes).ring_bytes(ring_bytes).bind().unwrap();
    let client =
        std::thread::spawn(move || Stream::builder(path).max_message_bytes(client_takes).connect().unwrap());
    let server = listener.accept().unwrap();
    (client.join().unwrap(), server)
}
