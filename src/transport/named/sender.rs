//! [`NamedSender`]: the writing half of a named ring.

use std::time::Duration;

use super::kernel::NamedKernel;
use super::object::NamedObject;
use crate::error::{Error, ErrorKind};
use crate::ring::{self, Producer, RingError, Tuning};
use crate::shm::Half;
use crate::sync::{Area, Kernel, Native};
use crate::transport::options::Backpressure;
use crate::wait::{Deadline, Spinner, WaitError, WaitStrategy};
use crate::wire::{Flags, Header};

/// A record of a named ring that is written in place: see [`ring::Slot`].
pub type NamedSlot<'a> = ring::Slot<'a, Native, NamedKernel>;

/// The writing half of a named ring: records in one direction to one process, by a name and without a socket.
///
/// One side creates the ring, the other opens it, in either roles: [`NamedSender::create`] goes with
/// [`NamedReceiver::open`](crate::NamedReceiver::open), and [`NamedReceiver::create`](crate::NamedReceiver::create) with
/// [`NamedSender::open`]. Whoever lives longer, or is started first, creates. The other process is trusted: for one that
/// is not, and for answers, take a [`Stream`](crate::Stream).
///
/// Dropping it closes the ring: the other side receives what was sent, then sees the end. The creator's name is removed.
///
/// ```
/// use ringwire::{ErrorKind, Header, Kind, NamedReceiver, NamedSender};
/// # let name = &format!("/ringwire-doc-{}-s", std::process::id());
///
/// let mut sender = NamedSender::create(name, 64 << 10)?; // name: "/prices", say
/// let mut receiver = NamedReceiver::open(name)?; // in another process
/// sender.send(Header::new(Kind::Event, 1, 0), b"17.25")?;
/// drop(sender);
///
/// assert_eq!(receiver.receive()?.payload().to_vec(), b"17.25");
/// assert_eq!(receiver.receive().unwrap_err().kind(), ErrorKind::PeerClosed);
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Debug)]
pub struct NamedSender {
    producer: Producer<Native, NamedKernel>,
    spinner: Spinner,
    backpressure: Backpressure,
    timeout: Option<Duration>,
    dropped: u64,
}

impl NamedSender {
    /// Makes the ring `name`, with a data area of `ring_bytes` (a power of two from 4 KiB to 1 GiB), to send through it.
    ///
    /// The name is a slash and up to 254 bytes without another one. All memory is allocated at once: 1 KiB more than
    /// the data area, in whole pages. Permissions are 0600. What a dead process left at the name is replaced.
    ///
    /// Records can be sent before anybody has opened the ring, as many as fit.
    ///
    /// # Errors
    /// [`ErrorKind::AddressInUse`] if a living process has created it, or if there is something else at the name;
    /// [`ErrorKind::InvalidInput`] for the name or the size; [`ErrorKind::ResourceExhausted`] if `/dev/shm` is full;
    /// [`ErrorKind::PermissionDenied`] if the name is another user's.
    pub fn create(name: &str, ring_bytes: u32) -> Result<Self, Error> {
        NamedObject::create(name, Half::Writing, ring_bytes).map(Self::over)
    }

    /// Opens the ring `name` that a [`NamedReceiver`](crate::NamedReceiver) has created, to send through it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::ConnectionRefused`] if its creator is gone or not ready
    /// yet, or if somebody has opened it and gone: these may succeed later
    /// ([`Error::is_retryable`]). [`ErrorKind::AddressInUse`] if a living process has opened it, or if its creator sends
    /// too. [`ErrorKind::Handshake`] and [`ErrorKind::VersionMismatch`] if it is no ring, or not of this version;
    /// [`ErrorKind::PermissionDenied`] if it is another user's.
    pub fn open(name: &str) -> Result<Self, Error> {
        NamedObject::open(name, Half::Writing).map(Self::over)
    }

    fn over(object: NamedObject) -> Self {
        let area = object.memory().area();
        let tuning = Tuning::for_ring(area.size());
        Self {
            producer: Producer::new(area, NamedKernel::new(object), tuning),
            spinner: Spinner::new(WaitStrategy::default()),
            backpressure: Backpressure::default(),
            timeout: None,
            dropped: 0,
        }
    }

