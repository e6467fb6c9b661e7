//! Connections in an event loop: `as_fd` and `arm`.

use std::os::fd::{AsFd, BorrowedFd};

use super::admission::admit_all;
use super::listener::{Listener, MAX_BACKLOG};
use super::receiver::{Found, Receiver};
use super::stream::Stream;
use crate::error::Error;
use crate::ring::Readiness;
use crate::wait::{Deadline, LOOK_EVERY_NS};

impl Receiver {
    /// Prepares the descriptor of `as_fd` for a wait in an event loop: see [`Stream::arm`].
    pub fn arm(&mut self) -> Readiness {
        if !self.stash.is_empty() {
            return Readiness::Ready;
        }
        // Event loops are woken by the descriptor alone.
        let _ = self.kernel().take_interruption();
        let readiness = self.consumer.arm();
        self.set_plain();
        readiness
    }

    #[cold]
    pub(super) fn disarm(&mut self) {
        self.consumer.disarm();
        self.set_plain();
    }

    /// Who does not wait, and finds nothing, publishes what it consumed, as those do who wait; and looks at the lifeline
    /// behind a wait in an event loop, else every 5 ms.
    #[cold]
    pub(super) fn find_nothing(&mut self) -> Result<Option<Found>, Error> {
        // A record may have come before what was heard.
        if self.has_looked()? { self.poll_start() } else { Ok(None) }
    }

    /// For who found nothing: publishes, and looks at the lifeline if it is time; says whether it did.
    #[cold]
    pub(super) fn has_looked(&mut self) -> Result<bool, Error> {
        self.consumer.publish_consumed();
        if !self.consumer.may_hear() {
            let now_ns = Deadline::now_ns();
            if now_ns - self.looked_ns < LOOK_EVERY_NS {
                return Ok(false);
            }
            self.looked_ns = now_ns;
        }
        match self.consumer.look_at_lifeline() {
            Ok(()) => Ok(true),
            Err(error) => Err(self.fail(error.into())),
        }
    }
}

/// For an event loop, which waits until it is readable (see [`Stream::arm`]). Whoever reads from it, or writes to it,
/// spoils the connection.
impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.consumer.kernel().connection().lifeline()
    }
}

