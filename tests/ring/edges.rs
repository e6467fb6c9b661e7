//! Single properties of the ring.

use ringwire::ring::{CLOSED, Consumer, HEADER_BYTES, RingError};
use ringwire::shm::{Direction, Segment, SegmentOptions};
use ringwire::sync::{Area, Heard, Kernel, Native, NativeWord, Ordering::Relaxed, Word};
use ringwire::wait::{Deadline, Spinner};
use ringwire::{Header, Kind, WaitStrategy};

use super::backends::{Backend, Halves, halves, layout, tuning};
use super::common::{Watchdog, bytes};

const EVENT: Header = Header::new(Kind::Event, 5, 6);

#[test]
fn a_quiet_ring_keeps_to_the_first_bytes_of_its_area() {
    let ring_bytes = 1 << 20;
    let (segment, _) = Segment::create(layout(ring_bytes), SegmentOptions::default()).unwrap();
    let Halves { mut producer, mut consumer } = halves(&segment, &segment, ring_bytes, 0);
    for _ in 0..20_000 {
        producer.push(&EVENT, &[1; 64]).unwrap();
        let record = consumer.peek().unwrap().unwrap();
        consumer.release(record);
        assert!(consumer.peek().unwrap().is_none());
        consumer.publish_consumed();
    }
    let mut untouched = 0;
    segment
        .area(Direction::ToClient)
        .take_words(4096, (ring_bytes - 4096) / 8, |word| untouched += u32::from(word == 0));
    assert_eq!(untouched, (ring_bytes - 4096) / 8);
}

#[test]
fn a_ring_with_unread_records_never_starts_again_in_front_of_them() {
    let Halves { mut producer, mut consumer } = Halves::in_two_mappings(4096, 0);
    producer.push(&EVENT, &bytes(0, 100)).unwrap();
    for count in 1..200u64 {
        producer.push(&EVENT, &bytes(count, 100)).unwrap();
        let record = consumer.peek().unwrap().unwrap();
        assert_eq!(consumer.payload(&record).to_vec(), bytes(count - 1, 100));
        consumer.release(record);
        consumer.publish_consumed();
    }
}

#[test]
fn every_size_up_to_the_largest_fits_and_one_more_is_too_large() {
    let mut ring = Halves::in_one_mapping(4096, 0);
    let largest = ring.max_payload();
    assert_eq!(largest, 4096 / 2 - 32);
    for length in 0..=largest {
        ring.push(EVENT, &bytes(length as u64, length)).unwrap();
        assert_eq!(ring.receive().unwrap().1, bytes(length as u64, length));
        ring.publish_consumed();
    }
    let too_large = ring.producer.push(&EVENT, &bytes(0, largest + 1)).unwrap_err();
    assert_eq!(too_large, RingError::TooLarge { limit: largest as u32 });
    assert_eq!(too_large.to_string(), "payload too large: a record of this ring takes 2016 bytes");
    for absurd in [usize::MAX, usize::MAX - 22, usize::MAX - 23, usize::MAX / 2, 1 << 32] {
        assert!(ring.producer.reserve(EVENT, absurd).is_err());
    }
    assert!(ring.receive().is_none());
}

#[test]
fn all_but_eight_bytes_of_a_ring_can_be_filled() {
    let mut ring = Halves::in_one_mapping(4096, 0);
    let mut count = 0;
    while ring.push(EVENT, &[]).is_ok() {
        count += 1;
    }
    assert_eq!(count, (4096 - 8) / HEADER_BYTES);
    ring.close();
    while ring.receive().is_some() {
        count -= 1;
    }
    assert_eq!(count, 0);
}

#[test]
fn a_closed_ring_takes_nothing_more_and_its_end_stays() {
    for pushes in [0, 3, 8, 9, 10, 40] {
        let mut ring = Halves::in_one_mapping(4096, 0);
        for _ in 0..pushes {
            ring.push(EVENT, &[7; 100]).unwrap();
            ring.receive().unwrap();
            ring.publish_consumed();
        }
        ring.close();
        ring.close();
        for length in [0, 100, 2000] {
            assert_eq!(
                ring.producer.push(&EVENT, &bytes(0, length)),
                Err(RingError::Closed),
                "after {pushes}"
            );
            assert_eq!(ring.producer.append(&EVENT, &bytes(0, length)), Err(RingError::Closed));
        }
        ring.flush();
        assert!(ring.is_over(), "after {pushes}: something was written over the end");
    }
}

#[test]
fn the_mark_of_a_reader_killed_in_its_sleep_is_no_harm_to_a_close_and_what_follows() {
    let (segment, _) = Segment::create(layout(4096), SegmentOptions::default()).unwrap();
    let Halves { mut producer, .. } = halves(&segment, &segment, 4096, 0);
    let area = segment.area(Direction::ToClient);
    area.reader_parked().store(1, Relaxed);
    producer.close();
    producer.flush();
    producer.flush();
    assert_eq!(area.word(0).load(Relaxed), CLOSED);
}

#[test]
fn a_writer_sees_that_its_reader_has_gone() {
    let mut ring = Halves::in_two_mappings(4096, 0);
    while ring.push(EVENT, &[1; 200]).is_ok() {}
    ring.consumer.close();
    let mut spinner = Spinner::new(WaitStrategy::ParkAtOnce);
    ring.producer.wait_for_room(&mut spinner, Deadline::NEVER).unwrap();
    assert_eq!(ring.producer.push(&EVENT, &[1; 200]), Err(RingError::Closed));
    assert_eq!(ring.producer.is_drained(), Err(RingError::Closed));
}

