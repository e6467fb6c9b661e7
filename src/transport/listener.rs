//! [`Listener`]: the server's end of a path.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::accepting::{Pending, open_spare};
use super::admission::{Admit, Stop, admit_all};
use super::bind::BoundPath;
use super::connection::poll_readable;
use super::credentials::PeerPolicy;
use super::handshake::RingLimits;
use super::options::{DEFAULT_RING_BYTES, Options};
use super::stream::Stream;
use crate::error::{Error, ErrorKind};
use crate::ring::{MAX_RING_BYTES, MIN_RING_BYTES};
use crate::sync::Counter;
use crate::wait::{Deadline, WaitStrategy};

/// Clients get rings of at most this size unless the server allows more.
const DEFAULT_MAX_RING_BYTES: u32 = 64 << 20;
const DEFAULT_MAX_CONNECTIONS: usize = 1000;
pub(super) const MAX_BACKLOG: i32 = 4096;

/// How a server listens. Made by [`Listener::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ListenerBuilder {
    path: std::path::PathBuf,
    mode: u32,
    max_connections: usize,
    rings: RingLimits,
    policy: PeerPolicy,
    options: Options,
}

impl ListenerBuilder {
    /// Permissions of the socket file; 0600 by default. Wider ones also need [`ListenerBuilder::accept_from`].
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// How many connections may live at once (1000 by default); a further client is told so.
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// Size of each ring where the client asks for none: a power of two from 4 KiB to 1 GiB, 64 KiB by default.
    pub fn ring_bytes(mut self, ring_bytes: u32) -> Self {
        self.rings.default_bytes = ring_bytes;
        self.rings.max_bytes = self.rings.max_bytes.max(ring_bytes);
        self
    }

    /// The largest ring that a client is given, whatever it asks for; 64 MiB by default.
    ///
    /// Memory is used as traffic touches it, not by a ring's size; but a client can touch all of it.
    pub fn max_ring_bytes(mut self, max_ring_bytes: u32) -> Self {
        self.rings.max_bytes = max_ring_bytes;
        self
    }

    /// The longest message that is put together whole, in bytes; 10 MiB by default.
    pub fn max_message_bytes(mut self, max_message_bytes: usize) -> Self {
        self.options.max_message_bytes = max_message_bytes;
        self
    }

    /// Which processes may connect; those of the same user by default.
    pub fn accept_from(mut self, policy: PeerPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// What accepted streams do while they wait.
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.options.strategy = strategy;
        self
    }

    /// Allocates all pages of a connection's rings when it is made: a shortage refuses the client, and never strikes later.
    pub fn reserve(mut self, reserve: bool) -> Self {
        self.options.segment.reserve = reserve;
        self
    }

    /// Leaves the rings out of this process's core dumps.
    pub fn exclude_from_core_dumps(mut self, exclude: bool) -> Self {
        self.options.segment.exclude_from_core_dumps = exclude;
        self
    }

    /// Binds the path and listens.
    ///
    /// # Errors
    /// [`ErrorKind::PathTooLong`], [`ErrorKind::AddressInUse`] for a living server's path, [`ErrorKind::NotASocket`],
    /// [`ErrorKind::PermissionDenied`] (also on a read-only file system), [`ErrorKind::NotFound`] for a missing directory,
    /// [`ErrorKind::ResourceExhausted`] without descriptors, [`ErrorKind::InvalidInput`] for ring sizes out of range.
    pub fn bind(self) -> Result<Listener, Error> {
        for bytes in [self.rings.default_bytes, self.rings.max_bytes] {
            if !bytes.is_power_of_two() || !(MIN_RING_BYTES..=MAX_RING_BYTES).contains(&bytes) {
                let message = format!(
                    "ring of {bytes} bytes, expected a power of two from {MIN_RING_BYTES} to {MAX_RING_BYTES}"
                );
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        let backlog = i32::try_from(self.max_connections).unwrap_or(i32::MAX).clamp(16, MAX_BACKLOG);
        let (bound, socket) = BoundPath::bind(&self.path, self.mode, backlog)?;
        socket.set_nonblocking(true).map_err(|error| Error::system("fcntl", error))?;
        let watched = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .and_then(|epoll| watch(&epoll, &socket).map(|()| epoll))
            .map_err(|errno| Error::system("epoll", errno))?;
        Ok(Listener {
            bound,
            socket,
            watch: watched,
            spare: open_spare(),
            stop: Stop::default(),
            pending: Vec::new(),
            live: Arc::new(Counter::new(0)),
            max_connections: self.max_connections,
            rings: self.rings,
            policy: self.policy,
            options: self.options,
        })
    }
}

pub(super) fn watch(epoll: &Epoll, socket: impl AsFd) -> nix::Result<()> {
    epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))
}

