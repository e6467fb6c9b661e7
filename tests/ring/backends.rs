//! The ring in its several surroundings.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringwire::ring::{Consumer, Producer, RingError, Tuning};
use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Area, Heard, Kernel, Native, NativeWord, Ordering, Word};
use ringwire::sys::{futex_wait, futex_wake};
use ringwire::{ErrorKind, Header, Stream, WaitStrategy};

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    Full,
    Other(String),
}

impl From<RingError> for Refused {
    fn from(error: RingError) -> Self {
        if error == RingError::Full { Self::Full } else { Self::Other(error.to_string()) }
    }
}

impl From<ringwire::Error> for Refused {
    fn from(error: ringwire::Error) -> Self {
        if error.kind() == ErrorKind::Full { Self::Full } else { Self::Other(error.to_string()) }
    }
}

/// Both ends of a ring.
pub(crate) trait Backend {
    fn max_payload(&self) -> usize;
    fn push(&mut self, header: Header, payload: &[u8]) -> Result<(), Refused>;
    fn append(&mut self, header: Header, payload: &[u8]) -> Result<(), Refused>;
    fn flush(&mut self);
    /// Whether what was appended stays unpublished.
    fn keeps_pending(&self) -> bool;
    fn write_in_place(&mut self, header: Header, capacity: usize, payload: &[u8]) -> Result<(), Refused>;
    /// Says whether there was room.
    fn reserve_and_drop(&mut self, header: Header, capacity: usize) -> bool;
    fn receive(&mut self) -> Option<(Header, Vec<u8>)>;
    fn peek(&mut self);
    fn publish_consumed(&mut self);
    fn close(&mut self);
    fn is_over(&mut self) -> bool;
}

/// Futexes across mappings; no lifeline, so that a sleep there is a short one.
#[derive(Debug, Default)]
pub(crate) struct PlainKernel;

impl Kernel<NativeWord> for PlainKernel {
    fn sleep(&self, word: &NativeWord, expected: u32, until_ns: u64) {
        futex_wait(word.as_ptr(), expected, until_ns);
    }
    fn wake(&self, word: &NativeWord) {
        futex_wake(word.as_ptr());
    }
    fn listen(&self, _until_ns: u64) -> Heard {
        thread::sleep(Duration::from_micros(100));
        Heard::Bell
    }
    fn ring_bell(&self) {}
    fn peer_is_gone(&self) -> bool {
        false
    }
    fn discard(&self, _from: u32, _to: u32) {}
}

pub(crate) type PlainProducer = Producer<Native, PlainKernel>;
pub(crate) type PlainConsumer = Consumer<Native, PlainKernel>;

pub(crate) struct Halves {
    pub(crate) producer: PlainProducer,
    pub(crate) consumer: PlainConsumer,
}

pub(crate) fn layout(ring_bytes: u32) -> Layout {
    Layout::new(ring_bytes, ring_bytes).unwrap()
}

pub(crate) fn tuning(ring_bytes: u32, start: u64) -> Tuning {
    Tuning { start, ..Tuning::for_ring(ring_bytes) }
}

pub(crate) fn halves(writes: &Arc<Segment>, reads: &Arc<Segment>, ring_bytes: u32, start: u64) -> Halves {
    let area = writes.area(Direction::ToClient);
    // A ring begins at position 0 in fresh memory; anywhere else its head has to say so.
    area.head().store(start as u32, Ordering::Relaxed);
    let tuning = tuning(ring_bytes, start);
    Halves {
        producer: Producer::new(area, PlainKernel, tuning),
        consumer: Consumer::new(reads.area(Direction::ToClient), PlainKernel, tuning),
    }
}

impl Halves {
    /// Both over one mapping.
    pub(crate) fn in_one_mapping(ring_bytes: u32, start: u64) -> Self {
        let (segment, _) = Segment::create(layout(ring_bytes), SegmentOptions::default()).unwrap();
        halves(&segment, &segment, ring_bytes, start)
    }
}

impl Halves {
    /// Each over its own, as between two processes.
    pub(crate) fn in_two_mappings(ring_bytes: u32, start: u64) -> Self {
        let options = SegmentOptions::default();
        let (one, descriptor) = Segment::create(layout(ring_bytes), options).unwrap();
        let two = Segment::open(&descriptor, layout(ring_bytes), options).unwrap();
        halves(&one, &two, ring_bytes, start)
    }
}

