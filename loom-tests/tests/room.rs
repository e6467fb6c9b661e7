//! Waiting for room.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom::thread;
use loom_tests::{Ends, Failure, PAST, Script, Shape, check, must_fail, run};
use ringwire::ring::RingError;
use ringwire::sync::{Area, Kernel, Ordering, Word, weak};
use ringwire::wait::WaitError;

const WRAP: u64 = 1 << 32;
/// The reader publishes nothing of its own accord.
const OWING: Shape = Shape { start: 0, lazy_bytes: 64, ..Shape::new(64) };

/// One message fits; the second lies at the other side of the positions' wrap.
fn full<const WEAK: u64>() {
    run::<WEAK>(Shape { start: WRAP - 16, lazy_bytes: 8, ..Shape::new(32) }, Script::singly(&[0, 0]));
}

fn full_three<const WEAK: u64>() {
    run::<WEAK>(Shape { start: WRAP - 16, lazy_bytes: 8, ..Shape::new(32) }, Script::singly(&[0, 0, 0]));
}

fn full_varied<const WEAK: u64>() {
    run::<WEAK>(Shape { start: WRAP - 32, lazy_bytes: 8, ..Shape::new(64) }, Script::singly(&[9, 1, 2]));
}

/// `head` moves over two messages at once, and their bytes are written again.
fn reuse<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 0, lazy_bytes: 48, ..Shape::new(64) }, Script::singly(&[9]).behind(&[9, 0]));
}

/// Needs 24 bytes; `head` moves by 16.
fn steps<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 0, lazy_bytes: 8, ..Shape::new(64) }, Script::singly(&[9]).behind(&[0, 0, 0]));
}

fn owing<const WEAK: u64>() {
    run::<WEAK>(OWING, Script::singly(&[0, 9]).behind(&[9]));
}

/// The reader has consumed nearly what makes it publish.
fn owing_half<const WEAK: u64>() {
    run::<WEAK>(
        Shape { start: 0, lazy_bytes: 64, ..Shape::new(128) },
        Script::singly(&[48, 40]).behind(&[40]),
    );
}

/// The reader publishes with a fence of its own before it waits, as it does before it spins.
fn publishes_first<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, .. } = OWING.open::<WEAK>();
    sender.send(9).unwrap();
    let writer = thread::spawn(move || {
        sender.send(0).unwrap();
        sender.send(9).unwrap();
    });
    for length in [9, 0, 9] {
        let received = loop {
            if let Some(length) = receiver.try_receive().unwrap() {
                break length;
            }
            receiver.consumer.publish_consumed();
            receiver.wait().unwrap();
        };
        assert_eq!(received, length);
    }
    writer.join().unwrap();
}

/// The writer gives up waiting for much room, then waits for little: its marks go back.
fn gives_up<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, .. } =
        Shape { start: 0, lazy_bytes: 8, ..Shape::new(64) }.open::<WEAK>();
    sender.send(0).unwrap();
    sender.send(24).unwrap();
    let writer = thread::spawn(move || {
        if sender.producer.claim(40) == Err(RingError::Full) {
            let waited = sender.wait_for_room_until(PAST);
            assert!(waited.is_ok() || waited == Err(RingError::Wait(WaitError::TimedOut)), "{waited:?}");
        }
        sender.send(0).unwrap();
    });
    for length in [0, 24, 0] {
        assert_eq!(receiver.receive(), Ok(length));
    }
    writer.join().unwrap();
}

/// A third thread wakes the writer for no reason.
fn spurious<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, area, writer, .. } =
        Shape { lazy_bytes: 8, ..Shape::new(32) }.open::<WEAK>();
    sender.send(0).unwrap();
    let writing = thread::spawn(move || sender.send(0).unwrap());
    let stranger = thread::spawn(move || writer.wake(area.head()));
    assert_eq!(receiver.receive(), Ok(0));
    assert_eq!(receiver.receive(), Ok(0));
    writing.join().unwrap();
    stranger.join().unwrap();
}

/// The writer waits for exactly what the first release gives, which is where the reader looks whether to publish, and does
/// not since more is there; the reader then stops for ever.
fn stops_at_its_look<const WEAK: u64>() {
    let shape = Shape { start: 0, lazy_bytes: 64, restart_bytes: 16, ..Shape::new(64) };
    let Ends { mut sender, mut receiver, area, .. } = shape.open::<WEAK>();
    for _ in 0..3 {
        sender.send(0).unwrap();
    }
    let writer = thread::spawn(move || sender.send(0).unwrap());
    let waits = area.writer_parked().load(Ordering::Relaxed) != 0;
    assert_eq!(receiver.try_receive(), Ok(Some(0)));
    // Who waits by now must have been answered; whoever comes later is the business of the reader's next call.
    if !waits {
        receiver.consumer.publish_consumed();
    }
    writer.join().unwrap();
}

#[test]
fn a_full_ring_waits_across_the_wrap() {
    check(full::<0>);
}
#[test]
fn three_messages_pass_a_ring_for_one() {
    check(full_three::<0>);
}
#[test]
fn messages_of_all_lengths_pass_a_full_ring() {
    check(full_varied::<0>);
}
#[test]
fn bytes_of_two_messages_are_used_again() {
    check(reuse::<0>);
}
#[test]
fn room_comes_in_steps() {
    check(steps::<0>);
}
#[test]
fn a_reader_that_owes_the_whole_area_pays() {
    check(owing::<0>);
}
#[test]
fn a_reader_that_owes_half_the_area_pays() {
    check(owing_half::<0>);
}
#[test]
fn a_reader_that_publishes_before_it_spins_owes_nothing() {
    check(publishes_first::<0>);
}
#[test]
fn a_writer_that_gave_up_comes_back() {
    check(gives_up::<0>);
}
#[test]
fn a_wake_up_of_the_writer_for_no_reason_does_no_harm() {
    check(spurious::<0>);
}
#[test]
fn a_reader_that_stops_at_its_look_has_answered_a_waiting_writer() {
    check(stops_at_its_look::<0>);
}

#[test]
fn head_stored_relaxed() {
    must_fail(Failure::Race, reuse::<{ weak::HEAD_STORE }>);
}
#[test]
fn head_loaded_relaxed() {
    must_fail(Failure::Race, reuse::<{ weak::HEAD_LOAD }>);
}
#[test]
fn head_looked_without_fence() {
    must_fail(Failure::Deadlock, full::<{ weak::FENCE_HEAD_LOOK }>);
}
#[test]
fn head_looked_without_fence_before_spinning() {
    must_fail(Failure::Deadlock, publishes_first::<{ weak::FENCE_HEAD_LOOK }>);
}
#[test]
fn writer_park_without_fence() {
    must_fail(Failure::Deadlock, full::<{ weak::FENCE_WRITER_PARK }>);
}
#[test]
fn no_room_kept_for_the_next_word() {
    must_fail(Failure::Race, full::<{ weak::NO_RESERVE }>);
}
#[test]
fn writer_woken_before_there_is_enough() {
    must_fail(Failure::Deadlock, steps::<{ weak::WRITER_WOKEN_EARLY }>);
}
#[test]
fn reader_parks_owing() {
    must_fail(Failure::Deadlock, owing::<{ weak::NO_HEAD_BEFORE_PARK }>);
}
#[test]
fn a_look_that_passes_over_a_waiting_writer() {
    must_fail(Failure::Deadlock, stops_at_its_look::<{ weak::SAY_NO_LOOK }>);
}
