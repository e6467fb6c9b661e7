//! Records that are written in place.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom::thread;
use loom_tests::{Ends, Shape, check};
use ringwire::ring::RingError;

/// More is reserved than is written; the second slot waits for room.
fn committed() {
    let Ends { mut sender, mut receiver, .. } = Shape { lazy_bytes: 8, ..Shape::new(64) }.open::<0>();
    let writer = thread::spawn(move || {
        sender.send_in_slot(16, 3).unwrap();
        sender.send_in_slot(16, 16).unwrap();
        sender.producer.position()
    });
    assert_eq!(receiver.receive(), Ok(3));
    assert_eq!(receiver.receive(), Ok(16));
    assert_eq!(receiver.consumer.position(), writer.join().unwrap());
}

/// Words go in and out without a buffer, over places where other laps have commit words.
fn words() {
    let Ends { mut sender, mut receiver, .. } = Shape { lazy_bytes: 8, ..Shape::new(64) }.open::<0>();
    let writer = thread::spawn(move || {
        sender.send(16).unwrap();
        sender.send_words(&[7, 8, 9]).unwrap();
    });
    assert_eq!(receiver.receive(), Ok(16));
    assert_eq!(receiver.receive_words().unwrap(), [7, 8, 9]);
    writer.join().unwrap();
}

/// Nothing of an aborted slot is seen; the next message takes its place.
fn aborted() {
    let Ends { mut sender, mut receiver, .. } = Shape::new(64).open::<0>();
    let writer = thread::spawn(move || {
        sender.abort_slot(16, 9).unwrap();
        sender.send(1).unwrap();
    });
    assert_eq!(receiver.receive(), Ok(1));
    writer.join().unwrap();
}

/// Padding in front of an aborted slot stays pending, and goes out with the next message.
fn aborted_behind_padding() {
    let Ends { mut sender, mut receiver, .. } = Shape { start: 48, ..Shape::new(64) }.open::<0>();
    let writer = thread::spawn(move || {
        sender.abort_slot(16, 9).unwrap();
        sender.send(1).unwrap();
    });
    assert_eq!(receiver.receive(), Ok(1));
    writer.join().unwrap();
}

/// The same, and then the end: the reader may sleep at the padding.
fn closed_behind_an_aborted_slot() {
    let Ends { mut sender, mut receiver, .. } = Shape { start: 48, ..Shape::new(64) }.open::<0>();
    let writer = thread::spawn(move || {
        sender.abort_slot(16, 9).unwrap();
        sender.producer.close();
    });
    assert_eq!(receiver.receive(), Err(RingError::Closed));
    writer.join().unwrap();
}

/// Padding of a restart in front of an aborted slot.
fn aborted_at_a_restart() {
    let shape = Shape { start: 24, restart_bytes: 16, ..Shape::new(64) };
    let Ends { mut sender, mut receiver, .. } = shape.open::<0>();
    let writer = thread::spawn(move || {
        sender.send(0).unwrap();
        sender.abort_slot(8, 8).unwrap();
        sender.send(2).unwrap();
    });
    assert_eq!(receiver.receive(), Ok(0));
    assert_eq!(receiver.receive(), Ok(2));
    writer.join().unwrap();
}

#[test]
fn a_slot_is_as_long_as_what_was_written() {
    check(committed);
}
#[test]
fn words_written_in_place_arrive_whole() {
    check(words);
}
#[test]
fn an_aborted_slot_is_never_seen() {
    check(aborted);
}
#[test]
fn padding_of_an_aborted_slot_goes_out_with_the_next_message() {
    check(aborted_behind_padding);
}
#[test]
fn padding_of_an_aborted_slot_goes_out_before_the_end() {
    check(closed_behind_an_aborted_slot);
}
#[test]
fn a_slot_may_be_aborted_where_the_ring_starts_again() {
    check(aborted_at_a_restart);
}
