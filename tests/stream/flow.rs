//! What happens when the ring is full.

use std::thread;
use std::time::Duration;

use ringwire::{Backpressure, ErrorKind, Stream, WaitStrategy};

use super::common::{Watchdog, assert_bytes, bytes};
use super::{each_pair, event};

/// Sends numbered messages until there is no room, and says how many those were.
fn fill_up(stream: &mut Stream, length: usize) -> u64 {
    let mut count = 0;
    while let Ok(()) = stream.try_send(event(count), &bytes(count, length)) {
        count += 1;
    }
    count
}

fn take(stream: &mut Stream, numbers: std::ops::Range<u64>, length: usize) {
    for number in numbers {
        let message = stream.receive().unwrap();
        assert_eq!(message.header(), event(number));
        assert_bytes(&message.payload().to_vec(), &bytes(number, length), "message");
    }
}

#[test]
fn try_send_and_fail_say_full_and_nothing_is_lost_or_sent() {
    each_pair(|mut one, mut two, _, ring_bytes| {
        let count = fill_up(&mut one, 100);
        // 120 bytes each, and never more than the last bit of the ring is left.
        let full = u64::from(ring_bytes) / 120;
        assert!(count == full || count == full - 1, "{count} of {full}");
        one.set_backpressure(Backpressure::Fail);
        let error = one.send(event(0), &[0; 100]).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Full, true));
        assert_eq!(error.to_string(), "ring full");
        assert_eq!(one.reserve(event(0), 100).map(drop).unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(one.batch().send(event(0), &[0; 100]).unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(one.send(event(0), &vec![0; ring_bytes as usize]).unwrap_err().kind(), ErrorKind::Full);
        take(&mut two, 0..count, 100);
        assert!(two.try_receive().unwrap().is_none());
        one.send(event(0), &bytes(0, 100)).unwrap();
        take(&mut two, 0..1, 100);
    });
}

#[test]
fn drop_leaves_out_counts_and_never_reorders() {
    each_pair(|mut one, mut two, _, ring_bytes| {
        one.set_backpressure(Backpressure::Drop);
        let total = 3 * u64::from(ring_bytes) / 120;
        for number in 0..total {
            one.send(event(number), &bytes(number, 100)).unwrap();
        }
        one.send(event(total), &vec![0; ring_bytes as usize]).unwrap();
        assert_eq!(
            one.reserve(event(0), 100).map(drop).unwrap_err().kind(),
            ErrorKind::Full,
            "a slot is never dropped"
        );
        let received = total + 1 - one.dropped();
        take(&mut two, 0..received, 100);
        assert!(two.try_receive().unwrap().is_none());
        let dropped = one.dropped();
        one.send(event(1), b"again").unwrap();
        assert_eq!((one.dropped(), two.receive().unwrap().payload().to_vec()), (dropped, b"again".to_vec()));
    });
}

#[test]
fn a_message_in_fragments_that_has_begun_waits_under_every_backpressure() {
    let _watchdog = Watchdog::start();
    for backpressure in [Backpressure::Fail, Backpressure::Drop] {
        let (mut one, mut two) = Stream::pair_with(4096, WaitStrategy::ParkAtOnce).unwrap();
        one.set_backpressure(backpressure);
        let sender = thread::spawn(move || {
            one.send(event(1), &bytes(1, 100_000)).unwrap();
            one.try_send(event(2), b"").unwrap();
            one
        });
        thread::sleep(Duration::from_millis(20));
        let mut buffer = Vec::new();
        assert_eq!(two.receive_into(&mut buffer).unwrap(), event(1));
        assert_bytes(&buffer, &bytes(1, 100_000), "message");
        assert_eq!(two.receive().unwrap().header(), event(2));
        assert_eq!(sender.join().unwrap().dropped(), 0);
    }
}

#[test]
fn a_batch_without_room_has_published_what_went_before() {
    let (mut one, mut two) = Stream::pair_with(4096, WaitStrategy::ParkAtOnce).unwrap();
    one.set_backpressure(Backpressure::Fail);
    let mut batch = one.batch();
    let mut count = 0;
    while batch.send(event(count), &bytes(count, 100)).is_ok() {
        count += 1;
    }
    take(&mut two, 0..count, 100);
    drop(batch);
    assert!(two.try_receive().unwrap().is_none());
}

#[test]
fn a_waiting_writer_goes_on_when_the_reader_makes_room() {
    let _watchdog = Watchdog::start();
    each_pair(|mut one, mut two, strategy, ring_bytes| {
        // Hand-offs between spinning threads that share processors with other tests take a while.
        let laps = if strategy == WaitStrategy::SpinOnly { 2 } else { 8 };
        let total = laps * u64::from(ring_bytes) / 1000;
        let sender = thread::spawn(move || {
            for number in 0..total {
                one.send(event(number), &bytes(number, (number % 1900) as usize)).unwrap();
            }
            one
        });
        for number in 0..total {
            if number % 97 == 0 {
                thread::sleep(Duration::from_micros(300));
            }
            let message = two.receive().unwrap();
            assert_eq!(message.header(), event(number));
            assert_bytes(&message.payload().to_vec(), &bytes(number, (number % 1900) as usize), "message");
        }
        drop(sender.join().unwrap());
    });
}

#[test]
fn a_reader_that_does_something_else_can_say_what_it_has_consumed() {
    let _watchdog = Watchdog::start();
    let (one, mut two) = Stream::pair_with(4096, WaitStrategy::ParkAtOnce).unwrap();
    let (mut sender, receiver) = one.split();
    let count = {
        let mut count = 0;
        while sender.try_send(event(count), &bytes(count, 48)).is_ok() {
            count += 1;
        }
        count
    };
    take(&mut two, 0..4, 48);
    // Consumed, but not said: an eighth of the ring is more than these.
    assert_eq!(sender.try_send(event(count), &[0; 48]).unwrap_err().kind(), ErrorKind::Full);
    let (other_sender, mut other_receiver) = two.split();
    other_receiver.publish_consumed();
    sender.try_send(event(count), &bytes(count, 48)).unwrap();
    drop((receiver, other_sender));
}
