//! What the two halves of a connection share: the lifeline, the segment, and the kernel's part in waiting.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use nix::sys::time::TimeSpec;

use super::credentials::Credentials;
use super::limits::last_descriptor;
use super::options::Negotiated;
use super::rousing::Rousing;
use crate::error::{Error, ErrorKind};
use crate::ring::{RingError, Violation};
use crate::shm::{Direction, Segment};
use crate::sync::{Counter, Heard, Kernel, NativeWord, Signal};
use crate::sys;
use crate::wait::{Deadline, WaitError};

/// Takes in this many bytes of the lifeline at a time; one is the rule.
const BELL_BYTES: usize = 64;
/// And at most this often in a row, so that a peer that rings without end holds up nothing.
const BELL_READS: usize = 8;
/// How long a reader that nothing can interrupt listens at a time.
const SLICE_WITHOUT_BELL_NS: u64 = 100_000_000;
/// A timer wakes within a fraction of this where a core is free.
const OVERSLEPT_NS: u64 = 1_000_000;

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub(super) struct LiveGuard(pub(super) Arc<Counter>);

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.0.subtract(1);
    }
}

/// The shared part of a connection's two halves.
#[derive(Debug)]
pub(super) struct Connection {
    lifeline: OwnedFd,
    segment: Arc<Segment>,
    peer: Credentials,
    negotiated: Negotiated,
    /// Protocol violations seen; more than none means that this side has ended the connection.
    violations: Counter,
    /// More than none: this side has ended the direction, whoever of its threads still waits there.
    to_server_cut: Counter,
    to_client_cut: Counter,
    rousing: Rousing,
    _live: Option<LiveGuard>,
}

impl Connection {
    pub(super) fn new(
        lifeline: OwnedFd,
        segment: Arc<Segment>,
        peer: Credentials,
        negotiated: Negotiated,
        live: Option<LiveGuard>,
    ) -> Self {
        Self {
            lifeline,
            segment,
            peer,
            negotiated,
            violations: Counter::new(0),
            to_server_cut: Counter::new(0),
            to_client_cut: Counter::new(0),
            rousing: Rousing::default(),
            _live: live,
        }
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(super) fn lifeline(&self) -> BorrowedFd<'_> {
        self.lifeline.as_fd()
    }

    pub(super) fn negotiated(&self) -> Negotiated {
        self.negotiated
    }

    pub(super) fn peer(&self) -> Credentials {
        self.peer
    }

    /// Whether this is the process that made the connection: a forked child has a copy of the value, but neither the rings
    /// nor a say in when the connection ends.
    pub(super) fn is_ours(&self) -> bool {
        self.segment.is_mapped_here()
    }

    /// Hangs up: the peer sees it from every wait.
    pub(super) fn hang_up(&self) {
        // Fails only when it has been hung up before.
        let _ = shutdown(self.lifeline.as_raw_fd(), Shutdown::Both);
    }

    fn cut(&self, direction: Direction) -> &Counter {
        match direction {
            Direction::ToServer => &self.to_server_cut,
            Direction::ToClient => &self.to_client_cut,
        }
    }

    /// The public error for what a ring said.
    #[cold]
    pub(super) fn error(&self, error: RingError) -> Error {
        let peer = self.peer;
        match error {
            RingError::Corrupt(violation) => self.poison(&violation),
            RingError::Closed | RingError::Wait(WaitError::PeerDied) if self.violations.get() > 0 => {
                Error::new(
                    ErrorKind::CorruptPeer,
                    format!("connection to {peer} ended: it had broken the protocol"),
                )
            }
            RingError::Full => ErrorKind::Full.into(),
            RingError::Closed => Error::new(ErrorKind::PeerClosed, format!("{peer} closed the connection")),
            RingError::TooLarge { .. } => Error::new(ErrorKind::MessageTooLarge, error.to_string()),
            RingError::Wait(WaitError::TimedOut) => ErrorKind::TimedOut.into(),
            RingError::Wait(WaitError::PeerDied) => {
                Error::new(ErrorKind::PeerDied, format!("{peer} died without closing the connection"))
            }
        }
    }

