//! A reader that arms its end of the lifeline and sleeps in an event loop of the program's own.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom::thread;
use loom_tests::Trigger::{Edge, Level};
use loom_tests::{Ends, Failure, LoomKernel, Receiver, Shape, Slices, Trigger, check, must_fail};
use ringwire::ring::{Readiness, RingError};
use ringwire::sync::{Kernel, weak};
use ringwire::wait::WaitError;

const DIED: RingError = RingError::Wait(WaitError::PeerDied);
const WRAP: u64 = 1 << 32;
/// Blocking waits go over to the lifeline at once, where they meet what arming has left there.
const IDLE: Shape = Shape { reader_slices: Slices::Over, ..Shape::new(64) };
const LEVEL: bool = false;
const EDGE: bool = true;

/// The event loop of one connection.
struct Turns<const WEAK: u64> {
    receiver: Receiver<WEAK>,
    kernel: LoomKernel,
    trigger: Trigger,
}

impl<const WEAK: u64> Turns<WEAK> {
    fn new(receiver: Receiver<WEAK>, kernel: LoomKernel, edge: bool) -> Self {
        Self { receiver, kernel, trigger: if edge { Edge } else { Level } }
    }

    fn sleep_if_armed(&mut self) {
        if self.receiver.consumer.arm() == Readiness::Armed {
            self.kernel.poll(self.trigger);
        }
    }

    /// Takes until nothing is there, then arms.
    fn receive(&mut self) -> Result<usize, RingError> {
        loop {
            if let Some(length) = self.receiver.take_turn()? {
                return Ok(length);
            }
            self.sleep_if_armed();
        }
    }

    /// Arms behind each message that it takes: owing what it consumed, and with bells untaken.
    fn arm_and_receive(&mut self) -> Result<usize, RingError> {
        loop {
            self.sleep_if_armed();
            if let Some(length) = self.receiver.take_turn()? {
                return Ok(length);
            }
        }
    }
}

