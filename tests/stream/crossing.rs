//! Two sides that send at once.

use std::thread;
use std::time::Duration;

use ringwire::{ErrorKind, Stream, WaitStrategy};

use super::common::{Watchdog, assert_bytes, bytes};
use super::{event, pair_with_limits};

/// Spinning threads share two processors with other tests, so they get larger rings: fewer hand-offs.
const SETTINGS: [(u32, WaitStrategy); 7] = [
    (4 << 10, WaitStrategy::ParkAtOnce),
    (4 << 10, WaitStrategy::SpinThenPark),
    (64 << 10, WaitStrategy::ParkAtOnce),
    (64 << 10, WaitStrategy::SpinThenPark),
    (1 << 20, WaitStrategy::SpinThenPark),
    (64 << 10, WaitStrategy::SpinOnly),
    (1 << 20, WaitStrategy::SpinOnly),
];

/// Sends `count` messages, then receives as many.
fn send_then_receive(stream: &mut Stream, count: u64, length: usize, seed: u64) {
    for number in 0..count {
        stream.send(event(number), &bytes(number + seed, length)).unwrap();
    }
    let mut buffer = Vec::new();
    for number in 0..count {
        assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(number));
        assert_bytes(&buffer, &bytes(number + 1 - seed, length), "message");
    }
    assert!(stream.try_receive().unwrap().is_none());
}

fn both(ring_bytes: u32, strategy: WaitStrategy, body: impl Fn(&mut Stream, u64) + Copy + Send + 'static) {
    let (mut one, mut two) = Stream::pair_with(ring_bytes, strategy).unwrap();
    let other = thread::spawn(move || {
        body(&mut two, 1);
        two
    });
    body(&mut one, 0);
    drop(other.join().unwrap());
}

#[test]
fn many_messages_both_ways_before_either_side_receives() {
    let _watchdog = Watchdog::start();
    for (ring_bytes, strategy) in SETTINGS {
        both(ring_bytes, strategy, |stream, seed| send_then_receive(stream, 40, 32 << 10, seed));
    }
}

#[test]
fn a_mebibyte_each_way_at_once() {
    let _watchdog = Watchdog::start();
    for (ring_bytes, strategy) in SETTINGS {
        both(ring_bytes, strategy, |stream, seed| send_then_receive(stream, 2, 1 << 20, seed));
    }
}

#[test]
fn small_messages_and_slots_and_batches_both_ways_at_once() {
    let _watchdog = Watchdog::start();
    for (ring_bytes, strategy) in SETTINGS {
        both(ring_bytes, strategy, |stream, _| {
            for number in 0..900 {
                match number % 3 {
                    0 => stream.send(event(number), &[1; 200]).unwrap(),
                    1 => stream.batch().send(event(number), &[1; 200]).unwrap(),
                    _ => {
                        let mut slot = stream.reserve(event(number), 300).unwrap();
                        slot.write(&[1; 200]);
                        slot.commit();
                    }
                }
            }
            for number in 0..900 {
                let message = stream.receive().unwrap();
                assert_eq!((message.header(), message.payload().to_vec()), (event(number), vec![1; 200]));
            }
        });
    }
}

#[test]
fn messages_in_pieces_both_ways_at_once() {
    let _watchdog = Watchdog::start();
    for (ring_bytes, strategy) in SETTINGS {
        both(ring_bytes, strategy, |stream, seed| {
            let mut message = stream.write_message(event(seed));
            for piece in bytes(seed, 500_000).chunks(7777) {
                message.write_piece(piece).unwrap();
            }
            message.finish().unwrap();
            let mut buffer = Vec::new();
            assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(1 - seed));
            assert_bytes(&buffer, &bytes(1 - seed, 500_000), "pieces");
        });
    }
}

#[test]
fn try_send_of_more_than_a_ring_both_ways_at_once() {
    let _watchdog = Watchdog::start();
    for (ring_bytes, strategy) in SETTINGS {
        both(ring_bytes, strategy, |stream, seed| {
            stream.try_send(event(seed), &bytes(seed, 1 << 20)).unwrap();
            let mut buffer = Vec::new();
            assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(1 - seed));
            assert_bytes(&buffer, &bytes(1 - seed, 1 << 20), "message");
        });
    }
}

#[test]
fn halves_in_two_threads_on_each_side() {
    let _watchdog = Watchdog::start();
    for (ring_bytes, strategy) in SETTINGS {
        let (one, two) = Stream::pair_with(ring_bytes, strategy).unwrap();
        let run = |stream: Stream, seed: u64| {
            let (mut sender, mut receiver) = stream.split();
            let sending = thread::spawn(move || {
                for number in 0..3 {
                    sender.send(event(number), &bytes(seed + number, 1 << 20)).unwrap();
                }
                sender
            });
            let receiving = thread::spawn(move || {
                let mut buffer = Vec::new();
                for number in 0..3 {
                    assert_eq!(receiver.receive_into(&mut buffer).unwrap(), event(number));
                    assert_bytes(&buffer, &bytes(1 - seed + number, 1 << 20), "message");
                }
                receiver
            });
            (sending, receiving)
        };
        let (first, second) = (run(one, 0), run(two, 1));
        for (sending, receiving) in [first, second] {
            drop((sending.join().unwrap(), receiving.join().unwrap()));
        }
    }
}

#[test]
fn what_is_set_aside_is_limited_and_not_lost() {
    let _watchdog = Watchdog::start();
    let (mut client, mut server) = pair_with_limits(10_000, 10_000, 4096);
    // Each side sends until it may not any more, then takes in what the other has sent.
    let run = |stream: &mut Stream| -> (u64, ErrorKind) {
        let mut count = 0;
        stream.set_send_timeout(Some(Duration::from_millis(500)));
        let refused = loop {
            match stream.send(event(count), &[7; 1000]) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        (count, refused.kind())
    };
    let other = thread::spawn(move || {
        let sent = run(&mut server);
        (server, sent)
    });
    let (sent, refused) = run(&mut client);
    let (mut server, (other_sent, other_refused)) = other.join().unwrap();
    // One has the limit set aside and says so; the other may run out of time before it comes to that.
    let kinds = [refused, other_refused];
    assert!(kinds.contains(&ErrorKind::ResourceExhausted), "{kinds:?}");
    assert!(
        kinds.iter().all(|kind| [ErrorKind::ResourceExhausted, ErrorKind::TimedOut].contains(kind)),
        "{kinds:?}"
    );
    for (stream, count) in [(&mut client, other_sent), (&mut server, sent)] {
        for number in 0..count {
            assert_eq!(stream.receive().unwrap().header(), event(number));
        }
        assert!(stream.try_receive().unwrap().is_none());
    }
    client.send(event(0), b"works again").unwrap();
    assert_eq!(server.receive().unwrap().payload().to_vec(), b"works again");
}
