//! Client and server in two processes, with more on the way than the rings hold: nobody waits for ever, and everything
//! arrives as it was sent.
//!
//! The rate of a token stream and its system calls (release, nothing else running; strace for the second):
//! `RINGWIRE_TOKENS=20000000 cargo test --release --test full_rings tokens -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod large;
mod tokens;

use std::time::Duration;

use common::{Second, say, second, setting, told};
use ringwire::{Client, Server};

/// Answers with the request, changed in every byte.
const TURN: u16 = 1;
/// Streams the request back while it is still coming.
const MIRROR: u16 = 2;
/// Streams as many bytes as the request has, and only then reads it.
const TALK_FIRST: u16 = 3;
/// Streams so many numbered items of 32 bytes.
const TOKENS: u16 = 4;

#[test]
fn child_entry() {
    common::child_entry(&[("serve", serve)]);
}

/// The second process.
fn serve() {
    let server = Server::builder(setting("PATH_TO_SERVE"))
        .ring_bytes(setting("RING_BYTES").parse().unwrap())
        .handle(TURN, large::turn)
        .handle_streaming(MIRROR, large::mirror)
        .handle_streaming(TALK_FIRST, large::talk_first)
        .handle_streaming(TOKENS, tokens::stream)
        .build()
        .unwrap();
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.serve());
    say("ready");
    assert_eq!(told(), "enough");
    let pool = handle.pool_stats();
    assert_eq!(pool.lent(), 0, "a buffer is lost: {pool:?}");
    assert!(handle.shutdown(Duration::from_secs(10)));
    serving.join().unwrap().unwrap();
}

/// A server in a process of its own.
struct Served {
    server: Second,
    path: String,
    _directory: tempfile::TempDir,
}

impl Served {
    fn start(ring_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("full.sock").to_str().unwrap().to_owned();
        let settings = [("PATH_TO_SERVE", path.as_str()), ("RING_BYTES", &ring_bytes.to_string())];
        let mut server = second("serve", &settings);
        assert_eq!(server.hear(), "ready");
        Self { server, path, _directory: directory }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    fn end(mut self) {
        self.server.tell("enough");
        self.server.join();
    }
}
