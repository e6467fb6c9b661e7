//! The ring's two halves against single hostile words.

use std::sync::Arc;

use proptest::prelude::*;
use ringwire::ring::{CLOSED, Consumer, PADDING, Producer, RingError, Tuning, Violation};
use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Area, Counter, Heard, Kernel, Native, NativeArea, NativeWord, Ordering::Relaxed, Word};
use ringwire::wire::HeaderError;
use ringwire::{Header, Kind};

use super::common::raw::{ABANDONED, CONTINUED, EXTENDED, MORE, RawWriter, tag};

const RING: u32 = 4096;
const LIMIT: u32 = RING / 2 - 16;
const EVENT: Header = Header::new(Kind::Event, 1, 0);

/// Counts what would be system calls.
#[derive(Debug, Default)]
struct CountingKernel {
    calls: Counter,
}

impl Kernel<NativeWord> for CountingKernel {
    fn sleep(&self, _word: &NativeWord, _expected: u32, _until_ns: u64) {}
    fn wake(&self, _word: &NativeWord) {
        self.calls.add(1);
    }
    fn listen(&self, _until_ns: u64) -> Heard {
        Heard::Nothing
    }
    fn ring_bell(&self) {
        self.calls.add(1);
    }
    fn peer_is_gone(&self) -> bool {
        false
    }
    fn discard(&self, _from: u32, _to: u32) {}
}

type TestConsumer = Consumer<Native, CountingKernel>;
type TestProducer = Producer<Native, CountingKernel>;

fn segment() -> Arc<Segment> {
    Segment::create(Layout::new(RING, RING).unwrap(), SegmentOptions::default()).unwrap().0
}

fn area(segment: &Arc<Segment>) -> NativeArea {
    segment.area(Direction::ToServer)
}

/// A reader, and a second handle to its ring that has written records of 64 bytes up to `offset`, all of them read.
fn reader_at(offset: u32) -> (TestConsumer, RawWriter) {
    let segment = segment();
    let mut consumer = Consumer::new(area(&segment), CountingKernel::default(), Tuning::for_ring(RING));
    let mut writer = RawWriter { area: area(&segment), position: 0 };
    while writer.position < offset {
        let length = 64.min(offset - writer.position) as usize;
        writer.record(0, 0, &vec![1; length - 16]);
        let record = consumer.peek().unwrap().unwrap();
        consumer.release(record);
    }
    (consumer, writer)
}

fn writer_with(records: usize) -> (TestProducer, NativeArea) {
    let segment = segment();
    let mut producer = Producer::new(area(&segment), CountingKernel::default(), Tuning::for_ring(RING));
    for _ in 0..records {
        producer.push(&EVENT, &[1; 48]).unwrap();
    }
    (producer, area(&segment))
}

fn verdict(offset: u32, word: u32) -> RingError {
    let (mut consumer, writer) = reader_at(offset);
    writer.commit(word);
    let verdict = consumer.peek().expect_err("accepted");
    assert_eq!(consumer.peek().unwrap_err(), verdict, "another look finds the same");
    assert_eq!(consumer.position(), u64::from(offset), "nothing is consumed");
    verdict
}

#[test]
fn a_length_that_no_record_has_is_named() {
    let too_short = 1..16;
    let too_long =
        [LIMIT + 1, LIMIT + 8, RING / 2, RING, RING + 16, CLOSED - 1, CLOSED + 1, CLOSED | 64, PADDING - 1];
    for found in too_short.chain(too_long) {
        for offset in [0, 64, 2048] {
            let limit = LIMIT.min(RING - offset);
            assert_eq!(verdict(offset, found), Violation::RecordLength { found, offset, limit }.into());
        }
    }
}

#[test]
fn a_record_beyond_the_end_of_the_area_is_refused_and_one_up_to_the_end_is_not() {
    for offset in [RING - 64, RING - 16, RING - 8] {
        let limit = RING - offset;
        for found in [limit + 1, limit + 8, LIMIT] {
            assert_eq!(verdict(offset, found), Violation::RecordLength { found, offset, limit }.into());
        }
    }
    let (mut consumer, mut writer) = reader_at(RING - 64);
    writer.record(0, 0, &[2; 48]);
    let record = consumer.peek().unwrap().unwrap();
    assert_eq!(consumer.payload(&record).to_vec(), [2; 48]);
}

#[test]
fn padding_is_valid_only_to_the_exact_end_and_never_at_the_start() {
    let ring_bytes = RING;
    for found in [0, 8, 16, RING - 8, RING, 2 * RING, PADDING - 1] {
        assert_eq!(verdict(0, PADDING | found), Violation::Padding { found, offset: 0, ring_bytes }.into());
    }
    for found in [0, 8, RING - 72, RING - 56, RING, RING - 64 + CLOSED] {
        assert_eq!(verdict(64, PADDING | found), Violation::Padding { found, offset: 64, ring_bytes }.into());
    }
}

#[test]
fn padding_twice_is_refused() {
    for second in [PADDING, PADDING | RING, PADDING | 8] {
        let (mut consumer, writer) = reader_at(RING - 8);
        writer.area.word(0).store(second, Relaxed);
        writer.commit(PADDING | 8);
        assert!(matches!(consumer.peek(), Err(RingError::Corrupt(_))));
        assert!(matches!(consumer.peek(), Err(RingError::Corrupt(_))));
    }
    // Also when it comes later.
    let (mut consumer, mut writer) = reader_at(RING - 8);
    writer.area.word(0).store(0, Relaxed);
    writer.commit(PADDING | 8);
    assert!(consumer.peek().unwrap().is_none());
    writer.position = RING;
    writer.commit(PADDING | RING);
    assert!(matches!(consumer.peek(), Err(RingError::Corrupt(_))));
}

