//! A ring in a model, and its two halves with the wait loops of a transport.

use ringwire::ring::{Consumer, Producer, Record, RingError, Slot, Tuning};
use ringwire::wait::{Deadline, Spinner, WaitStrategy};
use ringwire::wire::{Header, Kind};

use crate::{Loom, LoomArea, LoomKernel, Slices, lifeline};

/// What a ring of a model looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Size of the area.
    pub ring_bytes: u32,
    /// Where both halves begin.
    pub start: u64,
    /// The reader publishes what it consumed after this many bytes.
    pub lazy_bytes: u32,
    /// The writer looks for a drained ring at multiples of this; 0: never.
    pub restart_bytes: u32,
    /// When the reader's sleep on a word ends by itself.
    pub reader_slices: Slices,
    /// When the writer's does.
    pub writer_slices: Slices,
}

impl Shape {
    /// A ring of `ring_bytes` that begins at 8, does not restart, and whose reader publishes at half the area.
    #[must_use]
    pub const fn new(ring_bytes: u32) -> Self {
        Self {
            ring_bytes,
            start: 8,
            lazy_bytes: ring_bytes / 2,
            restart_bytes: 0,
            reader_slices: Slices::Endless,
            writer_slices: Slices::Endless,
        }
    }

    /// The two halves, between two processes of their own.
    #[must_use]
    pub fn open<const WEAK: u64>(&self) -> Ends<WEAK> {
        let (writer, reader) = lifeline(self.writer_slices, self.reader_slices);
        self.open_between(writer, reader)
    }

    /// The two halves, between the given processes.
    #[must_use]
    pub fn open_between<const WEAK: u64>(&self, writer: LoomKernel, reader: LoomKernel) -> Ends<WEAK> {
        let area = LoomArea::new(self.ring_bytes, self.start);
        Ends {
            sender: Sender {
                producer: Producer::new(area.clone(), writer.clone(), self.tuning()),
                spinner: spinner(),
                sent: 0,
            },
            receiver: Receiver {
                consumer: Consumer::new(area.clone(), reader.clone(), self.tuning()),
                spinner: spinner(),
                received: 0,
            },
            area,
            writer,
            reader,
        }
    }

    fn tuning(&self) -> Tuning {
        Tuning {
            start: self.start,
            // Everything that can fit: shipped rings stay at half the area, so as not to wait for the reader so often.
            max_record_bytes: self.ring_bytes - 8,
            lazy_bytes: self.lazy_bytes,
            restart_bytes: self.restart_bytes,
        }
    }
}

/// There is no spinning in a model.
fn spinner() -> Spinner {
    Spinner::new(WaitStrategy::ParkAtOnce)
}

/// A ring and who uses it.
#[derive(Debug)]
pub struct Ends<const WEAK: u64> {
    /// The writing half.
    pub sender: Sender<WEAK>,
    /// The reading half.
    pub receiver: Receiver<WEAK>,
    /// The memory between them.
    pub area: LoomArea,
    /// The writer's process.
    pub writer: LoomKernel,
    /// The reader's process.
    pub reader: LoomKernel,
}

/// The writing half, and a numbering of its messages.
#[derive(Debug)]
pub struct Sender<const WEAK: u64> {
    /// The shipped code.
    pub producer: Producer<Loom<WEAK>, LoomKernel>,
    spinner: Spinner,
    sent: u64,
}

impl<const WEAK: u64> Sender<WEAK> {
    /// Sends a message of `length` bytes; waits for room.
    ///
    /// # Errors
    /// Whatever the ring says but `Full`.
    pub fn send(&mut self, length: usize) -> Result<(), RingError> {
        self.put(length, Producer::push)
    }

    /// Adds a message of `length` bytes to the batch; waits for room.
    ///
    /// # Errors
    /// Whatever the ring says but `Full`.
    pub fn append(&mut self, length: usize) -> Result<(), RingError> {
        self.put(length, Producer::append)
    }

    fn put(
        &mut self,
        length: usize,
        put: impl Fn(&mut Producer<Loom<WEAK>, LoomKernel>, &Header, &[u8]) -> Result<(), RingError>,
    ) -> Result<(), RingError> {
        let (header, payload) = (header_of(self.sent, length), payload_of(self.sent, length));
        loop {
            match put(&mut self.producer, &header, &payload) {
                Err(RingError::Full) => self.wait_for_room()?,
                result => {
                    self.sent += u64::from(result.is_ok());
                    return result;
                }
            }
        }
    }

    /// Sends a message of `length` bytes that is written in place, to `capacity` reserved bytes; waits for room.
    ///
    /// # Errors
    /// Whatever the ring says but `Full`.
    pub fn send_in_slot(&mut self, capacity: usize, length: usize) -> Result<(), RingError> {
        let payload = payload_of(self.sent, length);
        let mut slot = self.reserve(capacity, length)?;
        assert_eq!(slot.write(&payload), length);
        slot.commit();
        self.sent += 1;
        Ok(())
    }