    /// The peer broke the protocol: this connection is over, and nothing else is touched.
    fn poison(&self, violation: &Violation) -> Error {
        let peer = self.peer;
        if self.violations.add(1) == 0 {
            log::warn!("{peer} broke the protocol, closing its connection: {violation}");
            self.hang_up();
        }
        Error::with_source(ErrorKind::CorruptPeer, format!("{peer} broke the protocol"), violation.clone())
    }

    fn sleep_on_lifeline(&self, until_ns: u64) -> Heard {
        match self.poll_lifeline(&mut [self.lifeline_to_read()], until_ns) {
            Some(0) => Heard::Nothing,
            Some(_) => self.take_in_bell(),
            None => Heard::Bell,
        }
    }

    /// As [`Connection::sleep_on_lifeline`], and also until `interrupts` end it.
    fn sleep_interruptibly(&self, interrupts: &Interrupts, until_ns: u64) -> Heard {
        let Some(bell) = interrupts.bell() else {
            // Without a descriptor for it, interruptions are found at the end of slices.
            let slice_ns = Deadline::now_ns() + SLICE_WITHOUT_BELL_NS;
            return self.sleep_on_lifeline(slice_ns.min(until_ns));
        };
        let mut polled = [self.lifeline_to_read(), PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
        match self.poll_lifeline(&mut polled, until_ns) {
            Some(0) => Heard::Nothing,
            Some(_) => {
                if polled[1].any() == Some(true) {
                    // Not there if it has been taken in already.
                    let _ = bell.read();
                }
                if polled[0].any() == Some(true) { self.take_in_bell() } else { Heard::Bell }
            }
            None => Heard::Bell,
        }
    }

    fn lifeline_to_read(&self) -> PollFd<'_> {
        PollFd::new(self.lifeline.as_fd(), PollFlags::POLLIN)
    }

    /// How many of `polled` are ready; `None` if that cannot be said (out of memory): not worse than an early return.
    fn poll_lifeline(&self, polled: &mut [PollFd<'_>], until_ns: u64) -> Option<i32> {
        loop {
            let timeout = Deadline::at_ns(until_ns).left().map(TimeSpec::from);
            match ppoll(polled, timeout, None) {
                Err(Errno::EINTR) => {}
                ready => return ready.ok(),
            }
        }
    }

    fn take_in_bell(&self) -> Heard {
        let mut bytes = [0; BELL_BYTES];
        // Without a control buffer the kernel closes descriptors that come along.
        match recv(self.lifeline.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(Errno::ECONNRESET | Errno::ENOTCONN) => Heard::HungUp,
            Ok(_) | Err(_) => Heard::Bell,
        }
    }

    /// Takes in what is there, without waiting: to the end, where a hang-up would be found behind the bells. Who is told of
    /// readiness once (edge-triggered) is not told of it again.
    fn take_in_bells(&self) -> Heard {
        let mut heard = Heard::Nothing;
        for _ in 0..BELL_READS {
            let mut bytes = [0; BELL_BYTES];
            match recv(self.lifeline.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET | Errno::ENOTCONN) => return Heard::HungUp,
                Ok(_) => heard = Heard::Bell,
                Err(Errno::EINTR) => {}
                Err(_) => return heard,
            }
        }
        if self.is_hung_up() { Heard::HungUp } else { heard }
    }

    fn is_hung_up(&self) -> bool {
        // No event asked for: POLLHUP and POLLERR are always reported, and no byte is taken.
        let mut polled = [PollFd::new(self.lifeline.as_fd(), PollFlags::empty())];
        matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1..))
    }
}

/// How other threads of this process get a reader's attention.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    signal: Signal,
    /// Polled beside the lifeline; made when a reader first sleeps there, or is first woken there. `None`: no descriptor
    /// was left.
    bell: OnceLock<Option<EventFd>>,
}

impl Interrupts {
    pub(super) fn take(&self) -> bool {
        self.signal.take()
    }

    fn bell(&self) -> Option<&EventFd> {
        let make = || {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let _turn = last_descriptor();
            EventFd::from_value_and_flags(0, flags)
                .inspect_err(|errno| {
                    log::warn!("no eventfd for a connection, its events may take 100 ms: {errno}")
                })
                .ok()
        };
        self.bell.get_or_init(make).as_ref()
    }
}

