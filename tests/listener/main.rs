//! A server's path, who may come in, and clients (and servers) that misbehave before they are connected.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod connecting;
mod handshakes;
mod limits;
mod paths;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use common::say;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringwire::{Error, Header, Kind, Listener, ListenerBuilder, Stream};
use tempfile::TempDir;

#[test]
fn child_entry() {
    common::child_entry(&[
        ("server", server),
        ("short of descriptors", limits::short_of_descriptors),
        ("client short of descriptors", limits::client_short_of_descriptors),
        ("fork", paths::fork_and_leave),
        ("short of memory", limits::short_of_memory),
    ]);
}

/// The second process: binds, then waits.
fn server() {
    let _listener = Listener::bind(common::setting("SOCKET")).unwrap();
    say("bound");
    common::told();
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    (directory, path)
}

const EVENT: Header = Header::new(Kind::Event, 1, 2);

/// Accepts in a thread of its own, and hands out what it accepted.
struct Accepting {
    path: PathBuf,
    thread: JoinHandle<(Listener, Vec<Stream>)>,
}

impl Accepting {
    fn start(builder: ListenerBuilder, connections: usize) -> Self {
        let mut listener = builder.bind().unwrap();
        let path = listener.path().to_owned();
        let thread = thread::spawn(move || {
            let streams = (0..connections).map(|_| listener.accept().unwrap()).collect();
            (listener, streams)
        });
        Self { path, thread }
    }

    fn connect(&self) -> Result<Stream, Error> {
        Stream::connect(&self.path)
    }

    fn join(self) -> (Listener, Vec<Stream>) {
        self.thread.join().unwrap()
    }
}

fn works(one: &mut Stream, two: &mut Stream) {
    one.send(EVENT, b"there").unwrap();
    assert_eq!(two.receive().unwrap().payload().to_vec(), b"there");
    two.send(EVENT, b"and back").unwrap();
    assert_eq!(one.receive().unwrap().payload().to_vec(), b"and back");
}

/// Both ends of a pipe, to see what becomes of a descriptor that is passed on.
fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}

/// Whether every copy of a pipe's writing end is closed, or becomes so within 5 s.
fn is_at_its_end(reading: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(reading.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::from(5000u16)).unwrap() == 1
}
