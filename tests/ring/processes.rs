//! The ring between two processes, each with a mapping of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use ringwire::ring::{Consumer, RingError};
use ringwire::shm::{Direction, Segment, SegmentOptions};
use ringwire::wait::{Deadline, Spinner};
use ringwire::{Header, Kind, WaitStrategy};

use super::backends::{Halves, PlainConsumer, PlainKernel, PlainProducer, halves, layout, tuning};
use super::common::{Random, Watchdog, assert_bytes, fill, second_with_stdin, setting};

const RECORDS: u64 = 20_000;
/// The low 32 bits wrap on the way.
const START: u64 = (1 << 32) - (200 << 10);

fn strategy(name: &str) -> WaitStrategy {
    match name {
        "spin" => WaitStrategy::SpinOnly,
        "spin then park" => WaitStrategy::SpinThenPark,
        _ => WaitStrategy::ParkAtOnce,
    }
}

fn length(random: &mut Random, largest: u64) -> usize {
    let length = if random.below(8) == 0 { random.below(largest + 1) } else { random.below(120) };
    length as usize
}

/// The second process: its standard input is the segment.
pub(crate) fn consume() {
    let ring_bytes: u32 = setting("RING").parse().unwrap();
    let segment =
        Segment::open(std::io::stdin().as_fd(), layout(ring_bytes), SegmentOptions::default()).unwrap();
    let tuning = tuning(ring_bytes, START);
    let mut consumer: PlainConsumer = Consumer::new(segment.area(Direction::ToClient), PlainKernel, tuning);
    let mut spinner = Spinner::new(strategy(&setting("STRATEGY")));
    let (mut random, mut expected, mut found) = (Random(99), Vec::new(), Vec::new());
    let mut count = 0;
    loop {
        match consumer.peek() {
            Ok(None) => consumer.wait_readable(&mut spinner, Deadline::NEVER, || ()).unwrap(),
            Ok(Some(record)) => {
                assert_eq!(record.header(), Header::new(Kind::StreamItem, count as u16, count));
                fill(count * 31, &mut expected, length(&mut random, u64::from(tuning.max_payload_bytes())));
                found.clear();
                consumer.payload(&record).append_to(&mut found);
                assert_bytes(&found, &expected, &format!("record {count}"));
                consumer.release(record);
                count += 1;
            }
            Err(error) => break assert_eq!(error, RingError::Closed),
        }
    }
    assert_eq!(count, RECORDS);
}

fn push(producer: &mut PlainProducer, spinner: &mut Spinner, header: &Header, payload: &[u8], batch: bool) {
    loop {
        let outcome = if batch { producer.append(header, payload) } else { producer.push(header, payload) };
        match outcome {
            Ok(()) => return,
            Err(RingError::Full) => producer.wait_for_room(spinner, Deadline::NEVER).unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn produce(ring_bytes: u32, name: &str) {
    let _watchdog = Watchdog::start();
    let (segment, descriptor) = Segment::create(layout(ring_bytes), SegmentOptions::default()).unwrap();
    let Halves { mut producer, .. } = halves(&segment, &segment, ring_bytes, START);
    let ring = ring_bytes.to_string();
    let child = second_with_stdin("consume", &[("RING", &ring), ("STRATEGY", name)], stdio(descriptor));
    let mut spinner = Spinner::new(strategy(name));
    let (mut random, mut payload) = (Random(99), Vec::new());
    for count in 0..RECORDS {
        fill(count * 31, &mut payload, length(&mut random, u64::from(producer.max_payload_bytes())));
        let header = Header::new(Kind::StreamItem, count as u16, count);
        // Some in batches, whose last one is published by what follows.
        push(&mut producer, &mut spinner, &header, &payload, count % 7 < 3);
    }
    producer.close();
    child.join();
}

fn stdio(descriptor: OwnedFd) -> Stdio {
    Stdio::from(descriptor)
}

#[test]
fn two_processes_lose_and_change_nothing_parking_at_once() {
    produce(4096, "park");
    produce(65536, "park");
}

#[test]
fn two_processes_lose_and_change_nothing_spinning_then_parking() {
    produce(4096, "spin then park");
    produce(65536, "spin then park");
}

#[test]
fn two_processes_lose_and_change_nothing_spinning() {
    produce(65536, "spin");
}
