//! [`Connector`]: the client's way in.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, connect, send, setsockopt, sockopt::SendTimeout};
use nix::sys::time::{TimeVal, TimeValLike};
use zerocopy::IntoBytes;

use super::bind::{address, stream_socket};
use super::connection::{Connection, poll_readable};
use super::credentials::{Credentials, PeerPolicy};
use super::handshake::{Incoming, settle};
use super::options::Options;
use super::stream::Stream;
use crate::error::{Error, ErrorKind};
use crate::ring::MAX_RING_BYTES;
use crate::shm::Direction;
use crate::sync::failpoint::{Failpoint, failpoint};
use crate::wait::{Deadline, WaitStrategy};
use crate::wire::Hello;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a client connects. Made by [`Stream::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Connector {
    path: PathBuf,
    timeout: Duration,
    to_server_bytes: u32,
    to_client_bytes: u32,
    policy: PeerPolicy,
    latency_core: Option<u32>,
    options: Options,
}

impl Connector {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            timeout: DEFAULT_TIMEOUT,
            to_server_bytes: 0,
            to_client_bytes: 0,
            policy: PeerPolicy::SameUserOrRoot,
            latency_core: None,
            options: Options::default(),
        }
    }

    /// Where it connects to.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How long connecting may take in all; 5 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Wishes for the size of both rings in bytes. The server rounds up to a power of two, and has a limit of its own.
    pub fn ring_bytes(self, ring_bytes: u32) -> Self {
        self.ring_bytes_each(ring_bytes, ring_bytes)
    }

    /// Wishes for the size of each ring in bytes; 0 leaves it to the server.
    pub fn ring_bytes_each(mut self, to_server_bytes: u32, to_client_bytes: u32) -> Self {
        self.to_server_bytes = to_server_bytes;
        self.to_client_bytes = to_client_bytes;
        self
    }

    /// The longest message that is put together whole, in bytes; 10 MiB by default.
    pub fn max_message_bytes(mut self, max_message_bytes: usize) -> Self {
        self.options.max_message_bytes = max_message_bytes;
        self
    }

    /// Which servers to talk to; those of the same user and of root by default.
    pub fn connect_to(mut self, policy: PeerPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// What the stream does while it waits.
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.options.strategy = strategy;
        self
    }

    /// Asks the server to give this connection the latency class: a thread with a real-time priority on `core` (counted from
    /// 0), where the client's own thread runs too. [`Stream::negotiated`] says whether it does; the client's thread is the
    /// caller's to move. The stream does not spin then: it waits by [`WaitStrategy::ParkAtOnce`], unless
    /// [`wait_strategy`](Self::wait_strategy) follows.
    pub fn latency_class(mut self, core: u32) -> Self {
        self.latency_core = Some(core);
        self.options.strategy = WaitStrategy::ParkAtOnce;
        self
    }

    /// Leaves the rings out of this process's core dumps.
    pub fn exclude_from_core_dumps(mut self, exclude: bool) -> Self {
        self.options.segment.exclude_from_core_dumps = exclude;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] and [`ErrorKind::ConnectionRefused`] where no server listens, [`ErrorKind::TimedOut`],
    /// [`ErrorKind::PathTooLong`], [`ErrorKind::PermissionDenied`] by the file system or by either side's policy,
    /// [`ErrorKind::TooManyConnections`], [`ErrorKind::VersionMismatch`], [`ErrorKind::ResourceExhausted`],
    /// [`ErrorKind::PeerClosed`] by a server that ends meanwhile, [`ErrorKind::Handshake`]. A refusal carries the server's own reason.
    pub fn connect(self) -> Result<Stream, Error> {
        for bytes in [self.to_server_bytes, self.to_client_bytes] {
            if bytes > MAX_RING_BYTES {
                let message = format!("ring of {bytes} bytes, expected at most {MAX_RING_BYTES}");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        let deadline = Deadline::after(self.timeout);
        let socket = self.reach_server(deadline)?;
        failpoint(Failpoint::ConnectReached);
        let server = Credentials::of_peer(&socket).map_err(|errno| Error::system("SO_PEERCRED", errno))?;
        if !self.policy.allows(&server) {
            let message =
                format!("{} is served by {server}, which this client does not trust", self.path.display());
            return Err(Error::new(ErrorKind::PermissionDenied, message));
        }
        failpoint(Failpoint::ConnectTrusted);
        let mut hello =
            Hello::new(self.to_server_bytes, self.to_client_bytes, self.options.max_message_bytes as u64);
        if let Some(core) = self.latency_core {
            hello = hello.with_latency_core(core);
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // A server that has refused already is still to be heard.
        if let Err(errno) = send(socket.as_raw_fd(), hello.as_bytes(), flags)
            && errno != Errno::EPIPE
        {
            return Err(Error::system(format!("greeting {}", self.path.display()), errno));
        }
        failpoint(Failpoint::HelloSent);
        let (mut incoming, mut segment) = (Incoming::default(), None);
        let answer = loop {
            if let Some(answer) = incoming.read_answer(socket.as_fd(), &mut segment)? {
                break answer;
            }
            failpoint(Failpoint::AnswerAwaited);
            let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            if !poll_readable(&mut polled, deadline).map_err(|error| Error::system("poll", error))? {
                return Err(self.timed_out("did not answer"));
            }
        };
        failpoint(Failpoint::AnswerRead);
        let settled = settle(&answer, &hello, segment, server, self.options.segment)?;
        failpoint(Failpoint::AnswerSettled);
        let connection = Connection::new(socket, settled.segment, server, settled.negotiated, None);
        Ok(Stream::assemble(connection, Direction::ToServer, self.options))
    }

    /// A connected socket. Waits while the server's backlog is full.
    fn reach_server(&self, deadline: Deadline) -> Result<OwnedFd, Error> {
        let address = address(&self.path)?;
        let doing = || format!("connecting to {}", self.path.display());
        let socket = stream_socket().map_err(|errno| Error::system(doing(), errno))?;
        loop {
            // The kernel rounds up to its tick: frequent signals would end every wait before that does.
            let is_last = deadline.has_passed();
            // Zero would be for ever.
            let left_us =
                deadline.left().map_or(i64::MAX, |left| i64::try_from(left.as_micros()).unwrap_or(i64::MAX));
            setsockopt(&socket, SendTimeout, &TimeVal::microseconds(left_us.clamp(1, 1 << 50)))
                .map_err(|errno| Error::system(doing(), errno))?;
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => return Ok(socket),
                Err(Errno::EINTR) if !is_last => {}
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    return Err(self.timed_out("has no place in its backlog"));
                }
                Err(Errno::ENOENT) => {
                    let message = format!("no socket at {} (is the server running?)", self.path.display());
                    return Err(Error::with_source(ErrorKind::NotFound, message, Errno::ENOENT));
                }
                Err(Errno::ECONNREFUSED) => {
                    let message = format!("nobody listens at {} (its server is gone)", self.path.display());
                    return Err(Error::with_source(
                        ErrorKind::ConnectionRefused,
                        message,
                        Errno::ECONNREFUSED,
                    ));
                }
                Err(errno) => return Err(Error::system(doing(), errno)),
            }
        }
    }

    fn timed_out(&self, what: &str) -> Error {
        let message = format!("the server at {} {what} within {:?}", self.path.display(), self.timeout);
        Error::new(ErrorKind::TimedOut, message)
    }
}
