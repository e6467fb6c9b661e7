//! Events: what the server says unasked.

use std::time::Duration;

use zerocopy::{FromBytes, IntoBytes};

use super::connection::Client;
use super::intake::Awaited;
use super::reply;
use super::waiting::Arrived;
use crate::error::{Error, ErrorKind};
use crate::transport::{Deadline, Message, Payload};

/// What the server said unasked. In the ring until it is dropped, or, if it came while the program waited for something
/// else, in a buffer of the client.
#[derive(Debug)]
pub struct Event<'a> {
    message_type: u16,
    source: Source<'a>,
}

#[derive(Debug)]
enum Source<'a> {
    Ring(Message<'a>),
    Queue(&'a [u8]),
}

impl<'a> Event<'a> {
    pub(super) fn queued((message_type, bytes): (u16, &'a [u8])) -> Self {
        Self { message_type, source: Source::Queue(bytes) }
    }

    /// Its type.
    #[must_use]
    pub fn message_type(&self) -> u16 {
        self.message_type
    }

    /// The bytes: to be copied, or read piece by piece.
    #[must_use]
    pub fn payload(&self) -> Payload<'_> {
        match &self.source {
            Source::Ring(message) => message.payload(),
            Source::Queue(bytes) => Payload::private(bytes),
        }
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
    pub fn read<T: FromBytes + IntoBytes>(&self) -> Result<T, Error> {
        reply::read(&self.payload())
    }
}

impl Client {
    /// Waits for an event, at most for `timeout` (`None`: for as long as it takes); `None` when that is over.
    ///
    /// Events that came while the program waited for something else come first. Replies that arrive meanwhile are kept.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringwire::{Client, Stream, Header, Kind};
    /// # let (stream, mut server) = Stream::pair()?;
    /// # let mut client = Client::builder("").over(stream);
    /// # server.send(Header::new(Kind::Event, 3, 0), b"saved")?;
    /// const FILE: u16 = 3;
    /// while let Some(event) = client.next_event(Some(Duration::from_millis(10)))? {
    ///     assert_eq!((event.message_type(), event.to_vec()), (FILE, b"saved".to_vec()));
    /// }
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::PeerClosed`], [`ErrorKind::PeerDied`], [`ErrorKind::CorruptPeer`] once there is no event left;
    /// [`ErrorKind::ResourceExhausted`] where a reply in front of the next event has no place: collect first.
    pub fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<Event<'_>>, Error> {
        match self.find_event(timeout)? {
            Some(arrived) => Ok(self.take_event(arrived)),
            None => Ok(None),
        }
    }

    /// Where the next event is; `None` if there is none in time.
    pub(super) fn find_event(&mut self, timeout: Option<Duration>) -> Result<Option<Arrived>, Error> {
        let arrived = if !self.state.events.is_empty() {
            Ok(Arrived::Stored)
        } else if timeout == Some(Duration::ZERO) {
            match self.check_receiving().and_then(|()| self.poll_for(Awaited::Event)) {
                Ok(Some((_, arrived))) => Ok(arrived),
                Ok(None) => return Ok(None),
                Err(error) => Err(error),
            }
        } else {
            self.check_receiving()?;
            self.await_event(Deadline::after_option(timeout))
        };
        match arrived {
            Ok(arrived) => Ok(Some(arrived)),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next event if it is there already.
    ///
    /// # Errors
    /// As [`Client::next_event`].
    pub fn try_event(&mut self) -> Result<Option<Event<'_>>, Error> {
        self.next_event(Some(Duration::ZERO))
    }

    /// Events to the end of the connection, each with its type and in a vector of its own; waits for them.
    pub fn events(&mut self) -> Events<'_> {
        Events { client: self, ended: false }
    }

    /// Events that were left out so far, by [`EventPolicy::DropOldest`](super::EventPolicy) or beyond the limit for
    /// messages that are put together.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.state.events.dropped
    }

    fn await_event(&mut self, deadline: Deadline) -> Result<Arrived, Error> {
        self.end_abandoned(deadline)?;
        if !self.state.events.is_empty() {
            return Ok(Arrived::Stored);
        }
        let (sender, receiver) = self.stream.halves();
        match receiver.next_record(deadline, || sender.trim_idle()) {
            Ok(found) => self.await_slowly(found, Awaited::Event, deadline).map(|(_, arrived)| arrived),
            Err(error) => Err(self.ended(error)),
        }
    }

    pub(super) fn take_event(&mut self, arrived: Arrived) -> Option<Event<'_>> {
        match arrived {
            Arrived::InRing(found) => {
                let (_, receiver) = self.stream.halves();
                let message_type = found.header().message_type;
                Some(Event { message_type, source: Source::Ring(receiver.hand_out(found)) })
            }
            Arrived::Stored | Arrived::Streamed => self.state.events.pop().map(Event::queued),
        }
    }
}

/// Events as an iterator: from [`Client::events`]. Ends with the connection; an error that is not
/// [`ErrorKind::PeerClosed`] comes before the end.
#[derive(Debug)]
pub struct Events<'a> {
    client: &'a mut Client,
    ended: bool,
}

impl Iterator for Events<'_> {
    type Item = Result<(u16, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.client.next_event(None) {
            Ok(event) => event.map(|event| Ok((event.message_type(), event.to_vec()))),
            Err(error) => {
                self.ended = true;
                (error.kind() != ErrorKind::PeerClosed).then_some(Err(error))
            }
        }
    }
}
