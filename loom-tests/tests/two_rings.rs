//! Two rings, one in each direction, and both sides wait for room.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom::thread;
use loom_tests::{Ends, Failure, Shape, Slices, check, lifeline, must_fail};

/// One side sends four messages where three fit, then reads. The other reads one, sends two where one fits, then reads
/// the others. Before it waits it publishes what it consumed, or not.
fn crossed<const PUBLISHES: bool>() {
    let (here, there) = lifeline(Slices::Endless, Slices::Endless);
    let lazy = Shape { start: 0, lazy_bytes: 64, ..Shape::new(64) };
    let eager = Shape { start: 0, lazy_bytes: 8, ..Shape::new(32) };
    let Ends { sender: mut requests, receiver: mut arrived, .. } =
        lazy.open_between::<0>(here.clone(), there.clone());
    let Ends { sender: mut answers, receiver: mut answered, .. } = eager.open_between::<0>(there, here);
    let other = thread::spawn(move || {
        assert_eq!(arrived.receive(), Ok(0));
        if PUBLISHES {
            arrived.consumer.publish_consumed();
        }
        answers.send(0).unwrap();
        answers.send(0).unwrap();
        for _ in 0..3 {
            assert_eq!(arrived.receive(), Ok(0));
        }
    });
    for _ in 0..4 {
        requests.send(0).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(answered.receive(), Ok(0));
    }
    other.join().unwrap();
}

#[test]
fn who_publishes_before_it_waits_for_room_holds_nobody_up() {
    check(crossed::<true>);
}

#[test]
fn waits_for_room_holding_consumed_bytes_of_the_other_ring() {
    must_fail(Failure::Deadlock, crossed::<false>);
}