#[test]
fn waits_end_at_their_deadline() {
    let _watchdog = Watchdog::start();
    for strategy in [
        WaitStrategy::SpinOnly,
        WaitStrategy::SpinThenPark,
        WaitStrategy::ParkAtOnce,
        WaitStrategy::YieldThenPark,
    ] {
        let mut spinner = Spinner::new(strategy);
        let mut ring = Halves::in_two_mappings(4096, 0);
        for timeout_ms in [0, 1, 4, 30] {
            let deadline = Deadline::after(std::time::Duration::from_millis(timeout_ms));
            let waited = ring.consumer.wait_readable(&mut spinner, deadline, || ()).unwrap_err();
            assert_eq!(waited, ringwire::wait::WaitError::TimedOut);
            assert!(deadline.has_passed());
        }
        while ring.push(EVENT, &[1; 200]).is_ok() {}
        let deadline = Deadline::after(std::time::Duration::from_millis(12));
        let error = loop {
            if let Err(error) = ring.producer.wait_for_room(&mut spinner, deadline) {
                break error;
            }
            assert_eq!(ring.producer.push(&EVENT, &[1; 200]), Err(RingError::Full));
        };
        assert_eq!(error, RingError::Wait(ringwire::wait::WaitError::TimedOut));
        assert!(deadline.has_passed());
    }
}

#[test]
fn a_slot_is_no_larger_than_asked_for_and_words_are_written_in_place() {
    let mut ring = Halves::in_one_mapping(4096, 0);
    let mut slot = ring.producer.reserve(EVENT, 20).unwrap();
    assert_eq!(slot.write(&[1; 3]), 3);
    assert_eq!(slot.write_words(2, || 9), 0, "not at a multiple of 8");
    assert_eq!(slot.write(&[1; 5]), 5);
    assert_eq!(slot.write_words(9, || 0x0202_0202_0202_0202), 1, "as many as fit");
    assert_eq!(slot.remaining(), 4);
    assert_eq!(slot.write(&[3; 100]), 4);
    assert_eq!(slot.write(&[3; 100]), 0);
    slot.commit();
    let record = ring.consumer.peek().unwrap().unwrap();
    let payload = ring.consumer.payload(&record);
    assert_eq!(payload.to_vec(), [[1; 8].as_slice(), &[2; 8], &[3; 4]].concat());
    let mut words = Vec::new();
    payload.take_words(|word| words.push(word));
    assert_eq!(words, [0x0101_0101_0101_0101, 0x0202_0202_0202_0202]);
    assert_eq!(payload.read_at::<u32>(16), Some(0x0303_0303));
    assert_eq!((payload.read_at::<u32>(17), payload.read_at::<u32>(usize::MAX)), (None, None));
    let mut tail = [0; 9];
    assert_eq!((payload.copy_from(15, &mut tail), tail), (5, [2, 3, 3, 3, 3, 0, 0, 0, 0]));
    assert_eq!(payload.copy_from(usize::MAX, &mut tail), 0);
}

#[test]
fn a_record_is_written_and_read_where_it_is() {
    let mut ring = Halves::in_one_mapping(4096, 0);
    let mut slot = ring.producer.reserve(EVENT, 20).unwrap();
    // SAFETY: this thread alone has the area.
    let place = unsafe { slot.as_mut_slice() };
    assert_eq!(place.len(), 20);
    place.copy_from_slice(&bytes(3, 20));
    slot.assume_written(12);
    slot.commit();
    let mut slot = ring.producer.reserve(EVENT, 7).unwrap();
    slot.assume_written(1000);
    assert_eq!((slot.written(), slot.remaining()), (7, 0), "no more than was reserved");
    slot.commit();
    let record = ring.consumer.peek().unwrap().unwrap();
    let payload = ring.consumer.payload(&record);
    // SAFETY: as above, and the record is not released yet.
    assert_eq!(unsafe { payload.as_slice() }, &bytes(3, 20)[..12]);
    ring.consumer.release(record);
    assert_eq!(ring.receive().unwrap().1.len(), 7);
    let mut slot = ring.producer.reserve(EVENT, 5).unwrap();
    let error = std::io::Write::write_all(&mut slot, b"longer").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WriteZero);
    std::io::Write::flush(&mut slot).unwrap();
    slot.commit();
    assert_eq!(ring.receive().unwrap().1, b"longe");
}

/// Says what it is asked about oversleeping.
struct AskedKernel(std::sync::mpsc::Sender<u64>);

impl Kernel<NativeWord> for AskedKernel {
    fn sleep(&self, _word: &NativeWord, _expected: u32, _until_ns: u64) {}
    fn wake(&self, _word: &NativeWord) {}
    fn overslept(&self, until_ns: u64) -> bool {
        self.0.send(until_ns).unwrap();
        false
    }
    fn listen(&self, _until_ns: u64) -> Heard {
        Heard::Nothing
    }
    fn ring_bell(&self) {}
    fn peer_is_gone(&self) -> bool {
        false
    }
    fn discard(&self, _from: u32, _to: u32) {}
}

#[test]
fn a_deadline_that_has_long_passed_is_not_taken_for_a_queue() {
    let (segment, _) = Segment::create(layout(4096), SegmentOptions::default()).unwrap();
    let (say, hear) = std::sync::mpsc::channel();
    let area = segment.area(Direction::ToClient);
    let mut consumer = Consumer::<Native, _>::new(area, AskedKernel(say), tuning(4096, 0));
    let before_ns = Deadline::now_ns();
    let mut spinner = Spinner::new(WaitStrategy::ParkAtOnce);
    consumer.wait_readable(&mut spinner, Deadline::at_ns(1), || ()).unwrap_err();
    let asked: Vec<_> = hear.try_iter().collect();
    assert!(!asked.is_empty() && asked.iter().all(|until_ns| *until_ns >= before_ns), "{asked:?}");
}
