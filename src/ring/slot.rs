//! [`Slot`]: a record that is written in place.

use core::fmt;
use std::io;

use super::{HEADER_BYTES, Payload, Producer};
use crate::sync::failpoint::{Failpoint, failpoint};
use crate::sync::{Area, Kernel, NativeArea, Platform};
use crate::wire::Header;

/// Room for one record in the ring, claimed by [`Producer::reserve`].
///
/// Write the payload ([`Slot::write`], or as an [`io::Write`]), then [`Slot::commit`]: what was written until then is the
/// record. Dropping the slot instead aborts: nothing is sent.
#[must_use = "a slot that is dropped sends nothing"]
pub struct Slot<'a, P: Platform, K> {
    producer: &'a mut Producer<P, K>,
    header: Header,
    capacity: u32,
    written: u32,
    /// Bytes in front of the payload that the caller writes: none of his.
    prefix: u32,
}

impl<P: Platform, K> fmt::Debug for Slot<'_, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("capacity", &self.capacity)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl<'a, P: Platform, K: Kernel<P::Word>> Slot<'a, P, K> {
    pub(super) fn new(producer: &'a mut Producer<P, K>, header: Header, capacity: u32) -> Self {
        Self { producer, header, capacity, written: 0, prefix: 0 }
    }

    /// Bytes that were reserved.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written as usize
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn remaining(&self) -> usize {
        (self.capacity - self.written) as usize
    }

    /// Appends to the payload as much of `bytes` as fits, and says how many that was.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let bytes = &bytes[..bytes.len().min(self.remaining())];
        self.producer.area.copy_in(self.next_offset(), bytes);
        self.written += bytes.len() as u32;
        failpoint(Failpoint::SlotWritten);
        bytes.len()
    }

    /// Appends words of 8 bytes, each made by `next`, until `count` are written or no more fit; says how many those were.
    ///
    /// In place and without a buffer: for payload that is computed. Only at a multiple of 8 bytes; 0 otherwise.
    #[inline]
    pub fn write_words(&mut self, count: usize, next: impl FnMut() -> u64) -> usize {
        if !self.written.is_multiple_of(8) {
            return 0;
        }
        let count = count.min(self.remaining() / 8);
        self.producer.area.put_words(self.next_offset(), count as u32, next);
        self.written += count as u32 * 8;
        count
    }

    /// Sends what was written, and wakes the reader if it sleeps.
    #[inline]
    pub fn commit(self) {
        let payload_bytes = self.prefix + self.written;
        let next = self.producer.zero_behind(payload_bytes as usize);
        self.put_header();
        failpoint(Failpoint::SlotHeaderPut);
        self.producer.publish_record(payload_bytes, next);
    }

    /// As [`Slot::commit`], but [`Producer::flush`] publishes it.
    #[inline]
    pub(crate) fn append(self) {
        let payload_bytes = self.prefix + self.written;
        let next = self.producer.zero_behind(payload_bytes as usize);
        self.put_header();
        self.producer.put(HEADER_BYTES + payload_bytes, next);
    }

    /// Writes `bytes`, before anything else and as far as they fit, and puts them out of the caller's sight.
    #[inline]
    pub(crate) fn put_prefix(&mut self, bytes: &[u8; 8]) {
        self.write(bytes);
        self.prefix += self.written;
        self.capacity -= self.written;
        self.written = 0;
    }

    #[inline(always)]
    fn put_header(&self) {
        let at = self.producer.offset(self.producer.tail);
        self.producer.area.put_header(at, self.header.tag(), self.header.correlation);
    }

    #[inline(always)]
    fn next_offset(&self) -> u32 {
        self.producer.offset(self.producer.tail) + HEADER_BYTES + self.prefix + self.written
    }
}

impl<P: Platform<Area = NativeArea>, K: Kernel<P::Word>> Slot<'_, P, K> {
    /// Appends as much of a received payload as fits, from ring to ring, and says how many bytes that was.
    ///
    /// ```
    /// # use ringwire::{Header, Kind, Stream};
    /// # let ((mut editor, mut from_editor), (mut to_engine, mut engine)) = (Stream::pair()?, Stream::pair()?);
    /// # editor.send(Header::new(Kind::Event, 1, 0), b"fn main() {}")?;
    /// // Between an editor and its engine: what one sends goes on to the other.
    /// let message = from_editor.receive()?;
    /// let payload = message.payload();
    /// let mut onward = to_engine.reserve(message.header(), payload.len())?;
    /// onward.write_payload(&payload);
    /// onward.commit();
    /// assert_eq!(engine.receive()?.payload().to_vec(), b"fn main() {}");
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    #[inline]
    pub fn write_payload(&mut self, payload: &Payload<'_, NativeArea>) -> usize {
        let bytes = payload.len().min(self.remaining());
        payload.copy_across(&self.producer.area, self.next_offset(), bytes);
        self.written += bytes as u32;
        failpoint(Failpoint::SlotWritten);
        bytes
    }

    /// The reserved payload as a slice, to be written in place; [`Slot::assume_written`] then says how much of it counts.
    ///
    /// # Safety
    /// Nobody else may touch this memory until the record is committed, not even by another handle on the same area in
    /// this process: a correct peer never does, a hostile one can.
    /// The bytes hold what earlier records left.
    #[must_use]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        let at = self.producer.offset(self.producer.tail) + HEADER_BYTES + self.prefix;
        let address = self.producer.area.address(at, self.capacity as usize);
        // SAFETY: address() checked the range, which claim() has made ours; every byte of a mapping is initialised; the
        // caller vouches for the peer.
        unsafe { core::slice::from_raw_parts_mut(address, self.capacity as usize) }
    }

    /// Counts the first `bytes` of the payload as written, at most what was reserved.
    pub fn assume_written(&mut self, bytes: usize) {
        self.written = bytes.min(self.capacity as usize) as u32;
    }
}

impl<P: Platform, K: Kernel<P::Word>> io::Write for Slot<'_, P, K> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(Slot::write(self, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