    /// Sends a record and wakes the other side if it sleeps. When the ring is full, the [`Backpressure`] decides.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::TimedOut`] by choice; [`ErrorKind::MessageTooLarge`] beyond
    /// [`NamedSender::max_record_bytes`]; [`ErrorKind::PeerClosed`] and [`ErrorKind::PeerDied`] (as seen when the ring is
    /// full); [`ErrorKind::CorruptPeer`].
    #[inline]
    pub fn send(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        let header = header.with_flags(Flags::NONE);
        match self.producer.push(&header, payload) {
            Ok(()) => Ok(()),
            Err(_) => self.send_slowly(header, payload, self.backpressure),
        }
    }

    /// Like [`NamedSender::send`], but never waits.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] without room; else as [`NamedSender::send`].
    #[inline]
    pub fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<(), Error> {
        let header = header.with_flags(Flags::NONE);
        match self.producer.push(&header, payload) {
            Ok(()) => Ok(()),
            Err(_) => self.send_slowly(header, payload, Backpressure::Fail),
        }
    }

    /// Claims room for a record of at most `payload_bytes`, to be written in place.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] also where the backpressure is [`Backpressure::Drop`]; else as [`NamedSender::send`].
    #[inline]
    pub fn reserve(&mut self, header: Header, payload_bytes: usize) -> Result<NamedSlot<'_>, Error> {
        if self.producer.claim(payload_bytes).is_err() {
            self.make_room(payload_bytes, self.backpressure)?;
        }
        let reserved = self.producer.reserve(header.with_flags(Flags::NONE), payload_bytes);
        // claim() or make_room() has just made the room.
        reserved.map_err(|_| ErrorKind::Full.into())
    }

    /// The longest payload of a record in bytes: half the data area less 32.
    #[must_use]
    pub fn max_record_bytes(&self) -> usize {
        self.producer.max_payload_bytes() as usize
    }

    /// What to do when the ring is full; [`Backpressure::Wait`] by default.
    pub fn set_backpressure(&mut self, backpressure: Backpressure) {
        self.backpressure = backpressure;
    }

    /// How long a send may wait for room; for ever by default, also while nobody has opened the ring.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// What this half does while it waits.
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.spinner = Spinner::new(strategy);
    }

    /// Records left out so far under [`Backpressure::Drop`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The ring's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.producer.kernel().object().name()
    }

    /// Whether a living process has the other half now. A system call.
    #[must_use]
    pub fn has_peer(&self) -> bool {
        self.producer.kernel().object().peer_is_there()
    }

    /// Ends the ring: the other side receives what was sent, then sees the end.
    pub fn close(self) {}

    #[cold]
    fn send_slowly(
        &mut self,
        header: Header,
        payload: &[u8],
        backpressure: Backpressure,
    ) -> Result<(), Error> {
        match self.make_room(payload.len(), backpressure) {
            Err(error) if error.kind() == ErrorKind::Full && backpressure == Backpressure::Drop => {
                self.dropped += 1;
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => self.producer.push(&header, payload).map_err(|error| self.error(error)),
        }
    }

    /// Sees to it that a record of `payload_bytes` fits.
    #[cold]
    fn make_room(&mut self, payload_bytes: usize, backpressure: Backpressure) -> Result<(), Error> {
        let mut deadline = None;
        loop {
            match self.producer.claim(payload_bytes) {
                Ok(()) => return Ok(()),
                Err(RingError::Full) => {}
                Err(error) => return Err(self.error(error)),
            }
            if backpressure != Backpressure::Wait {
                let gone = self.producer.kernel().peer_is_gone();
                return Err(self.error(if gone { WaitError::PeerDied.into() } else { RingError::Full }));
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return Err(self.error(WaitError::TimedOut.into()));
            }
            let deadline = *deadline.get_or_insert_with(|| Deadline::after_option(self.timeout));
            let waited = self.producer.wait_for_room(&mut self.spinner, deadline);
            waited.map_err(|error| self.error(error))?;
        }
    }

    fn error(&self, error: RingError) -> Error {
        self.producer.kernel().error(error)
    }
}

impl Drop for NamedSender {
    fn drop(&mut self) {
        if self.producer.kernel().object().is_ours() {
            self.producer.close();
        }
    }
}
