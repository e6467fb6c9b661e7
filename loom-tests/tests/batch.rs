//! Several messages, published at once.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom_tests::{Failure, Script, Shape, check, must_fail, run};
use ringwire::sync::weak;

fn batch<const WEAK: u64>() {
    run::<WEAK>(Shape::new(64), Script::batch(&[1, 8]));
}

fn batch_of_three<const WEAK: u64>() {
    run::<WEAK>(Shape::new(128), Script::batch(&[1, 0, 9]));
}

fn batch_after<const WEAK: u64>() {
    let script = Script { singly: &[0], ..Script::batch(&[1, 8]) };
    run::<WEAK>(Shape::new(128), script);
}

/// The batch does not fit whole.
fn batch_full<const WEAK: u64>() {
    run::<WEAK>(Shape { lazy_bytes: 8, ..Shape::new(64) }, Script::batch(&[9, 9]));
}

fn batch_padded<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 88, ..Shape::new(128) }, Script::batch(&[1, 2]));
}

#[test]
fn a_batch_arrives_whole() {
    check(batch::<0>);
}
#[test]
fn a_batch_of_three_arrives_whole() {
    check(batch_of_three::<0>);
}
#[test]
fn a_batch_behind_a_message_arrives_whole() {
    check(batch_after::<0>);
}
#[test]
fn a_batch_that_waits_for_room_is_no_transaction() {
    check(batch_full::<0>);
}
#[test]
fn a_batch_goes_on_behind_padding() {
    check(batch_padded::<0>);
}

#[test]
fn first_commit_of_a_batch_stored_relaxed() {
    must_fail(Failure::Race, batch::<{ weak::COMMIT_STORE }>);
}
#[test]
fn next_word_of_a_batch_not_zeroed() {
    must_fail(Failure::Assertion, batch::<{ weak::NO_ZERO }>);
}
#[test]
fn batch_waits_unpublished() {
    must_fail(Failure::Deadlock, batch_full::<{ weak::BATCH_UNPUBLISHED }>);
}
#[test]
fn first_word_of_a_batch_stored_first() {
    must_fail(Failure::Race, batch::<{ weak::FIRST_FIRST }>);
}
