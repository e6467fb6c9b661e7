//! Clients that try to keep from others what the server has: its buffers, its threads, its end.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use ringwire::server::WhenFull;
use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Area, Ordering, Word};
use ringwire::wire::Hello;
use zerocopy::IntoBytes;

use super::caller::Serving;
use super::common::raw::{RawPeer, greet};
use super::common::{Watchdog, wait_until};

/// A client by hand, which sees the words of its connection.
fn raw_caller(serving: &Serving) -> RawPeer {
    let mut socket = UnixStream::connect(&serving.path).unwrap();
    let (answer, descriptors) = greet(&mut socket, Hello::new(65_536, 65_536, 10 << 20).as_bytes());
    let layout = Layout::new(answer.to_server_bytes, answer.to_client_bytes).unwrap();
    let segment = Segment::open(&descriptors[0], layout, SegmentOptions::default()).unwrap();
    RawPeer::new(socket, segment, Direction::ToServer)
}

/// Waits until the server's thread sleeps on the lifeline, and overwrites the mark that says so.
fn hide_mark(peer: &RawPeer) {
    let mark = peer.out.reader_parked();
    wait_until(|| mark.load(Ordering::Relaxed) & 2 != 0);
    // Its last look is behind it, and it waits for the lifeline alone.
    thread::sleep(Duration::from_millis(200));
    mark.store(0, Ordering::Relaxed);
}

#[test]
fn a_client_that_hides_the_servers_mark_is_disconnected_all_the_same() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let peer = raw_caller(&serving);
    hide_mark(&peer);
    serving.handle.connection(1).unwrap().disconnect();
    wait_until(|| serving.handle.connections().is_empty());
}

#[test]
fn a_client_that_hides_the_servers_mark_is_disconnected_by_a_full_queue_of_events() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.events(2, WhenFull::Disconnect));
    let peer = raw_caller(&serving);
    hide_mark(&peer);
    let connection = serving.handle.connection(1).unwrap();
    // The mark stays hidden, so nobody takes them out.
    wait_until(|| connection.send_event(1, b"news").is_err());
    wait_until(|| serving.handle.connections().is_empty());
}
