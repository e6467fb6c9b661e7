//! [`Reply`]: an answer, where it lies.

use zerocopy::{FromBytes, IntoBytes};

use crate::error::{Error, ErrorKind};
use crate::transport::{Payload, Place, Receiver};

/// Buffers up to this size are kept for the next answer.
pub(super) const KEPT_BYTES: usize = 64 << 10;

/// A response, or an item of a streamed one.
///
/// It lies in the ring, and gives its room back when it is dropped; one that travelled in fragments, or came while the
/// caller waited for another, lies in a buffer of the client.
#[derive(Debug)]
// No enum: its variants would share bytes, and be copied in other pieces than they were written in. See `PackedHeader`.
pub struct Reply<'a> {
    /// The ring where it lies at `place`; or else
    ring: Option<&'a mut Receiver>,
    place: Place,
    /// a buffer of the client's, lent.
    buffer: Option<&'a mut Vec<u8>>,
}

impl Drop for Reply<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        match &mut self.ring {
            Some(receiver) => receiver.release_at(self.place),
            None => self.empty_buffer(),
        }
    }
}

/// Empties a buffer, and keeps it unless it is a large one.
pub(super) fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT_BYTES {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

impl<'a> Reply<'a> {
    #[inline(always)]
    pub(super) fn in_ring(receiver: &'a mut Receiver, place: Place) -> Self {
        Self { ring: Some(receiver), place, buffer: None }
    }

    pub(super) fn in_buffer(bytes: &'a mut Vec<u8>) -> Self {
        Self { ring: None, place: Place::ELSEWHERE, buffer: Some(bytes) }
    }

    #[cold]
    fn empty_buffer(&mut self) {
        if let Some(buffer) = &mut self.buffer {
            empty(buffer);
        }
    }

    /// The bytes: to be copied, or read piece by piece.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> Payload<'_> {
        match (&self.ring, &self.buffer) {
            (Some(receiver), _) => receiver.payload_at(self.place),
            (None, Some(buffer)) => Payload::private(buffer),
            (None, None) => Payload::private(&[]),
        }
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.payload().len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes in a new vector.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.payload().to_vec()
    }

    /// The value that the bytes are, all of them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if their number is not the value's.
    #[inline]
    pub fn read<T: FromBytes + IntoBytes>(&self) -> Result<T, Error> {
        read(&self.payload())
    }
}

#[inline]
pub(super) fn read<T: FromBytes + IntoBytes>(payload: &Payload<'_>) -> Result<T, Error> {
    match payload.read_at(0) {
        Some(value) if payload.len() == size_of::<T>() => Ok(value),
        _ => Err(wrong_length(payload.len(), size_of::<T>(), std::any::type_name::<T>())),
    }
}

#[cold]
fn wrong_length(found: usize, expected: usize, name: &str) -> Error {
    let message = format!(
        "{found} bytes received, expected the {expected} of a {name}: do both sides mean the same type?"
    );
    Error::new(ErrorKind::InvalidData, message)
}
