//! The end of a connection: everything sent before it is received.

use std::thread;
use std::time::Duration;

use ringwire::{Error, ErrorKind, Stream};

use super::common::{Watchdog, assert_bytes, bytes};
use super::{each_pair, event};

#[track_caller]
fn assert_closed<T>(result: Result<T, Error>) {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}");
    assert!(error.to_string().ends_with("closed the connection"), "{error}");
    assert!(!error.is_retryable());
}

fn drain(stream: &mut Stream, count: u64) {
    for number in 0..count {
        let message = stream.receive().unwrap();
        assert_eq!(message.header(), event(number));
        assert_bytes(&message.payload().to_vec(), &bytes(number, 60), "message");
    }
    for _ in 0..2 {
        assert_closed(stream.receive());
        assert_closed(stream.try_receive());
        assert_closed(stream.receive_into(&mut Vec::new()));
        assert_closed(stream.read_message());
    }
}

fn send_some(stream: &mut Stream) -> u64 {
    let mut count = 0;
    while stream.try_send(event(count), &bytes(count, 60)).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn what_was_sent_before_a_drop_or_a_close_is_received_then_the_end() {
    each_pair(|mut one, mut two, _, _| {
        let count = send_some(&mut one);
        drop(one);
        drain(&mut two, count);
    });
    each_pair(|mut one, mut two, _, _| {
        one.send(event(0), &bytes(0, 60)).unwrap();
        one.close();
        drain(&mut two, 1);
    });
}

#[test]
fn a_batch_and_a_dropped_slot_before_the_end_change_nothing() {
    each_pair(|mut one, mut two, _, ring_bytes| {
        one.batch().send(event(0), &bytes(0, 60)).unwrap();
        // Leaves padding that nobody has published.
        for _ in 0..3 {
            drop(one.reserve(event(9), ring_bytes as usize / 2 - 32).unwrap());
        }
        drop(one);
        drain(&mut two, 1);
    });
}

#[test]
fn the_sending_half_ends_one_direction_alone() {
    each_pair(|one, mut two, _, _| {
        let (mut sender, mut receiver) = one.split();
        sender.send(event(0), &bytes(0, 60)).unwrap();
        sender.close();
        drain(&mut two, 1);
        two.send(event(7), b"the other direction").unwrap();
        assert_eq!(receiver.receive().unwrap().payload().to_vec(), b"the other direction");
        drop(two);
        assert_closed(receiver.receive());
    });
}

#[test]
fn the_receiving_half_ends_the_peer_s_sending_alone() {
    each_pair(|one, mut two, _, _| {
        let (mut sender, receiver) = one.split();
        receiver.close();
        let refused = (0..100_000).find_map(|_| two.try_send(event(0), &[0; 60]).err()).unwrap();
        assert_eq!(refused.kind(), ErrorKind::PeerClosed);
        for length in [0, 60, 3000, 100_000] {
            assert_closed(two.send(event(0), &vec![0; length]));
        }
        assert_closed(two.reserve(event(0), 1));
        sender.send(event(1), b"the other direction").unwrap();
        assert_eq!(two.receive().unwrap().payload().to_vec(), b"the other direction");
    });
}

#[test]
fn a_writer_that_waits_for_room_sees_the_reader_go() {
    let _watchdog = Watchdog::start();
    for pause_ms in [0, 2, 30] {
        each_pair(|mut one, two, _, _| {
            send_some(&mut one);
            let reader = thread::spawn(move || {
                thread::sleep(Duration::from_millis(pause_ms));
                drop(two);
            });
            assert_closed(one.send(event(0), &[0; 60]));
            assert_closed(one.send(event(0), &[0; 60]));
            reader.join().unwrap();
        });
    }
}

#[test]
fn a_reader_that_waits_sees_the_writer_go() {
    let _watchdog = Watchdog::start();
    for pause_ms in [0, 2, 30] {
        each_pair(|one, mut two, _, _| {
            let writer = thread::spawn(move || {
                thread::sleep(Duration::from_millis(pause_ms));
                drop(one);
            });
            assert_closed(two.receive());
            writer.join().unwrap();
        });
    }
}

#[test]
fn an_end_in_the_middle_of_a_message_is_an_end() {
    each_pair(|mut one, mut two, _, _| {
        let mut message = one.write_message(event(0));
        message.write_piece(b"half").unwrap();
        std::mem::forget(message);
        drop(one);
        let mut reader = two.read_message().unwrap();
        assert_eq!(reader.next_piece().unwrap().unwrap().to_vec(), b"half");
        assert_closed(reader.next_piece());
        drop(reader);
        assert_closed(two.receive());
        assert_closed(two.receive_into(&mut Vec::new()));
    });
}

#[test]
fn halves_in_threads_of_their_own_end_when_both_are_gone() {
    let _watchdog = Watchdog::start();
    each_pair(|one, two, _, _| {
        let run = |stream: Stream| {
            let (mut sender, mut receiver) = stream.split();
            let sending = thread::spawn(move || {
                for number in 0..200 {
                    sender.send(event(number), &bytes(number, 60)).unwrap();
                }
            });
            let receiving = thread::spawn(move || {
                for number in 0..200 {
                    assert_bytes(
                        &receiver.receive().unwrap().payload().to_vec(),
                        &bytes(number, 60),
                        "message",
                    );
                }
                assert_closed(receiver.receive());
            });
            [sending, receiving]
        };
        for thread in run(one).into_iter().chain(run(two)) {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_stream_knows_its_peer() {
    let (one, two) = Stream::pair().unwrap();
    assert_eq!(one.peer().pid, std::process::id().cast_signed());
    assert_eq!(one.peer(), two.peer());
    let (sender, receiver) = one.split();
    assert_eq!(sender.peer(), receiver.peer());
}
