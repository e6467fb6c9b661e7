//! Peers that mean harm, in one event loop with others that do not.

use std::io::{ErrorKind::WouldBlock, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringwire::sync::Counter;
use ringwire::{ErrorKind, Header, Kind, Stream};

use super::common::Watchdog;
use super::common::raw::raw_client;
use super::{EventLoop, TRIGGERS, event, listen};

const NEIGHBOURS: u64 = 5;
const CALLS: u64 = 500;

/// A healthy client: calls, one after the other.
fn call(mut stream: Stream, neighbour: u64) {
    for number in 0..CALLS {
        stream.send(Header::new(Kind::Request, 1, neighbour << 32 | number), b"ping").unwrap();
        let answer = stream.receive().unwrap();
        assert_eq!(answer.header().correlation, neighbour << 32 | number);
        assert_eq!(answer.payload().to_vec(), b"ping");
    }
}

/// Serves until all but connection 0, the hostile one, have ended.
fn serve_the_others(events: &mut EventLoop) {
    let mut due: Vec<_> = (0..events.connections.len() as u64).collect();
    let mut left = due.len() - 1;
    while left > 0 {
        for number in due {
            let number = number as usize;
            if events.connections[number].is_none() {
                continue;
            }
            let turned = events.turn(number, |stream, header, payload| {
                stream.send(header, &payload).unwrap();
            });
            if let Err(error) = turned {
                assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}");
                events.remove(number);
                left -= 1;
            }
        }
        due = if left > 0 { events.wait(None) } else { Vec::new() };
    }
}

#[test]
fn a_peer_that_rings_without_end_holds_up_nobody() {
    let _watchdog = Watchdog::start();
    for (_, trigger) in TRIGGERS {
        let (_directory, mut listener) = listen();
        let (stream, peer) = raw_client(&mut listener, 4096);
        let mut events = EventLoop::with(trigger, stream);
        let stop = Arc::new(Counter::new(0));
        let stopped = Arc::clone(&stop);
        let mut lifeline = peer.lifeline.try_clone().unwrap();
        lifeline.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        let ringing = thread::spawn(move || {
            while stopped.get() == 0 {
                let _ = lifeline.write(&[1; 4096]);
            }
        });
        let neighbours: Vec<_> = (1..=NEIGHBOURS)
            .map(|neighbour| {
                let (client, server) = Stream::pair().unwrap();
                events.add(server);
                thread::spawn(move || call(client, neighbour))
            })
            .collect();
        serve_the_others(&mut events);
        for neighbour in neighbours {
            neighbour.join().unwrap();
        }
        // It still has a connection like any other.
        let mut writer = peer.writer();
        writer.record(0, 7, b"after all");
        assert_eq!(events.stream(0).receive().unwrap().header(), event(7));
        stop.add(1);
        drop(peer);
        ringing.join().unwrap();
    }
}

/// Edge-triggered, the hang-up behind all those bells is told once.
#[test]
fn a_death_behind_a_socket_full_of_bells_is_told() {
    let _watchdog = Watchdog::start();
    for (_, trigger) in TRIGGERS {
        let (_directory, mut listener) = listen();
        let (stream, mut peer) = raw_client(&mut listener, 4096);
        let mut events = EventLoop::with(trigger, stream);
        events.turn(0, |_, _, _| ()).unwrap();
        peer.lifeline.set_nonblocking(true).unwrap();
        let full = loop {
            if let Err(error) = peer.lifeline.write_all(&[1; 64]) {
                break error;
            }
        };
        assert_eq!(full.kind(), WouldBlock);
        drop(peer);
        let error = loop {
            assert_eq!(events.wait(None), [0]);
            if let Err(error) = events.turn(0, |_, _, _| ()) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::PeerDied);
    }
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_apart() {
    let _watchdog = Watchdog::start();
    for (_, trigger) in TRIGGERS {
        let (_directory, mut listener) = listen();
        let (stream, mut peer) = raw_client(&mut listener, 4096);
        let mut events = EventLoop::with(trigger, stream);
        events.turn(0, |_, _, _| ()).unwrap();
        peer.writer().commit(5);
        peer.ring_the_bell();
        assert_eq!(events.wait(None), [0]);
        for _ in 0..2 {
            let error = events.turn(0, |_, _, _| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptPeer, "{error}");
        }
        assert!(peer.sees_the_end());
    }
}
