//! Publishing in-band.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom_tests::{Failure, Script, Shape, check, must_fail, run};
use ringwire::sync::weak;

fn one<const WEAK: u64>() {
    run::<WEAK>(Shape::new(64), Script::singly(&[2]));
}
fn two<const WEAK: u64>() {
    run::<WEAK>(Shape::new(64), Script::singly(&[1, 8]));
}
fn three<const WEAK: u64>() {
    run::<WEAK>(Shape::new(128), Script::singly(&[1, 9, 0]));
}

#[test]
fn one_message_arrives_whole() {
    check(one::<0>);
}
#[test]
fn two_messages_arrive_whole() {
    check(two::<0>);
}
#[test]
fn three_messages_arrive_whole() {
    check(three::<0>);
}

#[test]
fn commit_stored_relaxed() {
    must_fail(Failure::Race, one::<{ weak::COMMIT_STORE }>);
}
#[test]
fn commit_loaded_relaxed() {
    must_fail(Failure::Race, one::<{ weak::COMMIT_LOAD }>);
}
#[test]
fn commit_looked_without_fence() {
    must_fail(Failure::Deadlock, one::<{ weak::FENCE_COMMIT_LOOK }>);
}
#[test]
fn reader_park_without_fence() {
    must_fail(Failure::Deadlock, one::<{ weak::FENCE_READER_PARK }>);
}

#[test]
fn next_word_not_zeroed() {
    must_fail(Failure::Assertion, one::<{ weak::NO_ZERO }>);
}
#[test]
fn next_word_zeroed_after_the_commit() {
    must_fail(Failure::Race, two::<{ weak::ZERO_LATE }>);
}