/// Accepts connections at a path.
///
/// The path is a Unix socket, private to this user unless asked otherwise. A dead server's socket is replaced, a living
/// one's is refused. Dropping the listener removes the path; its streams live on.
///
/// Of several that bind one path at once, one wins and the others get [`ErrorKind::AddressInUse`]. A server whose socket
/// file is deleted keeps its connections and, by the lock beside the socket (`<path>.lock`), its path: nobody new comes in
/// until it is dropped, or dies. Who deletes both files lets a second server in; neither touches the other's. A child
/// forked without exec keeps the path in use after its parent's death, and gives it back when it ends.
///
/// Out of descriptors or memory, a listener refuses clients with [`ErrorKind::ResourceExhausted`] and serves on.
///
/// ```
/// use ringwire::{Header, Kind, Listener, Stream};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("echo.sock");
/// let mut listener = Listener::bind(&path)?;
/// let server = std::thread::spawn(move || -> Result<(), ringwire::Error> {
///     let mut stream = listener.accept()?;
///     let request = stream.receive()?;
///     let (header, payload) = (request.header(), request.payload().to_vec());
///     drop(request);
///     stream.send(Header::new(Kind::Response, header.message_type, header.correlation), &payload)
/// });
/// let mut client = Stream::connect(&path)?;
/// client.send(Header::new(Kind::Request, 1, 7), b"hello")?;
/// assert_eq!(client.receive()?.payload().to_vec(), b"hello");
/// server.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    bound: BoundPath,
    pub(super) socket: UnixListener,
    /// Readable when somebody has come, or a pending client has said something.
    pub(super) watch: Epoll,
    pub(super) spare: Option<File>,
    pub(super) stop: Stop,
    pub(super) pending: Vec<Pending>,
    pub(super) live: Arc<Counter>,
    pub(super) max_connections: usize,
    pub(super) rings: RingLimits,
    pub(super) policy: PeerPolicy,
    pub(super) options: Options,
}

impl Listener {
    /// Listens at `path` with the defaults.
    ///
    /// # Errors
    /// As [`ListenerBuilder::bind`].
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).bind()
    }

    /// Chooses how to listen at `path`.
    pub fn builder(path: impl AsRef<Path>) -> ListenerBuilder {
        ListenerBuilder {
            path: path.as_ref().to_owned(),
            mode: 0o600,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            rings: RingLimits { default_bytes: DEFAULT_RING_BYTES, max_bytes: DEFAULT_MAX_RING_BYTES },
            policy: PeerPolicy::default(),
            options: Options::default(),
        }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.bound.path()
    }

    /// Connections accepted here that are alive.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.live.get() as usize
    }

    /// Waits for a client and its handshake.
    ///
    /// Clients that are refused, or that stall in the handshake (they are dropped after 1 s), hold up nobody.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the listening socket itself fails.
    pub fn accept(&mut self) -> Result<Stream, Error> {
        self.accept_until(Deadline::NEVER, &mut admit_all)
    }

    /// Like [`Listener::accept`], for at most `timeout`.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]; else as [`Listener::accept`].
    pub fn accept_timeout(&mut self, timeout: Duration) -> Result<Stream, Error> {
        self.accept_until(Deadline::after(timeout), &mut admit_all)
    }

    /// An iterator that accepts without end.
    pub fn incoming(&mut self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    pub(super) fn accept_until(
        &mut self,
        deadline: Deadline,
        admit: &mut Admit<'_>,
    ) -> Result<Stream, Error> {
        loop {
            self.stop.check()?;
            self.accept_waiting_clients()?;
            if let Some(stream) = self.advance_handshakes(admit) {
                return Ok(stream);
            }
            if deadline.has_passed() {
                return Err(ErrorKind::TimedOut.into());
            }
            let wake = self.pending.iter().map(|pending| pending.deadline).fold(deadline, Deadline::min);
            self.is_anybody_there(wake)?;
        }
    }

    /// Whether somebody has come, or a client that is waited for has said something, until `deadline`.
    pub(super) fn is_anybody_there(&self, deadline: Deadline) -> Result<bool, Error> {
        let mut polled = [PollFd::new(self.watch.0.as_fd(), PollFlags::POLLIN)];
        poll_readable(&mut polled, deadline).map_err(|error| Error::system("poll", error))
    }
}

/// Accepts without end: see [`Listener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a mut Listener,
}

impl Iterator for Incoming<'_> {
    type Item = Result<Stream, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept())
    }
}
