//! [`ServerBuilder`]: everything that can be chosen of a server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Failure;
use super::built_in;
use super::context::Request;
use super::core::{Core, Settings};
use super::errors::{DefaultErrorPolicy, ErrorPolicy, Errors};
use super::handover::Boxes;
use super::items::{Items, StreamingRequest};
use super::latency::LatencyCore;
use super::middleware::Middleware;
use super::peer::{EventSettings, QueueSettings, WhenFull};
use super::placement::Placement;
use super::registry::{Handler, Registry};
use super::reply::{Replied, Reply};
use super::serve::Server;
use super::shed::SharedToken;
use super::stats::Totals;
use super::threads::{Threads, ThreadsConfig};
use crate::buffer::{Pool, PoolConfig};
use crate::error::{Error, ErrorKind};
use crate::transport::{
    Counter, Credentials, DEFAULT_MAX_MESSAGE_BYTES, Listener, ListenerBuilder, PeerPolicy, WaitStrategy,
    raise_fd_limit, release_freed_memory,
};
use crate::wire::call::AUTHENTICATE;

/// Less than this does not hold a handler.
const MIN_STACK_BYTES: usize = 64 << 10;
const DEFAULT_MAX_CONNECTIONS: usize = 1000;
const DEFAULT_EVENTS_CAPACITY: usize = 64;
const DEFAULT_EVENT_PATIENCE: Duration = Duration::from_secs(1);
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Judges a client by who it is.
pub(super) type AcceptIf = dyn Fn(&Credentials) -> bool + Send + Sync;

/// How a server serves. Made by [`Server::builder`].
#[must_use]
pub struct ServerBuilder {
    listener: ListenerBuilder,
    settings: Settings,
    threads: ThreadsConfig,
    pool: PoolConfig,
    handlers: Vec<(u16, Handler)>,
    middleware: Vec<Box<dyn Middleware>>,
    policy: Box<dyn ErrorPolicy>,
    accept_if: Option<Box<AcceptIf>>,
    token: Option<Arc<SharedToken>>,
    raise_fd_limit: bool,
}

