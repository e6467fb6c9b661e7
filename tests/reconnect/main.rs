//! What a client that connects again by itself promises: every request ends with its own answer or an error, nothing is
//! executed twice that must not be, and a server that is back is used at once.
//!
//! The figures: `cargo test --release --test reconnect -- --nocapture killed refused`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../client/peer.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod peer;

mod breaker;
mod events;
mod killed;
mod repeats;
mod states;
mod strangers;
mod tickets;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use ringwire::server::{Server, ServerBuilder, ServerHandle};
use ringwire::{Client, Error, Listener};

use peer::Peer;

/// A type that the tests' servers know.
const WORK: u16 = 7;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn child_entry() {
    common::child_entry(&[("server", killed::server)]);
}

fn path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    (directory, path)
}

/// A server in this process; shut down when dropped.
struct Serving {
    handle: ServerHandle,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Serving {
    fn at(path: &Path, choose: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let server = choose(Server::builder(path)).build().unwrap();
        let handle = server.handle();
        Self { handle, thread: Some(std::thread::spawn(move || server.serve())) }
    }

    /// One that answers `WORK` with its name.
    fn named(path: &Path, name: &'static str) -> Self {
        Self::at(path, |builder| builder.handle(WORK, move |_, reply| reply.send(name.as_bytes())))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.handle.shutdown(LONG);
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

/// Accepts one client after the other, each for `serve` with its number from 1.
fn accepting(path: &Path, clients: usize, serve: impl Fn(usize, Peer) + Send + 'static) -> JoinHandle<()> {
    let mut listener = Listener::bind(path).unwrap();
    std::thread::spawn(move || {
        for number in 1..=clients {
            serve(number, Peer::new(listener.accept().unwrap()));
        }
    })
}

fn client(path: &Path) -> ringwire::client::ReconnectingBuilder {
    Client::builder(path).call_timeout(Some(LONG)).reconnecting().seed(1)
}
