//! [`Reading`]: the half that turns records back into bytes.

use std::io::IoSliceMut;

use super::is_bytes;
use crate::error::{Error, ErrorKind};
use crate::transport::receiver::{Found, Receiver};

/// What there was to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The end: nothing more will come.
    End,
}

/// The receiving half, and how far it has read into the record at its front.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) receiver: Receiver,
    current: Option<(Found, usize)>,
    ended: bool,
}

impl Reading {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self { receiver, current: None, ended: false }
    }

    /// Takes what is there, up to the length of `target`, which is not empty.
    #[inline]
    pub(super) fn take(&mut self, target: &mut [u8]) -> Result<Taken, Error> {
        let taken = self.fill(target);
        if self.current.is_none() && !self.ended {
            self.receiver.publish_if_drained();
        }
        taken
    }

    /// As [`Reading::take`], into one target after the other.
    pub(super) fn take_vectored(&mut self, targets: &mut [IoSliceMut<'_>]) -> Result<Taken, Error> {
        let mut total = 0;
        for target in targets.iter_mut().filter(|target| !target.is_empty()) {
            match self.take(target) {
                Ok(Taken::Bytes(count)) => {
                    total += count;
                    if count < target.len() {
                        break;
                    }
                }
                _ if total > 0 => break,
                other => return other,
            }
        }
        Ok(Taken::Bytes(total))
    }

    #[inline]
    fn fill(&mut self, target: &mut [u8]) -> Result<Taken, Error> {
        let mut filled = 0;
        while filled < target.len() {
            let (found, read) = match self.front() {
                Ok(Some(front)) => front,
                // What comes behind the bytes is found again by the next call.
                _ if filled > 0 => break,
                Ok(None) => return Ok(if self.ended { Taken::End } else { Taken::Nothing }),
                Err(error) => return Err(error),
            };
            let payload = self.receiver.payload(&found);
            let target = &mut target[filled..];
            let count = if read == 0 { payload.copy_to(target) } else { payload.copy_from(read, target) };
            let (bytes, end) = (payload.len(), read + count);
            filled += count;
            if end < bytes {
                self.current = Some((found, end));
                break;
            }
            self.current = None;
            self.receiver.release(found);
            if bytes == 0 {
                // Not ours: who sends nothing without end must not hold back the deadline.
                break;
            }
        }
        Ok(if filled > 0 { Taken::Bytes(filled) } else { Taken::Nothing })
    }

    /// The record at the front, and how much of it has been read.
    #[inline]
    fn front(&mut self) -> Result<Option<(Found, usize)>, Error> {
        if self.current.is_some() || self.ended {
            return Ok(self.current);
        }
        match self.receiver.poll_record() {
            Ok(Some(found)) if is_bytes(found.header()) => Ok(Some((found, 0))),
            Ok(None) => Ok(None),
            Ok(Some(found)) => Err(not_bytes(&found)),
            Err(error) if error.kind() == ErrorKind::PeerClosed => {
                self.ended = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cold]
fn not_bytes(found: &Found) -> Error {
    let kind = found.header().kind;
    let message =
        format!("found a message ({kind:?}) where bytes were expected; is the other side a ByteStream?");
    Error::new(ErrorKind::CorruptPeer, message)
}
