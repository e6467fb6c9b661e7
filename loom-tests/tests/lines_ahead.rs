//! The writer's stores into the lines that it is about to write.

use loom_tests::{Failure, Script, Shape, check, must_fail, run};
use ringwire::sync::weak;

const WRAP: u64 = 1 << 32;

/// Each message is short enough for its writer to ask for the lines behind it.
const fn asking(ring_bytes: u32, start: u64) -> Shape {
    Shape { start, lazy_bytes: 8, restart_bytes: 64, ..Shape::new(ring_bytes) }
}

fn empty_ring<const WEAK: u64>() {
    run::<WEAK>(asking(128, WRAP), Script::singly(&[0, 0]));
}

/// The lines asked for begin right behind the word that the reader sleeps on.
fn closing<const WEAK: u64>() {
    run::<WEAK>(asking(128, 0), Script::singly(&[0]).then_close());
}

/// Both laps are in the ring: what lies ahead of the writer are messages that have not been read.
fn full_ring<const WEAK: u64>() {
    run::<WEAK>(asking(64, WRAP - 64), Script::singly(&[0, 0]).behind(&[0, 0, 0]));
}

#[test]
fn a_writer_asks_for_lines_while_the_reader_waits_in_front_of_them() {
    check(empty_ring::<0>);
}
#[test]
fn the_end_comes_in_front_of_lines_asked_for() {
    check(closing::<0>);
}
#[test]
fn a_writer_asks_for_no_line_that_holds_an_unread_message() {
    check(full_ring::<0>);
}

#[test]
fn lines_asked_for_beyond_what_is_free() {
    must_fail(Failure::Race, full_ring::<{ weak::LINES_BEYOND_ROOM }>);
}