/// The kernel's part in waiting for one ring of a connection.
#[derive(Clone, Debug)]
pub struct RingKernel {
    connection: Arc<Connection>,
    direction: Direction,
    interrupts: Option<Arc<Interrupts>>,
}

impl RingKernel {
    pub(super) fn new(connection: Arc<Connection>, direction: Direction) -> Self {
        Self { connection, direction, interrupts: None }
    }

    /// Lets other threads of this process interrupt the direction's reader from now on.
    pub(super) fn allow_interrupts(&mut self) {
        self.interrupts.get_or_insert_default();
    }

    /// Whether the reader has been interrupted since it last asked.
    #[inline]
    pub(super) fn take_interruption(&self) -> bool {
        self.interrupts.as_ref().is_some_and(|interrupts| interrupts.take())
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Ends the waits of this direction at their next look, whichever thread is in them.
    pub(super) fn cut_off(&self) {
        self.connection.cut(self.direction).raise_to(1);
    }

    /// As [`RingKernel::cut_off`], for a direction that this side reads: wakes the sleeper on the lifeline too.
    ///
    /// Nobody sleeps there again, so the peer's bells are not missed; the peer sees nothing of it.
    pub(super) fn cut_off_listening(&self) {
        self.cut_off();
        // Fails only where the peer is gone.
        let _ = shutdown(self.connection.lifeline.as_raw_fd(), Shutdown::Read);
    }

    /// As [`RingKernel::cut_off`], for the other direction of the connection.
    pub(super) fn cut_off_other(&self) {
        self.connection.cut(self.direction.opposite()).raise_to(1);
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.connection.cut(self.direction).get() > 0
    }
}

impl Kernel<NativeWord> for RingKernel {
    fn sleep(&self, word: &NativeWord, expected: u32, until_ns: u64) {
        sys::futex_wait(word.as_ptr(), expected, until_ns);
    }

    fn wake(&self, word: &NativeWord) {
        self.connection.rousing.note(Deadline::now_ns());
        sys::futex_wake(word.as_ptr());
    }

    fn overslept(&self, until_ns: u64) -> bool {
        Deadline::now_ns() > until_ns.saturating_add(OVERSLEPT_NS)
    }

    fn listen(&self, until_ns: u64) -> Heard {
        match &self.interrupts {
            None => self.connection.sleep_on_lifeline(until_ns),
            Some(interrupts) => self.connection.sleep_interruptibly(interrupts, until_ns),
        }
    }

    #[inline(always)]
    fn is_interrupted(&self) -> bool {
        match &self.interrupts {
            None => false,
            Some(interrupts) => interrupts.signal.is_raised(),
        }
    }

    fn interrupt(&self) {
        if let Some(interrupts) = &self.interrupts {
            interrupts.signal.raise();
            // Whatever the mark says, which is the peer's to overwrite: this one has to arrive.
            if self.is_cut_off() {
                self.end_listening();
            }
        }
    }

    fn prepare_listening(&self) {
        if let Some(interrupts) = &self.interrupts {
            let _ = interrupts.bell();
        }
    }

    fn end_listening(&self) {
        if let Some(bell) = self.interrupts.as_ref().and_then(|interrupts| interrupts.bell()) {
            // Full: it is readable for ever.
            let _ = bell.write(1);
        }
    }

    fn hear(&self) -> Heard {
        self.connection.take_in_bells()
    }

    #[inline(always)]
    fn take_rousing(&self) -> bool {
        self.connection.rousing.take()
    }

    fn ring_bell(&self) {
        self.connection.rousing.note(Deadline::now_ns());
        // EAGAIN: the socket is full of bells already. Any other failure is the peer's death, which waits report.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = send(self.connection.lifeline.as_raw_fd(), &[1], flags);
    }

    fn peer_is_gone(&self) -> bool {
        self.is_cut_off() || self.connection.is_hung_up()
    }

    fn discard(&self, from: u32, to: u32) {
        self.connection.segment.discard(self.direction, from, to);
    }
}

/// Waits until `descriptors` have something to read or the deadline comes; says whether they have.
pub(super) fn poll_readable(descriptors: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<bool> {
    loop {
        let timeout = deadline.left().map(TimeSpec::from);
        match ppoll(descriptors, timeout, None) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(count) => return Ok(count > 0),
        }
    }
}
