//! Parking by position.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom::thread;
use loom_tests::{Ends, Failure, PAST, Script, Shape, check, must_fail, run};
use ringwire::ring::RingError;
use ringwire::sync::{Area, Kernel, weak};
use ringwire::wait::{WaitError, Waker};

fn two<const WEAK: u64>() {
    run::<WEAK>(Shape::new(64), Script::singly(&[1, 8]));
}

/// A third thread wakes the reader for no reason.
fn spurious<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, area, reader, .. } = Shape::new(64).open::<WEAK>();
    let writer = thread::spawn(move || sender.send(1).unwrap());
    let stranger = thread::spawn(move || reader.wake(area.word(8)));
    assert_eq!(receiver.receive(), Ok(1));
    writer.join().unwrap();
    stranger.join().unwrap();
}

/// The waker has woken the very mark that the reader parks with: 4 GiB ago.
fn wrapped_memory<const WEAK: u64>() {
    const MARK: u32 = 8 | 1;
    let shape = Shape { start: (1 << 32) + 8, ..Shape::new(64) };
    let Ends { mut sender, mut receiver, .. } = shape.open::<WEAK>();
    sender.producer = sender.producer.with_waker(Waker::remembering(MARK, 16));
    let writer = thread::spawn(move || sender.send(1).unwrap());
    assert_eq!(receiver.receive(), Ok(1));
    writer.join().unwrap();
}

/// The reader gives up, and parks again with the same mark.
fn gives_up<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, .. } = Shape::new(64).open::<WEAK>();
    let writer = thread::spawn(move || sender.send(1).unwrap());
    let waited = receiver.wait_until(PAST);
    assert!(waited.is_ok() || waited == Err(RingError::Wait(WaitError::TimedOut)), "{waited:?}");
    assert_eq!(receiver.receive(), Ok(1));
    writer.join().unwrap();
}

#[test]
fn a_reader_that_gave_up_comes_back() {
    check(gives_up::<0>);
}
#[test]
fn a_wake_up_for_no_reason_does_no_harm() {
    check(spurious::<0>);
}
#[test]
fn a_remembered_mark_is_forgotten_before_it_comes_again() {
    check(wrapped_memory::<0>);
}

/// The prototype: the waker wakes the record just committed, the reader sleeps one further.
#[test]
fn parked_under_a_generation() {
    must_fail(Failure::Deadlock, two::<{ weak::GENERATION }>);
}
#[test]
fn reader_woken_before_its_message_is_there() {
    must_fail(Failure::Deadlock, two::<{ weak::NO_POSITION_CHECK }>);
}
#[test]
fn remembered_mark_never_forgotten() {
    must_fail(Failure::Deadlock, wrapped_memory::<{ weak::NO_FORGET }>);
}
