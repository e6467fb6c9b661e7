//! A peer that dies: the third thread is the kernel, which closes the dead process's end of the lifeline.
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

use loom::thread;
use loom_tests::{Ends, Failure, Flag, Shape, Slices, check, must_fail};
use ringwire::ring::RingError;
use ringwire::sync::{Area, weak};
use ringwire::wait::WaitError;

const DIED: RingError = RingError::Wait(WaitError::PeerDied);
/// The reader listens on the lifeline.
const IDLE: Shape = Shape { reader_slices: Slices::Over, ..Shape::new(64) };
/// A slice that begins before a death ends after it.
const SLICED: Shape =
    Shape { reader_slices: Slices::UntilHangUp, writer_slices: Slices::UntilHangUp, ..Shape::new(64) };

/// The writer sends, then dies; the reader sleeps on the lifeline.
fn writer_dies_after_a_message<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, writer, .. } = IDLE.open::<WEAK>();
    let writing = thread::spawn(move || {
        sender.send(1).unwrap();
        writer.die();
    });
    assert_eq!(receiver.receive(), Ok(1));
    assert_eq!(receiver.receive(), Err(DIED));
    writing.join().unwrap();
}

/// The same while the reader sleeps on its word; its first slice ends at any time.
fn writer_dies_early<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, area, writer, reader } = SLICED.open::<WEAK>();
    let memory = area.clone();
    let writing = thread::spawn(move || {
        sender.send(1).unwrap();
        writer.die();
        writer.end_slice(memory.word(8));
        writer.end_slice(memory.word(32));
    });
    let clock = thread::spawn(move || reader.end_slice(area.word(8)));
    assert_eq!(receiver.receive(), Ok(1));
    assert_eq!(receiver.receive(), Err(DIED));
    writing.join().unwrap();
    clock.join().unwrap();
}

/// The writer dies between two messages of a batch: what it published is delivered, nothing else.
fn writer_dies_with_a_message_pending<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, writer, .. } = IDLE.open::<WEAK>();
    let writing = thread::spawn(move || {
        sender.append(1).unwrap();
        writer.die();
    });
    assert_eq!(receiver.receive(), Err(DIED));
    writing.join().unwrap();
}

/// The hang-up comes while the writer is anywhere in its call.
fn writer_dies_at_any_time<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, writer, .. } = IDLE.open::<WEAK>();
    let writing = thread::spawn(move || sender.send(1).unwrap());
    let kernel = thread::spawn(move || writer.die());
    let received = receiver.receive();
    assert!(received == Ok(1) || received == Err(DIED), "{received:?}");
    writing.join().unwrap();
    kernel.join().unwrap();
}

/// Its end came before its death.
fn writer_closes_and_dies<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, writer, .. } = IDLE.open::<WEAK>();
    let writing = thread::spawn(move || {
        sender.producer.close();
        writer.die();
    });
    assert_eq!(receiver.receive(), Err(RingError::Closed));
    writing.join().unwrap();
}

/// The reader dies while the writer waits for room.
fn reader_dies<const WEAK: u64>() {
    let Ends { mut sender, area, reader, .. } = SLICED.open::<WEAK>();
    sender.send(32).unwrap();
    let kernel = thread::spawn(move || {
        reader.die();
        reader.end_slice(area.head());
    });
    assert_eq!(sender.send(1), Err(DIED));
    kernel.join().unwrap();
}

/// The reader makes room, then dies: who finds room does not complain. The writer's first slice ends at any time.
fn reader_dies_after_it_made_room<const WEAK: u64>() {
    let Ends { mut sender, mut receiver, area, writer, reader } = SLICED.open::<WEAK>();
    sender.send(32).unwrap();
    let memory = area.clone();
    let reading = thread::spawn(move || {
        assert_eq!(receiver.receive(), Ok(32));
        reader.die();
        reader.end_slice(memory.head());
    });
    let clock = thread::spawn(move || writer.end_slice(area.head()));
    assert_eq!(sender.send(1), Ok(()));
    reading.join().unwrap();
    clock.join().unwrap();
}

/// Broken: a death is a flag in a word of its own, which a third thread sets. The reader waits for a message.
fn flag_for_a_reader() {
    let Ends { mut receiver, area, writer, .. } = Shape::new(64).open::<0>();
    let died = Flag::default();
    let dying = died.clone();
    let kernel = thread::spawn(move || dying.set(&area, &writer));
    while !died.is_set() {
        receiver.wait().unwrap();
    }
    kernel.join().unwrap();
}

/// The same while the writer waits for room.
fn flag_for_a_writer() {
    let Ends { mut sender, area, reader, .. } = Shape::new(64).open::<0>();
    sender.send(32).unwrap();
    let died = Flag::default();
    let dying = died.clone();
    let kernel = thread::spawn(move || dying.set(&area, &reader));
    while !died.is_set() {
        assert_eq!(sender.producer.claim(1), Err(RingError::Full));
        sender.wait_for_room().unwrap();
    }
    kernel.join().unwrap();
}

#[test]
fn a_message_is_delivered_before_the_death() {
    check(writer_dies_after_a_message::<0>);
}
#[test]
fn a_message_is_delivered_before_the_death_of_a_futex_sleeper() {
    check(writer_dies_early::<0>);
}
#[test]
fn an_unpublished_message_dies_with_its_writer() {
    check(writer_dies_with_a_message_pending::<0>);
}
#[test]
fn a_message_is_whole_or_not_there() {
    check(writer_dies_at_any_time::<0>);
}
#[test]
fn an_end_is_delivered_before_the_death() {
    check(writer_closes_and_dies::<0>);
}
#[test]
fn a_waiting_writer_hears_of_a_death() {
    check(reader_dies::<0>);
}
#[test]
fn room_is_used_before_the_death() {
    check(reader_dies_after_it_made_room::<0>);
}

#[test]
fn no_look_after_a_hang_up() {
    must_fail(Failure::Assertion, writer_dies_after_a_message::<{ weak::NO_LOOK_AFTER_HANG_UP }>);
}
#[test]
fn no_look_after_a_death() {
    must_fail(Failure::Assertion, writer_dies_early::<{ weak::NO_LOOK_AFTER_DEATH }>);
}
#[test]
fn no_look_for_room_after_a_death() {
    must_fail(Failure::Assertion, reader_dies_after_it_made_room::<{ weak::NO_LOOK_FOR_ROOM_AFTER_DEATH }>);
}
#[test]
fn death_in_a_word_of_its_own_for_a_reader() {
    must_fail(Failure::Deadlock, flag_for_a_reader);
}
#[test]
fn death_in_a_word_of_its_own_for_a_writer() {
    must_fail(Failure::Deadlock, flag_for_a_writer);
}
