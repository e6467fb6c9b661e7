//! How most scenes begin: a place for a socket, a listener, a strategy by name, a message that only counts.

use std::path::PathBuf;

use ringwire::{Header, Kind, Listener, WaitStrategy};
use tempfile::TempDir;

pub(crate) const STRATEGIES: [(&str, WaitStrategy); 3] = [
    ("spin then park", WaitStrategy::SpinThenPark),
    ("park", WaitStrategy::ParkAtOnce),
    ("spin", WaitStrategy::SpinOnly),
];

pub(crate) fn strategy(name: &str) -> WaitStrategy {
    STRATEGIES.iter().find(|(known, _)| *known == name).unwrap().1
}

pub(crate) const fn event(correlation: u64) -> Header {
    Header::new(Kind::Event, 1, correlation)
}

/// A place for a socket.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    (directory, path)
}

/// A place for a socket, and the listener in it.
pub(crate) fn listen() -> (TempDir, Listener) {
    let (directory, path) = place();
    (directory, Listener::bind(path).unwrap())
}