#[test]
fn the_end_is_the_end_whatever_lies_behind_it() {
    let (mut consumer, writer) = reader_at(64);
    writer.area.put_header(64, u32::MAX, u64::MAX);
    writer.area.copy_in(80, &[0xFF; 1000]);
    writer.commit(CLOSED);
    assert_eq!(consumer.peek().unwrap_err(), RingError::Closed);
    assert_eq!(consumer.peek().unwrap_err(), RingError::Closed);
}

#[test]
fn unknown_kinds_and_contradictory_flags_are_named() {
    for kind in [0].into_iter().chain(11..=255) {
        let (mut consumer, mut writer) = reader_at(0);
        writer.tagged(tag(kind, 0), 0, &[]);
        assert_eq!(consumer.peek().unwrap_err(), Violation::Header(HeaderError::Kind(kind)).into());
    }
    for flags in 0..=255 {
        let (mut consumer, mut writer) = reader_at(0);
        writer.record(flags, 0, &[]);
        let (size, rest) = (flags & 0xF0, flags & 0x0F);
        let placed = rest & !(MORE | CONTINUED) == 0 || rest == ABANDONED | CONTINUED;
        let begins_fragments = rest & (MORE | CONTINUED) == MORE;
        let valid = (placed || rest & !MORE == EXTENDED) && (size == 0 || begins_fragments);
        match consumer.peek() {
            Ok(Some(_)) => assert!(valid, "{flags:#x}"),
            other => assert_eq!(other.unwrap_err(), Violation::Header(HeaderError::Flags(flags)).into()),
        }
    }
}

/// Pushes until `head` is looked at.
fn push_until_refused(producer: &mut TestProducer) -> RingError {
    (0..200).find_map(|_| producer.push(&EVENT, &[1; 48]).err()).expect("head is looked at")
}

#[test]
fn a_read_position_outside_the_possible_is_named_and_final() {
    // Records of 64 bytes, and a look every 1024: never more than that has been sent then.
    for found in [1032, 4096, 1 << 31, u32::MAX - 7, 2, 4, 6, 66] {
        let (mut producer, theirs) = writer_with(10);
        theirs.head().store(found, Relaxed);
        let error = push_until_refused(&mut producer);
        assert!(
            matches!(&error, RingError::Corrupt(violation) if matches!(**violation, Violation::Head { .. })),
            "{found}"
        );
        theirs.head().store(0, Relaxed);
        assert_eq!(
            push_until_refused(&mut producer),
            error,
            "{found}: a good value afterwards heals nothing"
        );
        assert!(producer.push(&EVENT, &[]).is_err());
    }
}

#[test]
fn a_read_position_that_goes_back_is_named() {
    let (mut producer, theirs) = writer_with(10);
    theirs.head().store(640, Relaxed);
    assert_eq!(producer.is_drained(), Ok(true));
    theirs.head().store(632, Relaxed);
    let error = producer.is_drained().unwrap_err();
    let expected = "read position 0x278, expected a multiple of 8 from 0x280 to 0x280 (modulo 2^32)";
    assert_eq!(error.to_string(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_word_is_a_record_inside_the_area_or_an_error(word: u32, small in 0..5000u32, tag: u32, at in 0..512u32, low: bool) {
        let word = if low { small } else { word };
        let offset = at * 8 % RING / 64 * 64;
        let (mut consumer, writer) = reader_at(offset);
        writer.area.put_header(offset, tag, 5);
        writer.commit(word);
        let limit = LIMIT.min(RING - offset);
        match consumer.peek() {
            Ok(None) => prop_assert!(word == 0 || word == PADDING | (RING - offset)),
            Ok(Some(record)) => {
                prop_assert!((16..=limit).contains(&word));
                prop_assert_eq!(record.payload_bytes(), word - 16);
                prop_assert_eq!(consumer.payload(&record).to_vec().len() as u32, word - 16);
                consumer.release(record);
                prop_assert!(consumer.position() <= u64::from(RING));
            }
            Err(RingError::Closed) => prop_assert_eq!(word, CLOSED),
            Err(error) => prop_assert!(matches!(error, RingError::Corrupt(_))),
        }
    }

    #[test]
    fn parked_words_cost_a_system_call_at_most(marks in prop::collection::vec(any::<u32>(), 1..60)) {
        let segment = segment();
        let theirs = area(&segment);
        let tuning = Tuning::for_ring(RING);
        let mut producer: TestProducer = Producer::new(area(&segment), CountingKernel::default(), tuning);
        let mut consumer: TestConsumer = Consumer::new(area(&segment), CountingKernel::default(), tuning);
        for (count, mark) in marks.iter().enumerate() {
            theirs.reader_parked().store(*mark, Relaxed);
            theirs.writer_parked().store(mark.rotate_left(7), Relaxed);
            producer.push(&EVENT, &[count as u8; 40]).unwrap();
            let record = consumer.peek().unwrap().unwrap();
            prop_assert_eq!(consumer.payload(&record).to_vec(), [count as u8; 40]);
            consumer.release(record);
            consumer.publish_consumed();
        }
        let most = marks.len() as u64;
        prop_assert!(producer.kernel().calls.get() <= most && consumer.kernel().calls.get() <= 2 * most);
    }
}
