//! The steps between two turns, one by one and out of order.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringwire::{ErrorKind, Listener, Readiness, Receiver, Stream, WaitStrategy};

use super::common::{Watchdog, assert_bytes, bytes, wait_until};
use super::{EventLoop, TRIGGERS, event, listen};

fn is_readable(descriptor: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).unwrap() > 0
}

#[test]
fn a_mark_is_rung_for_once_and_taken_back_by_the_next_receive() {
    let _watchdog = Watchdog::start();
    let (mut peer, mut stream) = Stream::pair().unwrap();
    assert_eq!(stream.arm(), Readiness::Armed);
    assert!(!is_readable(&stream));
    peer.send(event(1), b"one").unwrap();
    assert!(is_readable(&stream));
    assert_eq!(stream.arm(), Readiness::Ready);
    assert_eq!(stream.receive().unwrap().header().correlation, 1);
    assert!(stream.try_receive().unwrap().is_none());
    assert!(!is_readable(&stream), "the bell has been taken in");
    peer.send(event(2), b"two").unwrap();
    assert!(!is_readable(&stream), "nobody has asked for a bell");
    assert_eq!(stream.arm(), Readiness::Ready);
    assert_eq!(stream.receive().unwrap().header().correlation, 2);
    assert_eq!(stream.arm(), Readiness::Armed);
    assert!(stream.try_receive().unwrap().is_none());
    peer.send(event(3), b"three").unwrap();
    assert!(!is_readable(&stream), "it has been taken back");
}

#[test]
fn arming_twice_is_arming() {
    let _watchdog = Watchdog::start();
    let (mut peer, mut stream) = Stream::pair().unwrap();
    for number in 0..100 {
        assert_eq!(stream.arm(), Readiness::Armed);
        assert_eq!(stream.arm(), Readiness::Armed);
        assert!(!is_readable(&stream));
        peer.send(event(number), b"").unwrap();
        assert!(is_readable(&stream));
        assert_eq!(stream.receive().unwrap().header().correlation, number);
    }
}

#[test]
fn an_armed_connection_can_wait_in_a_call() {
    let _watchdog = Watchdog::start();
    for strategy in [WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce, WaitStrategy::SpinOnly] {
        let (mut peer, mut stream) = Stream::pair_with(4096, strategy).unwrap();
        let sending = thread::spawn(move || {
            for number in 0..20 {
                // Long enough for the reader to go over to the lifeline now and then.
                thread::sleep(Duration::from_millis(number % 15));
                peer.send(event(number), b"").unwrap();
            }
        });
        for number in 0..20 {
            let _ = stream.arm();
            assert_eq!(stream.receive().unwrap().header().correlation, number);
        }
        sending.join().unwrap();
        assert_eq!(stream.receive().unwrap_err().kind(), ErrorKind::PeerClosed);
    }
}

