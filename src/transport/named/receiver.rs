//! [`NamedReceiver`]: the reading half of a named ring.

use std::time::Duration;

use super::kernel::NamedKernel;
use super::object::NamedObject;
use crate::error::{Error, ErrorKind};
use crate::ring::{Consumer, Record, RingError, Tuning, Violation};
use crate::shm::Half;
use crate::sync::{Area, Native};
use crate::transport::Payload;
use crate::wait::{Deadline, Spinner, WaitStrategy};
use crate::wire::Header;

/// The reading half of a named ring: see [`NamedSender`](crate::NamedSender) for how the two sides come together.
///
/// Dropping it tells the other side that nothing more will be read. The creator's name is removed.
///
/// ```
/// use ringwire::{Header, Kind, NamedReceiver, NamedSender};
/// # let name = &format!("/ringwire-doc-{}-r", std::process::id());
///
/// let mut receiver = NamedReceiver::create(name, 4096)?; // name: "/samples", say
/// let mut sender = NamedSender::open(name)?; // in another process
/// sender.send(Header::new(Kind::Event, 7, 1), &[1, 2, 3])?;
///
/// let message = receiver.receive()?;
/// assert_eq!((message.header().message_type, message.payload().len()), (7, 3));
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Debug)]
pub struct NamedReceiver {
    consumer: Consumer<Native, NamedKernel>,
    spinner: Spinner,
    timeout: Option<Duration>,
    /// The first violation; nothing more is read then.
    violation: Option<Box<Violation>>,
}

impl NamedReceiver {
    /// Makes the ring `name`, with a data area of `ring_bytes`, to receive from it: as
    /// [`NamedSender::create`](crate::NamedSender::create).
    ///
    /// # Errors
    /// As [`NamedSender::create`](crate::NamedSender::create).
    pub fn create(name: &str, ring_bytes: u32) -> Result<Self, Error> {
        NamedObject::create(name, Half::Reading, ring_bytes).map(Self::over)
    }

    /// Opens the ring `name` that a [`NamedSender`](crate::NamedSender) has created, to receive from it.
    ///
    /// # Errors
    /// As [`NamedSender::open`](crate::NamedSender::open).
    pub fn open(name: &str) -> Result<Self, Error> {
        NamedObject::open(name, Half::Reading).map(Self::over)
    }

    fn over(object: NamedObject) -> Self {
        let area = object.memory().area();
        let tuning = Tuning::for_ring(area.size());
        Self {
            consumer: Consumer::new(area, NamedKernel::new(object), tuning),
            spinner: Spinner::new(WaitStrategy::default()),
            timeout: None,
            violation: None,
        }
    }

    /// Waits for a record. It stays in the ring until the [`NamedMessage`] is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]; [`ErrorKind::PeerClosed`] and [`ErrorKind::PeerDied`] once everything sent before has been
    /// received; [`ErrorKind::CorruptPeer`].
    #[inline]
    pub fn receive(&mut self) -> Result<NamedMessage<'_>, Error> {
        let mut deadline = None;
        loop {
            if let Some(record) = self.poll()? {
                return Ok(NamedMessage { receiver: self, record });
            }
            self.wait(&mut deadline)?;
        }
    }

    /// The next record if it is there already.
    ///
    /// # Errors
    /// As [`NamedReceiver::receive`], except [`ErrorKind::TimedOut`]. The other side's death is seen by waits alone.
    #[inline]
    pub fn try_receive(&mut self) -> Result<Option<NamedMessage<'_>>, Error> {
        match self.poll()? {
            Some(record) => Ok(Some(NamedMessage { receiver: self, record })),
            None => {
                self.consumer.publish_consumed();
                Ok(None)
            }
        }
    }

    /// Tells the other side what has been consumed, if it does not know yet.
    ///
    /// Happens by itself, but lazily: call it before doing something else for long while the other side may wait for room.
    pub fn publish_consumed(&mut self) {
        self.consumer.publish_consumed();
    }

    /// How long a receive may wait; for ever by default, also while nobody has opened the ring.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// What this half does while it waits.
    pub fn set_wait_strategy(&mut self, strategy: WaitStrategy) {
        self.spinner = Spinner::new(strategy);
    }

    /// The ring's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.consumer.kernel().object().name()
    }

    /// Whether a living process has the other half now. A system call.
    #[must_use]
    pub fn has_peer(&self) -> bool {
        self.consumer.kernel().object().peer_is_there()
    }

    /// Tells the other side that nothing more will be read.
    pub fn close(self) {}

    #[inline]
    fn poll(&mut self) -> Result<Option<Record>, Error> {
        if self.violation.is_some() {
            return Err(self.fail(RingError::Closed));
        }
        match self.consumer.peek() {
            Ok(Some(record)) if record.packed_header().is_whole() => {
                self.consumer.expect_payload(&record);
                Ok(Some(record))
            }
            Ok(None) => Ok(None),
            Ok(Some(record)) => {
                let found = record.header();
                Err(self.fail(Violation::Fragment { found, expected: "a whole record" }.into()))
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    #[cold]
    fn wait(&mut self, deadline: &mut Option<Deadline>) -> Result<(), Error> {
        if deadline.is_some_and(Deadline::has_passed) {
            return Err(ErrorKind::TimedOut.into());
        }
        let deadline = *deadline.get_or_insert_with(|| Deadline::after_option(self.timeout));
        let waited = self.consumer.wait_readable(&mut self.spinner, deadline, || ());
        waited.map_err(|error| self.fail(error.into()))
    }

    #[cold]
    fn fail(&mut self, error: RingError) -> Error {
        if let RingError::Corrupt(violation) = &error {
            self.violation = Some(violation.clone());
            self.consumer.close();
        }
        let error = self.violation.clone().map_or(error, RingError::Corrupt);
        self.consumer.kernel().error(error)
    }
}

impl Drop for NamedReceiver {
    fn drop(&mut self) {
        if self.consumer.kernel().object().is_ours() {
            self.consumer.close();
        }
    }
}

/// A received record of a named ring. Its room is given back when it is dropped.
#[derive(Debug)]
pub struct NamedMessage<'a> {
    receiver: &'a mut NamedReceiver,
    record: Record,
}

impl NamedMessage<'_> {
    /// Kind, type and correlation.
    #[inline]
    #[must_use]
    pub fn header(&self) -> Header {
        self.record.header()
    }

    /// The payload, still in the ring.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> Payload<'_> {
        self.receiver.consumer.payload(&self.record)
    }
}

impl Drop for NamedMessage<'_> {
    #[inline]
    fn drop(&mut self) {
        self.receiver.consumer.release(self.record);
    }
}
