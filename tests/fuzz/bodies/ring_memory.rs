//! Any bytes in a ring's memory, before and between what its two halves do.
//!
//! Byte 0: whether both halves are of one ring (then records go through), or each has a peer that only the script plays.
//! Then, again and again: a byte that says what happens, and what it needs.

#[path = "memory.rs"]
mod memory;

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::rc::Rc;

use memory::{FuzzKernel, RING, Script, area};
use ringwire::ring::{Consumer, Producer, RingError, Tuning};
use ringwire::sync::{Native, NativeArea};
use ringwire::wait::{Deadline, Spinner, WaitStrategy};
use ringwire::{Header, Kind};

type FuzzConsumer = Consumer<Native, FuzzKernel>;
type FuzzProducer = Producer<Native, FuzzKernel>;

const EVENT: Header = Header::new(Kind::Event, 1, 7);
const PASSED: Deadline = Deadline::at_ns(1);

struct Side {
    script: Rc<RefCell<Script>>,
    calls: Rc<Cell<u64>>,
    consumer: FuzzConsumer,
    producer: FuzzProducer,
    spinner: Spinner,
    /// The producer has been told that its reader broke the protocol, or has gone: it must never be taken back.
    producer_ended: bool,
}

pub fn run(data: &[u8]) {
    let script = Rc::new(RefCell::new(Script::new(data)));
    let calls = Rc::new(Cell::new(0));
    let incoming = area();
    let outgoing = if script.borrow_mut().byte() & 1 != 0 { incoming.clone() } else { area() };
    let tuning = Tuning::for_ring(RING);
    let kernel = |area: &NativeArea| FuzzKernel {
        area: area.clone(),
        script: Rc::clone(&script),
        calls: Rc::clone(&calls),
    };
    let mut side = Side {
        consumer: Consumer::new(incoming.clone(), kernel(&incoming), tuning),
        producer: Producer::new(outgoing.clone(), kernel(&outgoing), tuning),
        spinner: Spinner::new(WaitStrategy::ParkAtOnce),
        producer_ended: false,
        script: Rc::clone(&script),
        calls,
    };
    while !script.borrow().is_over() {
        let what = script.borrow_mut().byte();
        match what % 16 {
            0..4 => script.borrow_mut().poke(&incoming),
            4..7 => script.borrow_mut().poke(&outgoing),
            7..11 => side.read(what / 16),
            _ => side.write(what / 16),
        }
    }
    side.consumer.close();
    side.producer.close();
    side.producer.close();
}

impl Side {
    fn read(&mut self, how: u8) {
        let before = self.consumer.position();
        match how % 8 {
            0..5 => self.take_record(how),
            5 => self.consumer.publish_consumed(),
            6 => {
                let waited = self.consumer.wait_readable(&mut self.spinner, PASSED, || ());
                // What is there can be taken; the peer may have taken it away again by then.
                let _ = waited;
            }
            _ if self.script.borrow_mut().byte() == 0 => self.consumer.close(),
            _ => {}
        }
        let moved = self.consumer.position() - before;
        assert!(moved <= 2 * u64::from(RING) && moved.is_multiple_of(8), "moved by {moved}");
    }

    fn take_record(&mut self, how: u8) {
        let before = self.consumer.position();
        match self.consumer.peek() {
            Ok(Some(record)) => {
                let offset = self.consumer.position() as u32 & (RING - 1);
                let bytes = record.payload_bytes();
                assert!(16 + bytes <= RING / 2 - 16 && offset + 16 + bytes <= RING, "{bytes} at {offset}");
                self.consumer.expect_payload(&record);
                let mut payload = self.consumer.payload(&record);
                assert_eq!(payload.len(), bytes as usize);
                match how {
                    0 => assert_eq!(payload.to_vec().len(), bytes as usize),
                    1 => {
                        let at = usize::from(self.script.borrow_mut().number());
                        let fits = at + 8 <= bytes as usize;
                        assert_eq!(payload.read_at::<u64>(at).is_some(), fits);
                        payload.copy_from(at, &mut [0; 100]);
                    }
                    2 => {
                        let mut words = 0;
                        payload.take_words(|_| words += 1);
                        assert_eq!(words, bytes / 8);
                    }
                    3 => {
                        let mut all = Vec::new();
                        payload.read_to_end(&mut all).expect("private memory");
                        assert_eq!(all.len(), bytes as usize);
                    }
                    // Looked at and left there: it may be another one at the next look.
                    _ => return,
                }
                self.consumer.release(record);
            }
            Ok(None) | Err(RingError::Closed) => {}
            // Only padding that was valid has been passed.
            Err(RingError::Corrupt(violation)) => {
                let moved = self.consumer.position() - before;
                assert!(moved < u64::from(RING), "{violation}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn write(&mut self, how: u8) {
        let before = (self.producer.position(), self.calls.get());
        let length = usize::from(self.script.borrow_mut().number()) % 2200;
        let payload = [0xA5; 2200];
        let done = match how {
            0..3 => self.producer.push(&EVENT, &payload[..length]),
            3..6 => self.producer.append(&EVENT, &payload[..length]),
            6 => {
                self.producer.flush();
                Ok(())
            }
            7 => self.producer.claim(length),
            8 | 9 => self.producer.reserve(EVENT, length).map(|mut slot| {
                assert_eq!(slot.capacity(), length);
                assert_eq!(slot.write(&payload), length);
                if how == 8 {
                    slot.commit();
                }
            }),
            10 => self.producer.reserve(EVENT, length).map(|mut slot| {
                let words = slot.write_words(length / 8, || u64::MAX);
                assert_eq!(words, length / 8);
                slot.commit();
            }),
            11 | 12 => self.producer.wait_for_room(&mut self.spinner, PASSED),
            13 => self.producer.is_drained().map(drop),
            14 => {
                self.producer.trim_idle();
                Ok(())
            }
            _ if self.script.borrow_mut().byte() == 0 => {
                self.producer.close();
                self.producer_ended = true;
                Ok(())
            }
            _ => Ok(()),
        };
        self.check_written(how, &done, before);
    }

    fn check_written(&mut self, how: u8, done: &Result<(), RingError>, before: (u64, u64)) {
        let moved = self.producer.position() - before.0;
        assert!(moved <= 2 * u64::from(RING) && moved.is_multiple_of(8), "moved by {moved}");
        assert!(self.calls.get() - before.1 <= 8, "{} system calls", self.calls.get() - before.1);
        match (how, done) {
            (0..6 | 8 | 10, Ok(())) => assert!(!self.producer_ended, "wrote after the end"),
            (13, Ok(())) => {}
            // is_drained() may say it once more; whoever writes is told for good.
            (_, Err(RingError::Corrupt(_) | RingError::Closed)) => self.producer_ended = true,
            (_, Err(RingError::Full | RingError::TooLarge { .. } | RingError::Wait(_)) | Ok(())) => {}
        }
    }
}