/// Everything that is sent arrives, and then the end if there is one.
fn messages<const WEAK: u64>(
    shape: Shape,
    edge: bool,
    [before, singly]: [&'static [usize]; 2],
    close: bool,
    take: fn(&mut Turns<WEAK>) -> Result<usize, RingError>,
) {
    let Ends { mut sender, receiver, reader, .. } = shape.open::<WEAK>();
    for length in before {
        sender.send(*length).unwrap();
    }
    let writing = thread::spawn(move || {
        for length in singly {
            sender.send(*length).unwrap();
        }
        if close {
            sender.producer.close();
        }
    });
    let mut turns = Turns::new(receiver, reader, edge);
    for length in [before, singly].concat() {
        assert_eq!(take(&mut turns), Ok(length));
    }
    if close {
        assert_eq!(take(&mut turns), Err(RingError::Closed));
    }
    writing.join().unwrap();
}

fn one<const WEAK: u64, const EDGE: bool>() {
    messages::<WEAK>(Shape::new(64), EDGE, [&[], &[2]], false, Turns::receive);
}

fn two<const WEAK: u64, const EDGE: bool>() {
    messages::<WEAK>(Shape::new(64), EDGE, [&[], &[1, 8]], false, Turns::receive);
}

fn two_armed_behind_each<const WEAK: u64, const EDGE: bool>() {
    messages::<WEAK>(Shape::new(64), EDGE, [&[], &[1, 8]], false, Turns::arm_and_receive);
}

/// Across the positions' wrap.
fn three<const EDGE: bool>() {
    let shape = Shape { start: WRAP - 24, lazy_bytes: 8, ..Shape::new(128) };
    messages::<0>(shape, EDGE, [&[], &[0, 1, 8]], false, Turns::receive);
}

fn closes<const EDGE: bool>() {
    messages::<0>(Shape::new(64), EDGE, [&[], &[1]], true, Turns::arm_and_receive);
}

/// The writer waits for room meanwhile, and the reader owes it.
fn full<const WEAK: u64, const EDGE: bool>() {
    let shape = Shape { lazy_bytes: 32, ..Shape::new(32) };
    messages::<WEAK>(shape, EDGE, [&[0], &[0]], false, Turns::arm_and_receive);
}

/// The reader is armed at padding, before the writer waits for the room of a message that does not fit beside it.
fn padding<const EDGE: bool>() {
    let shape = Shape { start: 32, lazy_bytes: 8, ..Shape::new(64) };
    messages::<0>(shape, EDGE, [&[], &[40]], false, Turns::arm_and_receive);
}

/// A second time, with nothing in between.
fn twice<const EDGE: bool>() {
    let Ends { mut sender, receiver, reader, .. } = Shape::new(64).open::<0>();
    let writing = thread::spawn(move || {
        sender.send(1).unwrap();
        sender.send(2).unwrap();
    });
    let mut turns = Turns::new(receiver, reader, EDGE);
    for length in [1, 2] {
        let _ = turns.receiver.consumer.arm();
        assert_eq!(turns.arm_and_receive(), Ok(length));
    }
    writing.join().unwrap();
}

/// Armed, it waits in a call instead.
fn then_blocking() {
    let Ends { mut sender, mut receiver, .. } = IDLE.open::<0>();
    let writing = thread::spawn(move || {
        sender.send(1).unwrap();
        sender.send(2).unwrap();
    });
    for length in [1, 2] {
        let _ = receiver.consumer.arm();
        receiver.consumer.disarm();
        assert_eq!(receiver.receive(), Ok(length));
    }
    writing.join().unwrap();
}

/// It goes away while it is armed; the writer finds that out.
fn goes_while_armed() {
    let Ends { mut sender, mut receiver, .. } = Shape::new(32).open::<0>();
    let reading = thread::spawn(move || {
        let _ = receiver.consumer.arm();
        receiver.consumer.close();
    });
    while sender.send(0).is_ok() {}
    reading.join().unwrap();
}

/// Something else than this ring's writer rings.
fn rung_by_another<const WEAK: u64, const EDGE: bool>() {
    let Ends { mut sender, receiver, writer, reader, .. } = Shape::new(64).open::<WEAK>();
    let writing = thread::spawn(move || sender.send(1).unwrap());
    let another = thread::spawn(move || writer.ring_bell());
    assert_eq!(Turns::new(receiver, reader, EDGE).receive(), Ok(1));
    writing.join().unwrap();
    another.join().unwrap();
}

fn writer_dies_after_a_message<const WEAK: u64, const EDGE: bool>() {
    let Ends { mut sender, receiver, writer, reader, .. } = Shape::new(64).open::<WEAK>();
    let writing = thread::spawn(move || {
        sender.send(1).unwrap();
        writer.die();
    });
    let mut turns = Turns::new(receiver, reader, EDGE);
    assert_eq!(turns.receive(), Ok(1));
    assert_eq!(turns.receive(), Err(DIED));
    assert_eq!(turns.receiver.consumer.arm(), Readiness::Ready, "nobody waits for the dead");
    assert_eq!(turns.receive(), Err(DIED));
    writing.join().unwrap();
}

/// The hang-up comes while the writer is anywhere in its call.
fn writer_dies_at_any_time<const EDGE: bool>() {
    let Ends { mut sender, receiver, writer, reader, .. } = Shape::new(64).open::<0>();
    let writing = thread::spawn(move || sender.send(1).unwrap());
    let kernel = thread::spawn(move || writer.die());
    let received = Turns::new(receiver, reader, EDGE).arm_and_receive();
    assert!(received == Ok(1) || received == Err(DIED), "{received:?}");
    writing.join().unwrap();
    kernel.join().unwrap();
}

#[test]
fn an_armed_reader_is_woken() {
    check(one::<0, LEVEL>);
    check(one::<0, EDGE>);
}
#[test]
fn an_armed_reader_is_woken_for_each_message() {
    check(two::<0, LEVEL>);
    check(two::<0, EDGE>);
}
#[test]
fn an_armed_reader_is_woken_behind_bells_that_it_left() {
    check(two_armed_behind_each::<0, LEVEL>);
    check(two_armed_behind_each::<0, EDGE>);
}
#[test]
fn an_armed_reader_is_woken_across_the_wrap() {
    check(three::<LEVEL>);
    check(three::<EDGE>);
}
#[test]
fn an_armed_reader_hears_the_end() {
    check(closes::<LEVEL>);
    check(closes::<EDGE>);
}
#[test]
fn an_armed_reader_owes_nothing() {
    check(full::<0, LEVEL>);
    check(full::<0, EDGE>);
}
#[test]
fn an_armed_reader_hears_of_padding() {
    check(padding::<LEVEL>);
    check(padding::<EDGE>);
}
#[test]
fn arming_twice_is_arming() {
    check(twice::<LEVEL>);
    check(twice::<EDGE>);
}
#[test]
fn an_armed_reader_can_wait_in_a_call() {
    check(then_blocking);
}
#[test]
fn a_reader_goes_while_it_is_armed() {
    check(goes_while_armed);
}
#[test]
fn a_bell_for_something_else_costs_an_armed_reader_a_turn() {
    check(rung_by_another::<0, LEVEL>);
    check(rung_by_another::<0, EDGE>);
}
#[test]
fn an_armed_reader_takes_a_message_before_the_death() {
    check(writer_dies_after_a_message::<0, LEVEL>);
    check(writer_dies_after_a_message::<0, EDGE>);
}
#[test]
fn an_armed_reader_takes_a_whole_message_or_none() {
    check(writer_dies_at_any_time::<LEVEL>);
    check(writer_dies_at_any_time::<EDGE>);
}

#[test]
fn arm_without_fence() {
    must_fail(Failure::Deadlock, one::<{ weak::FENCE_READER_PARK }, LEVEL>);
}
#[test]
fn arm_without_a_last_look() {
    must_fail(Failure::Deadlock, one::<{ weak::NO_LAST_LOOK }, LEVEL>);
}
#[test]
fn commit_looked_without_fence_at_an_armed_reader() {
    must_fail(Failure::Deadlock, one::<{ weak::FENCE_COMMIT_LOOK }, LEVEL>);
}
#[test]
fn bells_heard_behind_the_last_look() {
    must_fail(Failure::Deadlock, one::<{ weak::BELLS_HEARD_LATE }, LEVEL>);
}
#[test]
fn bells_left_for_ever() {
    must_fail(Failure::Livelock, rung_by_another::<{ weak::BELLS_NOT_HEARD }, LEVEL>);
}
#[test]
fn armed_owing() {
    must_fail(Failure::Deadlock, full::<{ weak::NO_HEAD_BEFORE_PARK }, LEVEL>);
}
#[test]
fn no_look_after_a_hang_up_heard_between_turns() {
    must_fail(
        Failure::Assertion,
        writer_dies_after_a_message::<{ weak::NO_LOOK_AFTER_HEARD_HANG_UP }, LEVEL>,
    );
}
