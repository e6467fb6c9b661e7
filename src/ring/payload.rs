//! [`Payload`]: received bytes, without a reference to memory that the peer can write.

use core::fmt;
use std::io;

use zerocopy::{FromBytes, IntoBytes};

use crate::sync::{Area, NativeArea, RecordArea};

/// The payload of a received record, still in the ring (or, if it had to be set aside, in private memory).
///
/// The peer can change ring memory at any time, so there is no `&[u8]` to it: bytes are copied out, and may then be
/// trusted not to change. As an [`io::Read`] it yields its bytes once, from front to back.
// No enum: its variants would share bytes, and be copied in other pieces than they were written in. See `PackedHeader`.
pub struct Payload<'a, A> {
    /// The area that it lies in, from `offset` on: 8-aligned, and its bytes from there lie inside. Or else
    area: Option<&'a A>,
    offset: u32,
    bytes: u32,
    read: u32,
    /// the memory that is it.
    private: &'a [u8],
}

impl<A> fmt::Debug for Payload<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<'a, A: RecordArea> Payload<'a, A> {
    /// # Panics
    /// If the range leaves the area: the record is another ring's.
    #[inline(always)]
    pub(super) fn in_ring(area: &'a A, offset: u32, bytes: u32) -> Self {
        assert!(u64::from(offset) + u64::from(bytes) <= u64::from(area.size()), "a record of another ring");
        Self { area: Some(area), offset, bytes, read: 0, private: &[] }
    }

    /// A payload in private memory.
    pub(crate) fn private(bytes: &'a [u8]) -> Self {
        Self { area: None, offset: 0, bytes: bytes.len() as u32, read: 0, private: bytes }
    }

    /// The same again, read from the front.
    #[inline(always)]
    #[must_use]
    pub(crate) fn again(&self) -> Payload<'_, A> {
        Payload { read: 0, ..*self }
    }

    /// The first word of 8 bytes, and what follows it; `None` if it is shorter.
    #[must_use]
    pub(crate) fn split_word(&self) -> Option<(u64, Payload<'_, A>)> {
        let word = self.read_at::<u64>(0)?;
        // 8 bytes on: still 8-aligned, and inside by the read above.
        let (offset, private) = match self.area {
            Some(_) => (self.offset + 8, self.private),
            None => (0, &self.private[8..]),
        };
        Some((word, Payload { offset, bytes: self.bytes - 8, read: 0, private, ..*self }))
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Copies the first bytes into `target`, as many as both have, and says how many.
    #[inline(always)]
    pub fn copy_to(&self, target: &mut [u8]) -> usize {
        let count = target.len().min(self.len());
        let target = &mut target[..count];
        match self.area {
            // SAFETY: what in_ring() checked, and no more than all of it.
            Some(area) => unsafe { area.copy_record_out(self.offset, target) },
            None => target.copy_from_slice(&self.private[..count]),
        }
        count
    }

    /// Copies the bytes from `offset` on into `target`, as many as both have, and says how many.
    #[inline]
    pub fn copy_from(&self, offset: usize, target: &mut [u8]) -> usize {
        let offset = offset.min(self.len());
        let count = target.len().min(self.len() - offset);
        self.copy_out(offset as u32, &mut target[..count]);
        count
    }

    /// Appends all bytes to `target`.
    pub fn append_to(&self, target: &mut Vec<u8>) {
        let start = target.len();
        target.resize(start + self.len(), 0);
        self.copy_to(&mut target[start..]);
    }

    /// All bytes in a new vector.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        bytes
    }

    /// The value that starts at byte `offset`; `None` if it reaches beyond the end.
    ///
    /// ```
    /// # use ringwire::{Header, Kind, Stream};
    /// # let (mut a, mut b) = Stream::pair()?;
    /// a.send(Header::new(Kind::Event, 1, 0), &[1, 0, 2, 0])?;
    /// let message = b.receive()?;
    /// assert_eq!(message.payload().read_at::<u16>(2), Some(2));
    /// assert_eq!(message.payload().read_at::<u64>(0), None);
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn read_at<T: FromBytes + IntoBytes>(&self, offset: usize) -> Option<T> {
        let mut value = T::new_zeroed();
        let target = value.as_mut_bytes();
        let end = offset.checked_add(target.len())?;
        if end > self.len() {
            return None;
        }
        self.copy_out(offset as u32, target);
        Some(value)
    }

    /// Gives all whole words of 8 bytes to `take`, in place and without a buffer; the last `len() % 8` bytes are left out.
    #[inline]
    pub fn take_words(&self, mut take: impl FnMut(u64)) {
        match self.area {
            Some(area) => area.take_words(self.offset, self.bytes / 8, take),
            None => {
                for word in self.private.chunks_exact(8) {
                    let mut copy = [0; 8];
                    copy.copy_from_slice(word);
                    take(u64::from_ne_bytes(copy));
                }
            }
        }
    }

    #[inline(always)]
    fn copy_out(&self, from: u32, target: &mut [u8]) {
        match self.area {
            Some(area) => area.copy_out(self.offset + from, target),
            None => target.copy_from_slice(&self.private[from as usize..from as usize + target.len()]),
        }
    }
}

impl Payload<'_, NativeArea> {
    /// Copies the first `bytes` to `offset` of `target`, with no buffer in between.
    #[inline(always)]
    pub(super) fn copy_across(&self, target: &NativeArea, offset: u32, bytes: usize) {
        match self.area {
            Some(area) => target.copy_across(offset, area, self.offset, bytes),
            None => target.copy_in(offset, &self.private[..bytes]),
        }
    }

    /// The bytes in place.
    ///
    /// # Safety
    /// Nobody may change the record meanwhile, not even by another handle on the same area in this process. A correct
    /// peer never does, a hostile one can at any time: then this is
    /// undefined behaviour.
    #[must_use]
    pub unsafe fn as_slice(&self) -> &[u8] {
        match self.area {
            Some(area) => {
                let address = area.address(self.offset, self.len());
                // SAFETY: address() checked the range; the record stays ours while `self` borrows the reading half; the
                // caller vouches for the peer.
                unsafe { core::slice::from_raw_parts(address, self.len()) }
            }
            None => self.private,
        }
    }
}

impl<A: RecordArea> io::Read for Payload<'_, A> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = target.len().min((self.bytes - self.read) as usize);
        self.copy_out(self.read, &mut target[..count]);
        self.read += count as u32;
        Ok(count)
    }
}
