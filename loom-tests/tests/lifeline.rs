//! Sleeping on the lifeline, after the slices on the word.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom::thread;
use loom_tests::{Ends, Failure, Script, Shape, Slices, check, must_fail, run};
use ringwire::sync::{Kernel, weak};

const IDLE: Shape = Shape { reader_slices: Slices::Over, ..Shape::new(64) };

fn one<const WEAK: u64>() {
    run::<WEAK>(IDLE, Script::singly(&[2]));
}

fn two<const WEAK: u64>() {
    run::<WEAK>(IDLE, Script::singly(&[1, 8]));
}

fn closes<const WEAK: u64>() {
    run::<WEAK>(IDLE, Script::singly(&[1]).then_close());
}

/// The writer waits for room meanwhile, and the reader owes it.
fn full<const WEAK: u64>() {
    let shape = Shape { ring_bytes: 32, lazy_bytes: 32, ..IDLE };
    run::<WEAK>(shape, Script::singly(&[0]).behind(&[0]));
}

/// The reader listens at padding, before the writer waits for the room of a message that does not fit beside it.
fn padding<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 32, lazy_bytes: 8, ..IDLE }, Script::singly(&[40]));
}

/// Something else than this ring's writer rings.
fn rung_by_another<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, writer, .. } = IDLE.open::<WEAK>();
    let writing = thread::spawn(move || sender.send(1).unwrap());
    let another = thread::spawn(move || writer.ring_bell());
    assert_eq!(receiver.receive(), Ok(1));
    writing.join().unwrap();
    another.join().unwrap();
}

#[test]
fn a_reader_on_the_lifeline_is_woken() {
    check(one::<0>);
}
#[test]
fn a_reader_goes_over_to_the_lifeline_for_each_message() {
    check(two::<0>);
}
#[test]
fn a_reader_on_the_lifeline_hears_the_end() {
    check(closes::<0>);
}
#[test]
fn a_reader_on_the_lifeline_owes_nothing() {
    check(full::<0>);
}
#[test]
fn a_reader_on_the_lifeline_hears_of_padding() {
    check(padding::<0>);
}
#[test]
fn a_ring_for_something_else_does_no_harm() {
    check(rung_by_another::<0>);
}

#[test]
fn commit_looked_without_fence_on_lifeline() {
    must_fail(Failure::Deadlock, one::<{ weak::FENCE_COMMIT_LOOK }>);
}
#[test]
fn reader_park_on_lifeline_without_fence() {
    must_fail(Failure::Deadlock, one::<{ weak::FENCE_READER_PARK }>);
}
#[test]
fn lifeline_without_a_last_look() {
    must_fail(Failure::Deadlock, one::<{ weak::NO_LAST_LOOK }>);
}