impl ServerBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            listener: Listener::builder(path),
            settings: Settings {
                path: PathBuf::from(path),
                max_connections: DEFAULT_MAX_CONNECTIONS,
                max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
                idle_timeout: None,
                send_timeout: None,
                request_timeout: DEFAULT_REQUEST_TIMEOUT,
                drain_timeout: DEFAULT_DRAIN_TIMEOUT,
                events: EventSettings {
                    capacity: DEFAULT_EVENTS_CAPACITY,
                    when_full: WhenFull::Wait(DEFAULT_EVENT_PATIENCE),
                },
                placement: Placement::Free,
                time_slice: None,
                latency_cores: Vec::new(),
                latency_busy_poll: Duration::ZERO,
            },
            threads: ThreadsConfig { when_shrunk: Some(when_shrunk), ..ThreadsConfig::default() },
            pool: PoolConfig::default(),
            handlers: Vec::new(),
            middleware: Vec::new(),
            policy: Box::new(DefaultErrorPolicy),
            accept_if: None,
            token: None,
            raise_fd_limit: false,
        }
    }

    /// Answers requests of `message_type` (below 0xFFF0) with `handler`.
    ///
    /// It runs on the threads of all connections, and blocks only the one that it runs on. A type has one handler: a second
    /// one is an error of [`ServerBuilder::build`].
    pub fn handle<F>(mut self, message_type: u16, handler: F) -> Self
    where
        F: Fn(&Request<'_>, Reply<'_>) -> Result<Replied, Failure> + Send + Sync + 'static,
    {
        self.handlers.push((message_type, Handler::Plain(Arc::new(handler))));
        self
    }

    /// Answers requests of `message_type` with the items that `handler` sends.
    pub fn handle_streaming<F>(mut self, message_type: u16, handler: F) -> Self
    where
        F: Fn(StreamingRequest<'_>, &mut Items<'_>) -> Result<(), Failure> + Send + Sync + 'static,
    {
        self.handlers.push((message_type, Handler::Streaming(Arc::new(handler))));
        self
    }

    /// Adds a middleware, inside of those before.
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Box::new(middleware));
        self
    }

    /// Refuses everything of clients that have not sent this token: see [`SharedToken`]. It is asked before any middleware.
    /// Keep an [`Arc`] of it to read its counters.
    pub fn require_token(mut self, token: impl Into<Arc<SharedToken>>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Who decides what errors mean; [`DefaultErrorPolicy`] by default.
    pub fn error_policy(mut self, policy: impl ErrorPolicy) -> Self {
        self.policy = Box::new(policy);
        self
    }

    /// How many connections may live at once (1000 by default); a further client is told so.
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.settings.max_connections = max_connections;
        self.listener = self.listener.max_connections(max_connections);
        self
    }

    /// Size of each ring where the client asks for none: a power of two from 4 KiB to 1 GiB, 64 KiB by default.
    pub fn ring_bytes(mut self, ring_bytes: u32) -> Self {
        self.listener = self.listener.ring_bytes(ring_bytes);
        self
    }

    /// The largest ring that a client is given; 64 MiB by default.
    pub fn max_ring_bytes(mut self, max_ring_bytes: u32) -> Self {
        self.listener = self.listener.max_ring_bytes(max_ring_bytes);
        self
    }

    /// The longest request that clients may send to be put together whole, in bytes; 10 MiB by default. What the largest
    /// buffer of the pool (1 MiB) cannot hold needs a streaming handler, for which there is no limit.
    pub fn max_message_bytes(mut self, max_message_bytes: usize) -> Self {
        self.settings.max_message_bytes = max_message_bytes;
        self.listener = self.listener.max_message_bytes(max_message_bytes);
        self
    }

    /// The buffers in which requests in fragments are put together.
    pub fn pool(mut self, pool: PoolConfig) -> Self {
        self.pool = pool;
        self
    }

    /// Stack of each connection's thread in bytes: 256 KiB by default, at least 64 KiB. Only the pages that are touched
    /// count as memory.
    pub fn stack_bytes(mut self, stack_bytes: usize) -> Self {
        self.threads.stack_bytes = stack_bytes;
        self
    }

    /// Threads that wait for the next connection instead of ending (64 by default), each for 10 s.
    pub fn idle_threads(mut self, idle_threads: usize) -> Self {
        self.threads.max_idle = idle_threads;
        self
    }

    /// Closes connections that ask nothing for this long (and up to twice that); never by default.
    pub fn idle_timeout(mut self, idle_timeout: Option<Duration>) -> Self {
        self.settings.idle_timeout = idle_timeout;
        self
    }

    /// How long an answer waits for room in the ring of a client that takes nothing in; then its connection is closed. As
    /// long as the client lives by default: one that is stopped is not dead. The items of a
    /// [`DeferredReply`](super::DeferredReply) also wait no longer than this for their turn, 30 s by default or with `None`.
    pub fn send_timeout(mut self, send_timeout: Option<Duration>) -> Self {
        self.settings.send_timeout = send_timeout;
        self
    }

    /// How long a request in fragments may take from its first fragment to its last where it is put together for a plain
    /// handler, or until its own deadline if that is earlier; 10 s by default. Then it is answered with `deadline exceeded`,
    /// its buffer is given back, and the rest is skipped when it comes. Streaming handlers read from the ring, and wait for
    /// each part as long as the client lives, or until the request's deadline if it has one.
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.settings.request_timeout = request_timeout;
        self
    }

    /// How long [`ServerHandle::stop`](super::ServerHandle::stop) and an error that stops the server leave to what is in flight; 10 s by default.
    pub fn drain_timeout(mut self, drain_timeout: Duration) -> Self {
        self.settings.drain_timeout = drain_timeout;
        self
    }

    /// Events of other threads that may wait for a connection (64 by default), and what happens to further ones (the sender
    /// waits for 1 s by default).
    pub fn events(mut self, capacity: usize, when_full: WhenFull) -> Self {
        self.settings.events = EventSettings { capacity, when_full };
        self
    }

    /// Permissions of the socket file; 0600 by default. Wider ones also need [`ServerBuilder::accept_from`].
    pub fn mode(mut self, mode: u32) -> Self {
        self.listener = self.listener.mode(mode);
        self
    }

    /// Which processes may connect, by user and group; those of the same user by default.
    pub fn accept_from(mut self, policy: PeerPolicy) -> Self {
        self.listener = self.listener.accept_from(policy);
        self
    }

    /// A further condition on clients, asked on the accepting thread.
    pub fn accept_if(mut self, accept: impl Fn(&Credentials) -> bool + Send + Sync + 'static) -> Self {
        self.accept_if = Some(Box::new(accept));
        self
    }

    /// What connections' threads do while they wait.
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.listener = self.listener.wait_strategy(strategy);
        self
    }

    /// Where connections' threads run.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.settings.placement = placement;
        self
    }

    /// How long a connection's thread runs at a time where others want its core (Linux 6.12, 0.1 to 100 ms; older kernels ignore
    /// it). `None`, the default: as the kernel does, 1.4 to 2.8 ms. The threads' share of the cores stays the same.
    ///
    /// Who has shorter turns than others gets them sooner: for handlers that are short, beside threads that compute for
    /// long. Leave it where the others are the server's own clients: what lets its threads in takes their turns from those
    /// (1,000 connections, 16 requests under way on each, on two cores: 15 % fewer answers a second with 0.7 ms, 40 % fewer
    /// with 3 or 10).
    pub fn time_slice(mut self, time_slice: Option<Duration>) -> Self {
        self.settings.time_slice = time_slice;
        self
    }

    /// Lets clients that ask for it share `core` (counted from 0) with their connection's thread, which gets a real-time
    /// priority where the process may give it: the latency class. Once for each core that is offered.
    ///
    /// With that priority it sleeps up to 100 ms at a time, where others look around every 5 to 10 ms: a short timer costs, on
    /// a virtual machine, as much time as an answer takes. So it may see the death of its client, or an event that is to be
    /// sent, that much later.
    pub fn latency_class(mut self, core: u32) -> Self {
        self.settings.latency_cores.push(LatencyCore::new(core));
        self
    }

    /// How long a thread of the [latency class](Self::latency_class) keeps its core behind each request, polling for the next
    /// one; not at all by default.
    ///
    /// Nobody has to be woken then, and what an answer needs is still in the caches. The price is the core: while such a
    /// connection is used, and for `window` behind, other threads without a real-time priority get about 8 % of it, in
    /// pieces of up to 5 ms, mostly right behind an answer. (Less, and the kernel would take 50 ms at a stretch for them.)
    /// Choose a `window` longer than the usual time between two requests, 100 ms, say. On a machine of one core nothing is
    /// kept; of several connections on one core, one keeps it at a time. Without real-time priority there is no polling.
    ///
    /// A client that knows when it will call next can do without, or have both: see
    /// [`rehearse_until`](crate::client::rehearse_until). `ringwire bench latency` measures it: `--busy-poll-ms 0` is
    /// without, `--cold` without rehearsals.
    ///
    /// ```no_run
    /// # use ringwire::{Error, Server};
    /// # use std::time::Duration;
    /// let server = Server::builder("/run/user/1000/engine.sock")
    ///     .latency_class(0)
    ///     .latency_busy_poll(Duration::from_millis(100))
    ///     .build()?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn latency_busy_poll(mut self, window: Duration) -> Self {
        self.settings.latency_busy_poll = window;
        self
    }

    /// Lifts the process's soft limit of open descriptors to its hard one when the server is built: see
    /// [`raise_fd_limit`](crate::transport::raise_fd_limit).
    pub fn raise_fd_limit(mut self, raise: bool) -> Self {
        self.raise_fd_limit = raise;
        self
    }

    /// Allocates all pages of a connection's rings when it is made.
    pub fn reserve(mut self, reserve: bool) -> Self {
        self.listener = self.listener.reserve(reserve);
        self
    }

    /// Leaves the rings out of this process's core dumps.
    pub fn exclude_from_core_dumps(mut self, exclude: bool) -> Self {
        self.listener = self.listener.exclude_from_core_dumps(exclude);
        self
    }

    /// Binds the path. Clients that connect from now on wait for [`Server::serve`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a message type with two handlers or one of the library's own, sizes out of range and
    /// an impossible placement; else as [`ListenerBuilder::bind`].
    pub fn build(self) -> Result<Server, Error> {
        self.check()?;
        if self.raise_fd_limit {
            raise_fd_limit().map_err(|error| Error::system("raising the limit of descriptors", error))?;
        }
        let pool = Pool::new(self.pool)?;
        let registry = Registry::new();
        for (message_type, handler) in self.handlers {
            registry.add(message_type, handler)?;
        }
        let mut middleware = self.middleware;
        if let Some(token) = self.token.clone() {
            middleware.insert(0, Box::new(Arc::clone(&token)));
            let answer =
                Arc::new(move |request: &Request<'_>, reply: Reply<'_>| token.answer(request, reply));
            registry.add_any(AUTHENTICATE, Handler::Plain(answer))?;
        }
        let mut listener = self.listener.bind()?;
        let core = Arc::new(Core {
            queues: Arc::new(QueueSettings::new(self.settings.events, self.settings.send_timeout)),
            settings: self.settings,
            registry,
            middleware,
            token: self.token,
            errors: Errors::new(self.policy),
            pool,
            totals: Totals::default(),
            started: Instant::now(),
            stopper: listener.stopper()?,
            next_id: Counter::new(1),
            state: Mutex::default(),
            changed: Condvar::new(),
            boxes: Boxes::default(),
        });
        built_in::register(&core)?;
        Ok(Server::new(core, listener, Threads::new(self.threads), self.accept_if))
    }

    fn check(&self) -> Result<(), Error> {
        self.settings.placement.check()?;
        if self.threads.stack_bytes < MIN_STACK_BYTES {
            let message =
                format!("stacks of {} bytes, expected at least {MIN_STACK_BYTES}", self.threads.stack_bytes);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if self.settings.events.capacity == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "room for no event, expected at least 1"));
        }
        Ok(())
    }
}

/// Many threads have ended: what the allocator holds for them goes back to the system.
fn when_shrunk() {
    release_freed_memory();
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("settings", &self.settings)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}