impl Backend for Halves {
    fn max_payload(&self) -> usize {
        self.producer.max_payload_bytes() as usize
    }
    fn push(&mut self, header: Header, payload: &[u8]) -> Result<(), Refused> {
        Ok(self.producer.push(&header, payload)?)
    }
    fn append(&mut self, header: Header, payload: &[u8]) -> Result<(), Refused> {
        Ok(self.producer.append(&header, payload)?)
    }
    fn flush(&mut self) {
        self.producer.flush();
    }
    fn keeps_pending(&self) -> bool {
        true
    }
    fn write_in_place(&mut self, header: Header, capacity: usize, payload: &[u8]) -> Result<(), Refused> {
        let mut slot = self.producer.reserve(header, capacity)?;
        let (first, second) = payload.split_at(payload.len() / 3);
        assert_eq!(slot.write(first) + slot.write(second), payload.len());
        assert_eq!((slot.written(), slot.capacity()), (payload.len(), capacity));
        slot.commit();
        Ok(())
    }
    fn reserve_and_drop(&mut self, header: Header, capacity: usize) -> bool {
        match self.producer.reserve(header, capacity) {
            Ok(mut slot) => {
                slot.write(&[0xEE; 64]);
                true
            }
            Err(error) => {
                assert_eq!(error, RingError::Full);
                false
            }
        }
    }
    fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let record = match self.consumer.peek() {
            Ok(record) => record?,
            Err(error) => {
                assert_eq!(error, RingError::Closed);
                return None;
            }
        };
        let payload = self.consumer.payload(&record).to_vec();
        assert_eq!(payload.len(), record.payload_bytes() as usize);
        self.consumer.release(record);
        Some((record.header(), payload))
    }
    fn peek(&mut self) {
        let first = self.consumer.peek().unwrap().map(|record| (record.header(), record.payload_bytes()));
        let second = self.consumer.peek().unwrap().map(|record| (record.header(), record.payload_bytes()));
        assert_eq!(first, second);
    }
    fn publish_consumed(&mut self) {
        self.consumer.publish_consumed();
    }
    fn close(&mut self) {
        self.producer.close();
    }
    fn is_over(&mut self) -> bool {
        matches!(self.consumer.peek(), Err(RingError::Closed))
    }
}

pub(crate) struct Streams {
    sender: Option<Stream>,
    receiver: Stream,
}

impl Streams {
    pub(crate) fn new(ring_bytes: u32) -> Self {
        let (sender, receiver) = Stream::pair_with(ring_bytes, WaitStrategy::ParkAtOnce).unwrap();
        Self { sender: Some(sender), receiver }
    }

    fn sender(&mut self) -> &mut Stream {
        let sender = self.sender.as_mut().unwrap();
        sender.set_backpressure(ringwire::Backpressure::Fail);
        sender
    }
}

impl Backend for Streams {
    fn max_payload(&self) -> usize {
        self.receiver.max_record_bytes()
    }
    fn push(&mut self, header: Header, payload: &[u8]) -> Result<(), Refused> {
        Ok(self.sender().try_send(header, payload)?)
    }
    fn append(&mut self, header: Header, payload: &[u8]) -> Result<(), Refused> {
        Ok(self.sender().batch().send(header, payload)?)
    }
    fn flush(&mut self) {}
    fn keeps_pending(&self) -> bool {
        false
    }
    fn write_in_place(&mut self, header: Header, capacity: usize, payload: &[u8]) -> Result<(), Refused> {
        let mut slot = self.sender().reserve(header, capacity)?;
        assert_eq!(slot.write(payload), payload.len());
        slot.commit();
        Ok(())
    }
    fn reserve_and_drop(&mut self, header: Header, capacity: usize) -> bool {
        self.sender().reserve(header, capacity).is_ok()
    }
    fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let message = self.receiver.try_receive().unwrap()?;
        Some((message.header(), message.payload().to_vec()))
    }
    fn peek(&mut self) {}
    fn publish_consumed(&mut self) {
        // Finding nothing says so to the other side; finding something would take it.
    }
    fn close(&mut self) {
        self.sender = None;
    }
    fn is_over(&mut self) -> bool {
        matches!(self.receiver.try_receive().map(drop), Err(error) if error.kind() == ErrorKind::PeerClosed)
    }
}
