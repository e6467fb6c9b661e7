//! Traffic: every message arrives, once and whole, and no wake-up is lost.

use std::thread;
use std::time::{Duration, Instant};

use ringwire::{ErrorKind, Header, Kind, Listener, Readiness, Stream};

use super::common::{Random, Watchdog, assert_bytes, bytes, fill, second, setting};
use super::{EventLoop, LISTENER, TRIGGERS, event, listen, take_one};

const PROCESSES: usize = 2;
const CALLERS: usize = 25;
const CALLS: u64 = 100;
const MESSAGES: u64 = 100_000;
const ROUND_TRIPS: u64 = 20_000;

/// A second process of clients, each of which calls, and checks that its own bytes come back.
pub(super) fn callers() {
    let path = setting("SOCKET");
    let threads: Vec<_> = (0..CALLERS as u64)
        .map(|caller| {
            let mut stream = Stream::connect(&path).unwrap();
            thread::spawn(move || {
                let mut random = Random(caller + 1);
                for call in 0..CALLS {
                    let sent: Vec<_> = (0..=random.below(3)).map(|_| random.below(2000)).collect();
                    for length in &sent {
                        let header = Header::new(Kind::Request, 1, caller << 32 | call);
                        stream.send(header, &bytes(caller * 7 + call, *length as usize)).unwrap();
                    }
                    for length in sent {
                        let message = stream.receive().unwrap();
                        assert_eq!(message.header().correlation, caller << 32 | call);
                        let expected = bytes(caller * 7 + call, length as usize);
                        assert_bytes(&message.payload().to_vec(), &expected, "an answer");
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn echo_once(stream: &mut Stream, header: Header, payload: Vec<u8>) {
    stream.send(Header::new(Kind::Response, header.message_type, header.correlation), &payload).unwrap();
}

/// Accepts and serves `count` connections with one thread until all have ended.
fn serve(mut listener: Listener, mut events: EventLoop, count: usize) {
    events.epoll.add(&listener, events.event(LISTENER)).unwrap();
    let mut ended = 0;
    while ended < count {
        for data in events.wait(None) {
            let mut due = Vec::new();
            if data == LISTENER {
                while let Some(stream) = listener.try_accept().unwrap() {
                    due.push(events.add(stream));
                }
            } else if events.connections[data as usize].is_some() {
                due.push(data as usize);
            }
            for number in due {
                if let Err(error) = events.turn(number, echo_once) {
                    assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}");
                    events.remove(number);
                    ended += 1;
                }
            }
        }
    }
    assert_eq!(events.connections.len(), count);
}

#[test]
fn one_thread_serves_fifty_connections_of_other_processes() {
    let _watchdog = Watchdog::start();
    for (_, trigger) in TRIGGERS {
        let (_directory, listener) = listen();
        let settings = [("SOCKET", listener.path().to_str().unwrap())];
        let children: Vec<_> = (0..PROCESSES).map(|_| second("callers", &settings)).collect();
        serve(listener, EventLoop::new(trigger), PROCESSES * CALLERS);
        for child in children {
            child.join();
        }
    }
}

/// The second process: sends in bursts with pauses of all lengths, so that every one meets the reader in another state.
pub(super) fn bursts() {
    let mut stream = Stream::connect(setting("SOCKET")).unwrap();
    let (mut random, mut payload, mut number) = (Random(3), Vec::new(), 0);
    while number < MESSAGES {
        for _ in 0..=random.below(16) {
            let length = random.below(128) as usize;
            fill(number, &mut payload, length);
            stream.send(event(number), &payload).unwrap();
            number += 1;
        }
        let pause = Duration::from_nanos(random.below(20_000));
        let started = Instant::now();
        while started.elapsed() < pause {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn no_wake_up_is_lost_over_bursts_and_pauses() {
    let _watchdog = Watchdog::start();
    for (name, trigger) in TRIGGERS {
        let (_directory, mut listener) = listen();
        let child = second("bursts", &[("SOCKET", listener.path().to_str().unwrap())]);
        let mut events = EventLoop::with(trigger, listener.accept().unwrap());
        let (mut next, mut expected) = (0, Vec::new());
        let end = loop {
            let turned = events.turn(0, |_, header, payload| {
                assert_eq!(header.correlation, next);
                fill(next, &mut expected, payload.len());
                assert_bytes(&payload, &expected, "a message");
                next += 1;
            });
            match turned {
                Ok(()) => drop(events.wait(None)),
                Err(error) => break error,
            }
        };
        assert_eq!(end.kind(), ErrorKind::PeerClosed, "{end}");
        assert!(next >= MESSAGES, "{next} messages");
        println!("{name}: {next} messages in {} turns", events.turns);
        child.join();
    }
}

/// The second process: sends back what it receives.
pub(super) fn echo() {
    let mut stream = Stream::connect(setting("SOCKET")).unwrap();
    let mut buffer = Vec::new();
    while let Ok(header) = stream.receive_into(&mut buffer) {
        stream.send(header, &buffer).unwrap();
    }
}

#[test]
fn no_wake_up_is_lost_where_each_side_waits_for_the_other() {
    let _watchdog = Watchdog::start();
    for (name, trigger) in TRIGGERS {
        let (_directory, mut listener) = listen();
        let child = second("echo", &[("SOCKET", listener.path().to_str().unwrap())]);
        let mut events = EventLoop::with(trigger, listener.accept().unwrap());
        events.stream(0).send(event(0), b"there and back").unwrap();
        let mut next = 0;
        while next < ROUND_TRIPS {
            let turned = events.turn(0, |stream, header, payload| {
                assert_eq!((header.correlation, &payload[..]), (next, &b"there and back"[..]));
                next += 1;
                if next < ROUND_TRIPS {
                    stream.send(event(next), &payload).unwrap();
                }
            });
            turned.unwrap();
            if next < ROUND_TRIPS {
                events.wait(None);
            }
        }
        println!("{name}: {next} round trips in {} turns", events.turns);
        events.remove(0);
        child.join();
    }
}

#[test]
fn idle_armed_connections_cost_no_wake_ups() {
    let _watchdog = Watchdog::start();
    for (_, trigger) in TRIGGERS {
        let mut events = EventLoop::new(trigger);
        let mut peers = Vec::new();
        for number in 0..20 {
            let (mut peer, stream) = Stream::pair().unwrap();
            assert_eq!(events.add(stream), number);
            peer.send(event(0), b"hello").unwrap();
            events.turn(number, echo_once).unwrap();
            // Comes through the lifeline.
            peer.send(event(1), b"hello").unwrap();
            peers.push(peer);
        }
        let mut answered = 0;
        while answered < 20 {
            for number in events.wait(None) {
                events.turn(number as usize, |_, _, _| answered += 1).unwrap();
            }
        }
        assert_eq!(events.wait(Some(Duration::from_secs(1))), [0; 0]);
    }
}

/// mio's own view of a connection: edge-triggered, by its descriptor's number.
#[test]
fn mio_serves_a_listener_and_its_connections() {
    use std::os::fd::{AsFd, AsRawFd};

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};

    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    let settings = [("SOCKET", listener.path().to_str().unwrap())];
    let child = second("callers", &settings);
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let fd = listener.as_fd().as_raw_fd();
    poll.registry().register(&mut SourceFd(&fd), Token(CALLERS), Interest::READABLE).unwrap();
    let mut streams: Vec<Option<Stream>> = Vec::new();
    let mut ended = 0;
    while ended < CALLERS {
        poll.poll(&mut events, None).unwrap();
        let mut due: Vec<usize> = Vec::new();
        for event in &events {
            if event.token() != Token(CALLERS) {
                due.push(event.token().0);
                continue;
            }
            while let Some(stream) = listener.try_accept().unwrap() {
                let (number, fd) = (streams.len(), stream.as_fd().as_raw_fd());
                poll.registry().register(&mut SourceFd(&fd), Token(number), Interest::READABLE).unwrap();
                streams.push(Some(stream));
                due.push(number);
            }
        }
        for number in due {
            let Some(stream) = &mut streams[number] else { continue };
            let end = loop {
                match take_one(stream) {
                    Ok(Some((header, payload))) => echo_once(stream, header, payload),
                    Ok(None) if stream.arm() == Readiness::Armed => break None,
                    Ok(None) => {}
                    Err(error) => break Some(error),
                }
            };
            if let Some(error) = end {
                assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}");
                let fd = stream.as_fd().as_raw_fd();
                poll.registry().deregister(&mut SourceFd(&fd)).unwrap();
                streams[number] = None;
                ended += 1;
            }
        }
    }
    child.join();
}
