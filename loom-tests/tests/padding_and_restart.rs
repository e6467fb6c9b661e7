//! Padding to the end of the area, and starting again at offset 0 once the ring is drained.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom_tests::{Failure, Script, Shape, check, must_fail, run};
use ringwire::sync::weak;

/// The first message does not fit before the end, which is the positions' wrap.
fn padding<const WEAK: u64>() {
    run::<WEAK>(Shape { start: (1 << 32) - 16, lazy_bytes: 8, ..Shape::new(64) }, Script::singly(&[1, 2]));
}

/// Padding of 8 bytes, shorter than a header.
fn short_padding<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 56, ..Shape::new(64) }, Script::singly(&[1, 2]));
}

/// The second message does not fit before the end.
fn padding_after<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 24, lazy_bytes: 8, ..Shape::new(64) }, Script::singly(&[8, 9]));
}

/// Padding and the longest message together exceed the area: each waits until the reader has taken everything.
fn big<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 32, lazy_bytes: 8, ..Shape::new(64) }, Script::singly(&[40]));
}

fn restart<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 24, restart_bytes: 32, ..Shape::new(64) }, Script::singly(&[0, 1]));
}

fn restart_three<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 8, restart_bytes: 16, ..Shape::new(64) }, Script::singly(&[0, 1, 0]));
}

/// A boundary is crossed while both messages that lie at the area's start may be unread.
fn restart_behind<const WEAK: u64>() {
    run::<WEAK>(
        Shape { start: 0, restart_bytes: 16, ..Shape::new(64) },
        Script::singly(&[0]).behind(&[0, 0]),
    );
}

/// Where a restart finds the ring drained, the record does not fit below the present offset.
fn restart_big<const WEAK: u64>() {
    run::<WEAK>(Shape { start: 8, restart_bytes: 16, ..Shape::new(64) }, Script::singly(&[0, 24]));
}

#[test]
fn a_message_moves_behind_padding() {
    check(padding::<0>);
}
#[test]
fn padding_may_be_shorter_than_a_header() {
    check(short_padding::<0>);
}
#[test]
fn a_later_message_moves_behind_padding() {
    check(padding_after::<0>);
}
#[test]
fn padding_and_a_big_message_go_one_after_the_other() {
    check(big::<0>);
}
#[test]
fn a_drained_ring_starts_again_at_offset_0() {
    check(restart::<0>);
}
#[test]
fn a_ring_starts_again_whenever_it_is_drained() {
    check(restart_three::<0>);
}
#[test]
fn a_ring_that_is_not_drained_goes_on() {
    check(restart_behind::<0>);
}
#[test]
fn a_message_that_does_not_fit_below_starts_nothing_again() {
    check(restart_big::<0>);
}

#[test]
fn padding_waits_without_a_look() {
    must_fail(Failure::Deadlock, big::<{ weak::PAD_NO_LOOK }>);
}
#[test]
fn padding_waits_for_the_room_of_the_message_too() {
    must_fail(Failure::Deadlock, big::<{ weak::PAD_AND_RECORD_ROOM }>);
}
#[test]
fn head_stored_relaxed_before_a_restart() {
    must_fail(Failure::Race, restart::<{ weak::HEAD_STORE }>);
}
#[test]
fn head_loaded_relaxed_at_a_restart() {
    must_fail(Failure::Race, restart::<{ weak::HEAD_LOAD }>);
}
