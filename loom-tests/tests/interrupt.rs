//! Other threads of the reader's process get its attention while it waits for its peer.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use std::rc::Rc;

use loom::cell::Cell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use loom_tests::{Ends, Failure, Loom, Shape, Slices, check, must_fail};
use ringwire::sync::weak;

/// The reader goes over to the lifeline, where no wake-up may be lost. (On its word it is a hint.)
const IDLE: Shape = Shape { reader_slices: Slices::Over, ..Shape::new(64) };

/// What a reader is wanted for: so many things, and the bytes of the last.
struct Wants {
    pushed: AtomicU32,
    bytes: Cell<u32>,
}

impl Wants {
    fn new() -> Rc<Self> {
        Rc::new(Self { pushed: AtomicU32::new(0), bytes: Cell::new(0) })
    }
}

/// One other thread pushes; the peer never sends.
fn wanted<const WEAK: u64>() {
    let Ends { receiver, .. } = IDLE.open::<WEAK>();
    let (interrupter, wants) = (receiver.consumer.interrupter(), Wants::new());
    let mut receiver = receiver;
    let pushing = {
        let wants = Rc::clone(&wants);
        thread::spawn(move || {
            wants.bytes.set(7);
            wants.pushed.store(1, Ordering::Relaxed);
            interrupter.interrupt::<Loom<WEAK>>();
        })
    };
    receiver.wait_interrupted();
    assert_eq!(wants.pushed.load(Ordering::Relaxed), 1);
    assert_eq!(wants.bytes.get(), 7);
    pushing.join().unwrap();
}

/// Two threads push: whatever the reader takes in at the first interruption, it hears of the rest.
fn wanted_twice<const WEAK: u64>() {
    let Ends { mut receiver, .. } = IDLE.open::<WEAK>();
    let wants = Wants::new();
    let pushing = [(); 2].map(|()| {
        let (interrupter, wants) = (receiver.consumer.interrupter(), Rc::clone(&wants));
        thread::spawn(move || {
            wants.pushed.fetch_add(1, Ordering::Relaxed);
            interrupter.interrupt::<Loom<WEAK>>();
        })
    });
    while wants.pushed.load(Ordering::Relaxed) < 2 {
        receiver.wait_interrupted();
    }
    for thread in pushing {
        thread.join().unwrap();
    }
}

/// The peer sends meanwhile: the reader gets both, whichever wakes it.
fn wanted_and_sent<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, .. } = IDLE.open::<WEAK>();
    let (interrupter, wants) = (receiver.consumer.interrupter(), Wants::new());
    let pushing = {
        let wants = Rc::clone(&wants);
        thread::spawn(move || {
            wants.pushed.store(1, Ordering::Relaxed);
            interrupter.interrupt::<Loom<WEAK>>();
        })
    };
    let writing = thread::spawn(move || sender.send(2).unwrap());
    let (mut received, mut wanted) = (false, false);
    while !(received && wanted) {
        receiver.wait().unwrap();
        wanted |= receiver.consumer.kernel().take_interruption() && wants.pushed.load(Ordering::Relaxed) == 1;
        received |= receiver.try_receive().unwrap() == Some(2);
    }
    pushing.join().unwrap();
    writing.join().unwrap();
}

#[test]
fn a_reader_on_the_lifeline_is_interrupted_and_sees_why() {
    check(wanted::<0>);
}
#[test]
fn no_interruption_hides_another() {
    check(wanted_twice::<0>);
}
#[test]
fn an_interruption_and_a_message_do_not_hide_each_other() {
    check(wanted_and_sent::<0>);
}

#[test]
fn interrupted_without_fence() {
    must_fail(Failure::Deadlock, wanted::<{ weak::FENCE_INTERRUPT_LOOK }>);
}
#[test]
fn interrupted_reader_parks_without_fence() {
    must_fail(Failure::Deadlock, wanted::<{ weak::FENCE_READER_PARK }>);
}
#[test]
fn interrupted_reader_parks_without_a_last_look() {
    must_fail(Failure::Deadlock, wanted::<{ weak::NO_LAST_LOOK_AT_INTERRUPTION }>);
}
