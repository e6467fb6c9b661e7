//! The end, from both sides.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom::thread;
use loom_tests::{Ends, Failure, Flag, Script, Shape, check, must_fail, run};
use ringwire::ring::RingError;
use ringwire::sync::weak;

fn close<const WEAK: u64>() {
    run::<WEAK>(Shape::new(64), Script::singly(&[1]).then_close());
}

/// The end of the end is the positions' wrap.
fn close_empty<const WEAK: u64>() {
    run::<WEAK>(Shape { start: (1 << 32) - 8, ..Shape::new(64) }, Script::default().then_close());
}

/// 56 of 64 bytes are used: only the word at the writer's position is free.
fn close_full<const WEAK: u64>() {
    run::<WEAK>(Shape::new(64), Script::singly(&[0]).behind(&[24]).then_close());
}

/// What was pending is published first, and the reader may sleep for it.
fn close_with_a_batch_pending<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, .. } = Shape::new(64).open::<WEAK>();
    let writer = thread::spawn(move || {
        sender.append(1).unwrap();
        sender.append(8).unwrap();
        sender.producer.close();
    });
    assert_eq!(receiver.receive(), Ok(1));
    assert_eq!(receiver.receive(), Ok(8));
    assert_eq!(receiver.receive(), Err(RingError::Closed));
    writer.join().unwrap();
}

/// A program that goes on after the end, at a boundary where a drained ring would start again.
fn used_after_close<const WEAK: u64>() {
    let shape = Shape { restart_bytes: 16, ..Shape::new(64) };
    let Ends { mut sender, mut receiver, .. } = shape.open::<WEAK>();
    sender.send(8).unwrap();
    let writer = thread::spawn(move || {
        sender.producer.close();
        assert_eq!(sender.send(0), Err(RingError::Closed));
        sender.producer.flush();
        sender.producer.close();
    });
    assert_eq!(receiver.receive(), Ok(8));
    assert_eq!(receiver.receive(), Err(RingError::Closed));
    writer.join().unwrap();
    assert_eq!(receiver.receive(), Err(RingError::Closed));
}

fn reader_closes<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, .. } = Shape::new(32).open::<WEAK>();
    sender.send(0).unwrap();
    let reader = thread::spawn(move || receiver.consumer.close());
    assert_eq!(sender.send(0), Err(RingError::Closed));
    reader.join().unwrap();
}

/// The reader has read, and owes what it read, when it goes.
fn reader_closes_owing<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, .. } = Shape { lazy_bytes: 32, ..Shape::new(32) }.open::<WEAK>();
    sender.send(0).unwrap();
    let reader = thread::spawn(move || {
        assert_eq!(receiver.receive(), Ok(0));
        receiver.consumer.close();
    });
    while sender.send(0).is_ok() {}
    assert_eq!(sender.send(0), Err(RingError::Closed));
    reader.join().unwrap();
}

/// Broken: the end is a flag in a word of its own. Behind it the reader looks once more at the ring.
fn flag<const MESSAGES: usize>() {
    let Ends { mut sender, mut receiver, area, writer, .. } = Shape::new(64).open::<0>();
    let closed = Flag::default();
    let closing = closed.clone();
    let writing = thread::spawn(move || {
        for _ in 0..MESSAGES {
            sender.send(1).unwrap();
        }
        closing.set(&area, &writer);
    });
    let mut received = 0;
    loop {
        let is_over = closed.is_set();
        if receiver.try_receive().unwrap().is_some() {
            received += 1;
        } else if is_over {
            break;
        } else {
            receiver.wait().unwrap();
        }
    }
    assert_eq!(received, MESSAGES);
    writing.join().unwrap();
}

#[test]
fn the_end_comes_behind_the_last_message() {
    check(close::<0>);
}
#[test]
fn the_end_comes_without_a_message() {
    check(close_empty::<0>);
}
#[test]
fn the_end_needs_no_room() {
    check(close_full::<0>);
}
#[test]
fn what_was_pending_comes_before_the_end() {
    check(close_with_a_batch_pending::<0>);
}
#[test]
fn nothing_comes_behind_the_end() {
    check(used_after_close::<0>);
}
#[test]
fn a_waiting_writer_hears_that_the_reader_goes() {
    check(reader_closes::<0>);
}
#[test]
fn a_writer_reuses_nothing_of_a_reader_that_goes() {
    check(reader_closes_owing::<0>);
}

#[test]
fn end_without_a_look() {
    must_fail(Failure::Deadlock, close_empty::<{ weak::CLOSE_NO_LOOK }>);
}
#[test]
fn reader_goes_without_a_look() {
    must_fail(Failure::Deadlock, reader_closes::<{ weak::READER_CLOSE_NO_LOOK }>);
}
#[test]
fn reader_goes_without_fence() {
    must_fail(Failure::Deadlock, reader_closes::<{ weak::FENCE_HEAD_LOOK }>);
}
#[test]
fn end_in_a_word_of_its_own() {
    must_fail(Failure::Deadlock, flag::<1>);
}
#[test]
fn end_in_a_word_of_its_own_without_a_message() {
    must_fail(Failure::Deadlock, flag::<0>);
}