/// For an event loop, which waits until it is readable (see [`Stream::arm`]). Whoever reads from it, or writes to it,
/// spoils the connection.
impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Stream {
    /// Prepares the descriptor of `as_fd` for a wait in an event loop (epoll, mio, tokio's `AsyncFd`), level- or
    /// edge-triggered.
    ///
    /// After [`Readiness::Armed`] it becomes readable when a message comes, or the end. Then take what is there
    /// ([`Stream::try_receive`] until it answers `None`, or any other receive), and arm again. After [`Readiness::Ready`]
    /// there is something to take already, or an error to be told: do that first, and arm again. To arm twice does no
    /// harm; to wait without having armed since the last receive may wait for ever.
    ///
    /// A message that travels in fragments is put together over as many turns as it takes by [`Stream::receive_into`] with a
    /// receive timeout of zero, whose [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) stands for `None`.
    ///
    /// The descriptor may also become readable for nothing, and with a peer that means harm, again and again: to take the
    /// answer `None`, arm and go on with the next connection serves all of them. A peer that sends without end has
    /// something to receive without end: take a number of messages at a time and come back, without another wait in
    /// between, to a connection that was not found empty.
    ///
    /// Arming publishes what has been consumed, as every wait does, and gives back, every 100 ms at the most, the memory
    /// that a burst of sent messages has left behind. Room for sending is not told by the descriptor.
    ///
    /// # Who writes what, and what a death leaves behind
    ///
    /// | step | word, and who writes it | its order is for | who dies behind it leaves |
    /// |---|---|---|---|
    /// | 1. this side takes in old bells | | a bell taken in stands for a record that step 4 finds | a hang-up, which the peer's waits report |
    /// | 2. this side publishes what it consumed, if anything | `head`, the reader | Release: our reads of what is released are over | the same |
    /// | 3. this side asks to be woken | `reader_parked`, the reader, then a fence | the word is there before the next look: whose commit that look misses sees it, and rings | a mark: the peer rings once in vain |
    /// | 4. this side looks once more | | | the same |
    /// | 5. the peer commits | the commit word at our position, the writer | Release: the record is there before it | a record that is received before the death is told: the hang-up makes the descriptor readable |
    /// | 6. the peer looks at `reader_parked` and rings | a byte on the socket, after a fence | the commit is there before the look | a record and its bell |
    /// | 7. this side receives | `reader_parked` = 0, the reader | none: a peer that still sees the mark rings once in vain | nothing |
    ///
    /// A peer that dies, wherever it was, makes the descriptor readable for good; [`Stream::try_receive`] delivers what it
    /// had committed, then says [`ErrorKind::PeerDied`](crate::ErrorKind::PeerDied). One that closes in good order says so
    /// in the ring: [`ErrorKind::PeerClosed`](crate::ErrorKind::PeerClosed).
    ///
    /// # Examples
    ///
    /// One thread serves two connections with epoll (from the crate `nix`):
    ///
    /// ```
    /// use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    /// use ringwire::{ErrorKind, Header, Kind, Readiness, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// /// Takes everything, then arms; an error is the connection's end.
    /// fn turn(stream: &mut Stream, mut take: impl FnMut(Header)) -> Result<(), ringwire::Error> {
    ///     loop {
    ///         while let Some(message) = stream.try_receive()? {
    ///             take(message.header());
    ///         }
    ///         if stream.arm() == Readiness::Armed {
    ///             return Ok(());
    ///         }
    ///     }
    /// }
    ///
    /// let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    /// let mut connections = Vec::new();
    /// for number in 0..2 {
    ///     let (mut client, server) = Stream::pair()?;
    ///     epoll.add(&server, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
    ///     connections.push(Some(server));
    ///     std::thread::spawn(move || client.send(Header::new(Kind::Event, 1, number), b"hello"));
    /// }
    /// // Nobody waits for what has not been armed: everyone's first turn comes before the first wait.
    /// let mut due = vec![0, 1];
    /// let (mut received, mut ended) = (Vec::new(), 0);
    /// while ended < 2 {
    ///     for number in due.drain(..) {
    ///         let Some(stream) = &mut connections[number] else { continue };
    ///         if let Err(error) = turn(stream, |header| received.push(header.correlation)) {
    ///             assert_eq!(error.kind(), ErrorKind::PeerClosed);
    ///             epoll.delete(stream)?;
    ///             connections[number] = None;
    ///             ended += 1;
    ///         }
    ///     }
    ///     if ended < 2 {
    ///         let mut events = [EpollEvent::empty(); 8];
    ///         let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
    ///         due.extend(events[..count].iter().map(|event| event.data() as usize));
    ///     }
    /// }
    /// received.sort_unstable();
    /// assert_eq!(received, [0, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn arm(&mut self) -> Readiness {
        let readiness = self.receiver.arm();
        if readiness == Readiness::Armed {
            self.sender.trim_between_turns();
        }
        readiness
    }
}

impl Listener {
    /// A client whose handshake is finished, if there is one already; for an event loop that waits until the descriptor of
    /// `as_fd` is readable.
    ///
    /// Call it until it answers `None`, level- or edge-triggered. Clients that stall in the handshake are dropped by the
    /// first call behind their time (1 s). Out of descriptors, it rests for 10 ms.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn try_accept(&mut self) -> Result<Option<Stream>, Error> {
        // As many as the backlog can hold: who comes later makes the descriptor readable anew.
        for _ in 0..MAX_BACKLOG {
            self.stop.check()?;
            self.accept_waiting_clients()?;
            if let Some(stream) = self.advance_handshakes(&mut admit_all) {
                return Ok(Some(stream));
            }
            if self.spare.is_none() || !self.is_anybody_there(Deadline::at_ns(0))? {
                break;
            }
        }
        Ok(None)
    }
}

/// For an event loop, which waits until it is readable: then [`Listener::try_accept`] has something to do.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.0.as_fd()
    }
}
