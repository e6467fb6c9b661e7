//! The platform of the models notices what it is there to notice.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom::thread;
use loom_tests::{Failure, LoomArea, PAST, Slices, check, lifeline, must_fail};
use ringwire::sync::{Area, Heard, Kernel, Ordering, Word};

const NEVER_NS: u64 = u64::MAX;

/// Runs `here` and `there` on one area at the same time.
fn beside(here: fn(&LoomArea), there: fn(&LoomArea)) {
    let area = LoomArea::new(32, 0);
    let other = area.clone();
    let thread = thread::spawn(move || there(&other));
    here(&area);
    thread.join().unwrap();
}

fn poll(area: &LoomArea) {
    area.word(8).load(Ordering::Acquire);
}
fn store_word(area: &LoomArea) {
    area.word(8).store(0, Ordering::Release);
}
fn write_payload(area: &LoomArea) {
    area.copy_in(5, &[7; 8]);
}
fn read_payload(area: &LoomArea) {
    area.copy_out(8, &mut [0; 3]);
}

#[test]
fn a_word_is_polled_while_it_is_stored() {
    check(|| beside(poll, store_word));
}
#[test]
fn a_word_that_is_polled_is_no_place_for_payload() {
    must_fail(Failure::Race, || beside(poll, write_payload));
}
#[test]
fn payload_that_is_read_is_no_place_for_a_word() {
    must_fail(Failure::Race, || beside(read_payload, store_word));
}
#[test]
fn payload_is_not_read_while_it_is_written() {
    must_fail(Failure::Race, || beside(read_payload, write_payload));
}
#[test]
fn a_word_has_one_writer() {
    must_fail(Failure::Race, || beside(store_word, store_word));
}

#[test]
fn a_word_and_the_bytes_in_its_place_are_the_same() {
    check(|| {
        let area = LoomArea::new(32, 0);
        area.copy_in(5, &[1, 2, 3, 4, 5]);
        assert_eq!(area.word(8).load(Ordering::Relaxed).to_ne_bytes()[..2], [4, 5]);
        area.word(8).store(0x0101_0101, Ordering::Relaxed);
        let mut bytes = [0; 6];
        area.copy_out(6, &mut bytes);
        assert_eq!(bytes, [2, 3, 1, 1, 1, 1]);
    });
}

#[test]
fn whoever_goes_to_sleep_sees_the_change_or_the_wake_up() {
    check(|| {
        let (here, there) = lifeline(Slices::Endless, Slices::Endless);
        let area = LoomArea::new(32, 8);
        let other = area.clone();
        let thread = thread::spawn(move || {
            other.word(8).store(16, Ordering::Relaxed);
            there.wake(other.word(8));
        });
        here.sleep(area.word(8), 0, NEVER_NS);
        thread.join().unwrap();
    });
}
#[test]
fn a_wake_up_before_the_change_is_lost() {
    must_fail(Failure::Deadlock, || {
        let (here, there) = lifeline(Slices::Endless, Slices::Endless);
        let area = LoomArea::new(32, 8);
        let other = area.clone();
        let thread = thread::spawn(move || {
            there.wake(other.word(8));
            other.word(8).store(16, Ordering::Relaxed);
        });
        here.sleep(area.word(8), 0, NEVER_NS);
        thread.join().unwrap();
    });
}
#[test]
fn the_lifeline_keeps_a_ring_until_it_is_heard() {
    check(|| {
        let (here, there) = lifeline(Slices::Endless, Slices::Endless);
        assert_eq!(here.listen(PAST.as_ns()), Heard::Nothing);
        let thread = thread::spawn(move || {
            there.ring_bell();
            there.die();
        });
        let mut heard = here.listen(NEVER_NS);
        if heard == Heard::Bell {
            heard = here.listen(NEVER_NS);
        }
        assert_eq!(heard, Heard::HungUp);
        assert!(here.peer_is_gone());
        thread.join().unwrap();
    });
}