#[test]
fn a_wait_in_a_call_times_out_and_can_be_armed_again() {
    let _watchdog = Watchdog::start();
    let (mut peer, mut stream) = Stream::pair().unwrap();
    stream.set_receive_timeout(Some(Duration::from_millis(30)));
    for number in 0..3 {
        assert_eq!(stream.arm(), Readiness::Armed);
        assert_eq!(stream.receive().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(stream.arm(), Readiness::Armed);
        peer.send(event(number), b"").unwrap();
        assert!(is_readable(&stream));
        assert_eq!(stream.receive().unwrap().header().correlation, number);
    }
}

#[test]
fn a_connection_goes_while_it_is_armed() {
    let _watchdog = Watchdog::start();
    let (mut peer, mut stream) = Stream::pair().unwrap();
    peer.send(event(0), b"").unwrap();
    drop(stream.receive().unwrap());
    assert_eq!(stream.arm(), Readiness::Armed);
    drop(stream);
    assert_eq!(peer.receive().unwrap_err().kind(), ErrorKind::PeerClosed);
    // It may have been told to ring.
    wait_until(|| peer.send(event(1), &[0; 1000]).is_err());
}

#[test]
fn half_a_connection_is_armed_like_a_whole_one() {
    let _watchdog = Watchdog::start();
    let (peer, mut stream) = Stream::pair().unwrap();
    assert_eq!(stream.arm(), Readiness::Armed);
    let (_sender, mut receiver) = stream.split();
    let (mut peer, _rest) = peer.split();
    peer.send(event(1), b"").unwrap();
    assert!(is_readable(&receiver));
    assert_eq!(receiver.try_receive().unwrap().unwrap().header().correlation, 1);
    assert_eq!(receiver.arm(), Readiness::Armed);
    drop(peer);
    assert!(is_readable(&receiver));
    assert_eq!(receiver.try_receive().unwrap_err().kind(), ErrorKind::PeerClosed);
}

/// How much fits when everything has been consumed, and then `done`.
fn room_after(done: fn(&mut Receiver)) -> usize {
    let (peer, stream) = Stream::pair_with(4096, WaitStrategy::ParkAtOnce).unwrap();
    let ((mut peer, _), (_, mut receiver)) = (peer.split(), stream.split());
    let mut fill = || (0..).take_while(|_| peer.try_send(event(0), &[0; 400]).is_ok()).count();
    for _ in 0..fill() {
        drop(receiver.receive().unwrap());
    }
    done(&mut receiver);
    fill()
}

#[test]
fn an_armed_connection_owes_no_room() {
    let all = room_after(Receiver::publish_consumed);
    assert!(room_after(|_| ()) < all, "there is nothing to owe");
    assert_eq!(room_after(|receiver| assert_eq!(receiver.arm(), Readiness::Armed)), all);
}

/// A send that waits for room sets aside what comes, also what an armed connection is rung for.
#[test]
fn what_a_send_has_set_aside_is_not_slept_over() {
    let _watchdog = Watchdog::start();
    let (mut peer, mut stream) = Stream::pair_with(4096, WaitStrategy::default()).unwrap();
    assert_eq!(stream.arm(), Readiness::Armed);
    for number in 0..3 {
        peer.send(event(number), b"set aside").unwrap();
    }
    stream.set_send_timeout(Some(Duration::from_millis(20)));
    let mut sent = 0;
    while stream.send(event(sent), &[0; 500]).is_ok() {
        sent += 1;
    }
    assert!(is_readable(&stream), "rung for the first");
    assert_eq!(stream.arm(), Readiness::Ready);
    for number in 0..3 {
        assert_eq!(stream.try_receive().unwrap().unwrap().header().correlation, number);
    }
    assert!(stream.try_receive().unwrap().is_none());
    assert_eq!(stream.arm(), Readiness::Armed);
    peer.send(event(3), b"").unwrap();
    assert!(is_readable(&stream));
}

/// With a receive timeout of zero, messages in fragments are put together without a wait.
#[test]
fn messages_in_fragments_come_over_many_turns() {
    let _watchdog = Watchdog::start();
    for (_, trigger) in TRIGGERS {
        let (mut peer, mut stream) = Stream::pair_with(4096, WaitStrategy::default()).unwrap();
        stream.set_receive_timeout(Some(Duration::ZERO));
        let mut buffer = Vec::new();
        assert_eq!(stream.receive_into(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
        let mut events = EventLoop::with(trigger, stream);
        let sending = thread::spawn(move || {
            for number in 0..5 {
                peer.send(event(number), &bytes(number, 50_000)).unwrap();
            }
        });
        let mut next = 0;
        let end = loop {
            match events.stream(0).receive_into(&mut buffer) {
                Ok(header) => {
                    assert_eq!(header.correlation, next);
                    assert_bytes(&buffer, &bytes(next, 50_000), "a message");
                    next += 1;
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    if events.stream(0).arm() == Readiness::Armed {
                        assert_eq!(events.wait(None), [0]);
                    }
                }
                Err(error) => break error,
            }
        };
        assert_eq!((end.kind(), next), (ErrorKind::PeerClosed, 5));
        sending.join().unwrap();
    }
}

#[test]
fn a_listener_waits_in_an_event_loop() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    assert!(listener.try_accept().unwrap().is_none());
    assert!(!is_readable(&listener));
    let path = listener.path().to_owned();
    let connecting = thread::spawn(move || [0; 3].map(|_| Stream::connect(&path).unwrap()));
    let mut streams = Vec::new();
    while streams.len() < 3 {
        wait_until(|| is_readable(&listener));
        // Between connect and `Hello` there is nobody to hand out yet.
        streams.extend(std::iter::from_fn(|| listener.try_accept().unwrap()));
    }
    let mut peers = connecting.join().unwrap();
    for (stream, peer) in streams.iter_mut().zip(&mut peers) {
        peer.send(event(1), b"").unwrap();
        assert_eq!(stream.receive().unwrap().header().correlation, 1);
    }
    assert!(!is_readable(&listener), "its streams' bells are none of its business");
}

/// A client that stalls in the handshake keeps nobody busy, and is dropped by the next look.
#[test]
fn a_stalled_client_is_no_reason_to_look() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    let stalled = std::os::unix::net::UnixStream::connect(listener.path()).unwrap();
    assert!(is_readable(&listener));
    assert!(listener.try_accept().unwrap().is_none());
    assert!(!is_readable(&listener));
    thread::sleep(Duration::from_millis(1100));
    assert!(!is_readable(&stalled), "nobody has looked");
    assert!(listener.try_accept().unwrap().is_none());
    assert!(is_readable(&stalled), "refused");
    drop(stalled);
    assert!(!is_readable(&listener));
    let path = listener.path().to_owned();
    let connecting = thread::spawn(move || Stream::connect(path).unwrap());
    wait_until(|| listener.try_accept().unwrap().is_some());
    drop::<Stream>(connecting.join().unwrap());
    drop::<Listener>(listener);
}