    /// Writes as [`Sender::send_in_slot`] does, then lets go of the slot.
    ///
    /// # Errors
    /// Whatever the ring says but `Full`.
    pub fn abort_slot(&mut self, capacity: usize, length: usize) -> Result<(), RingError> {
        let payload = payload_of(self.sent, length);
        let mut slot = self.reserve(capacity, length)?;
        assert_eq!(slot.write(&payload), length);
        Ok(())
    }

    /// Sends `words` in place; waits for room.
    ///
    /// # Errors
    /// Whatever the ring says but `Full`.
    pub fn send_words(&mut self, words: &[u64]) -> Result<(), RingError> {
        let mut slot = self.reserve(8 * words.len(), 8 * words.len())?;
        let mut next = words.iter();
        assert_eq!(slot.write_words(words.len(), || *next.next().unwrap()), words.len());
        slot.commit();
        self.sent += 1;
        Ok(())
    }

    fn reserve(
        &mut self,
        capacity: usize,
        length: usize,
    ) -> Result<Slot<'_, Loom<WEAK>, LoomKernel>, RingError> {
        loop {
            match self.producer.claim(capacity) {
                Ok(()) => return self.producer.reserve(header_of(self.sent, length), capacity),
                Err(RingError::Full) => self.wait_for_room()?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits after `Full`.
    ///
    /// # Errors
    /// Whatever the ring says.
    pub fn wait_for_room(&mut self) -> Result<(), RingError> {
        self.wait_for_room_until(Deadline::NEVER)
    }

    /// The same, until `deadline`.
    ///
    /// # Errors
    /// Whatever the ring says.
    pub fn wait_for_room_until(&mut self, deadline: Deadline) -> Result<(), RingError> {
        self.producer.wait_for_room(&mut self.spinner, deadline)
    }
}

/// The reading half; checks that every message is the next one, and whole.
#[derive(Debug)]
pub struct Receiver<const WEAK: u64> {
    /// The shipped code.
    pub consumer: Consumer<Loom<WEAK>, LoomKernel>,
    spinner: Spinner,
    received: u64,
}

impl<const WEAK: u64> Receiver<WEAK> {
    /// The length of the next message; waits for it.
    ///
    /// # Errors
    /// Whatever the ring says.
    pub fn receive(&mut self) -> Result<usize, RingError> {
        loop {
            if let Some(length) = self.try_receive()? {
                return Ok(length);
            }
            self.wait()?;
        }
    }

    /// The length of the next message, if it is there.
    ///
    /// # Errors
    /// Whatever the ring says.
    pub fn try_receive(&mut self) -> Result<Option<usize>, RingError> {
        let Some(record) = self.consumer.peek()? else { return Ok(None) };
        self.compare(&record);
        self.consumer.release(record);
        self.received += 1;
        Ok(Some(record.payload_bytes() as usize))
    }

    /// The length of the next message, if it is there, as between two turns of an event loop.
    ///
    /// # Errors
    /// Whatever the ring says.
    pub fn take_turn(&mut self) -> Result<Option<usize>, RingError> {
        self.consumer.disarm();
        if let Some(length) = self.try_receive()? {
            return Ok(Some(length));
        }
        self.consumer.look_at_lifeline()?;
        self.try_receive()
    }

    /// Takes what [`Sender::send_words`] sent; waits for it.
    ///
    /// # Errors
    /// Whatever the ring says.
    pub fn receive_words(&mut self) -> Result<Vec<u64>, RingError> {
        loop {
            if let Some(record) = self.consumer.peek()? {
                let mut words = Vec::new();
                self.consumer.payload(&record).take_words(|word| words.push(word));
                self.consumer.release(record);
                self.received += 1;
                return Ok(words);
            }
            self.wait()?;
        }
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// Whatever the ring says.
    pub fn wait(&mut self) -> Result<(), RingError> {
        self.wait_until(Deadline::NEVER)
    }

    /// The same, until `deadline`.
    ///
    /// # Errors
    /// Whatever the ring says.
    pub fn wait_until(&mut self, deadline: Deadline) -> Result<(), RingError> {
        self.consumer.wait_readable(&mut self.spinner, deadline, || ())?;
        Ok(())
    }

    /// Waits until another thread of this process wants this one; the peer sends nothing.
    pub fn wait_interrupted(&mut self) {
        while !self.consumer.kernel().take_interruption() {
            assert_eq!(self.wait(), Ok(()));
        }
    }

    fn compare(&self, record: &Record) {
        let length = record.payload_bytes() as usize;
        assert_eq!(record.header(), header_of(self.received, length), "not the next message");
        assert_eq!(self.consumer.payload(record).to_vec(), payload_of(self.received, length), "torn");
    }
}

fn header_of(number: u64, length: usize) -> Header {
    Header::new(Kind::Event, length as u16, 0x5EED_0000_0000 + number)
}

fn payload_of(number: u64, length: usize) -> Vec<u8> {
    (1..=length).map(|index| (number as u8) << 6 | index as u8).collect()
}
