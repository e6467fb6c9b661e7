//! [`Server`]: accepts, until it is told to stop; then drains.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::builder::{AcceptIf, ServerBuilder};
use super::connection;
use super::context::ConnectionInfo;
use super::core::Core;
use super::errors::Action;
use super::handle::ServerHandle;
use super::metadata::Metadata;
use super::peer::Peer;
use super::threads::{Reserved, Threads};
use crate::error::{Error, ErrorKind};
use crate::transport::{Admission, Credentials, Listener, Status, Stream};

/// After an error in accepting that the policy lets pass.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// A server with handlers, bound to its path.
#[must_use = "a server answers nobody until `serve`"]
pub struct Server {
    core: Arc<Core>,
    listener: Listener,
    threads: Threads,
    accept_if: Option<Box<AcceptIf>>,
}

impl Server {
    /// Chooses how to serve at `path`.
    pub fn builder(path: impl AsRef<Path>) -> ServerBuilder {
        ServerBuilder::new(path.as_ref())
    }

    pub(super) fn new(
        core: Arc<Core>,
        listener: Listener,
        threads: Threads,
        accept_if: Option<Box<AcceptIf>>,
    ) -> Self {
        Self { core, listener, threads, accept_if }
    }

    /// For other threads, while this one serves.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(&self.core)
    }

    /// Accepts clients, a thread for each, until the server is stopped and its last connection has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Stopped`] with the error that stopped it, if it was one (see
    /// [`ErrorPolicy`](super::ErrorPolicy)).
    pub fn serve(self) -> Result<(), Error> {
        let Self { core, mut listener, threads, accept_if } = self;
        core.begin_serving();
        accept_all(&core, &mut listener, &threads, accept_if.as_deref());
        // Whoever comes now finds nobody, and may try another server at this path.
        drop(listener);
        core.drain(|until| threads.shut_down(Some(until)))
    }
}

#[doc(hidden)]
impl Server {
    /// For benchmarks that count instructions: each call takes one message from `stream` and answers it, on the calling
    /// thread. What the server has is never freed.
    pub fn into_turns(self, mut stream: Stream) -> impl FnMut() -> bool {
        let core: &'static Arc<Core> = Box::leak(Box::new(self.core));
        let peer: &'static Arc<Peer> = Box::leak(Box::new(introduce(core, &mut stream)));
        connection::turns(core, peer, Box::leak(Box::new(stream)))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("core", &self.core).finish_non_exhaustive()
    }
}

fn accept_all(core: &Arc<Core>, listener: &mut Listener, threads: &Threads, accept_if: Option<&AcceptIf>) {
    let mut reserved = None;
    loop {
        let mut admit = |peer: &Credentials, latency_core| {
            admit(core, threads, accept_if, &mut reserved, peer, latency_core)
        };
        match listener.accept_admitting(&mut admit) {
            Ok(stream) => {
                if let Some(thread) = reserved.take() {
                    begin(core, thread, stream);
                }
            }
            Err(error) if error.kind() == ErrorKind::Stopped => return,
            Err(error) => {
                if core.accept_failed(&error) == Action::StopServer {
                    return;
                }
                std::thread::sleep(PAUSE_AFTER_ERROR);
            }
        }
    }
}

/// The last word on a client: it gets in if there is a thread for it.
fn admit(
    core: &Core,
    threads: &Threads,
    accept_if: Option<&AcceptIf>,
    reserved: &mut Option<Reserved>,
    peer: &Credentials,
    latency_core: Option<u32>,
) -> Result<Admission, (Status, String)> {
    // What panics there lets nobody in, and does not end the serving.
    let is_welcome = |accept: &AcceptIf| catch_unwind(AssertUnwindSafe(|| accept(peer))).unwrap_or(false);
    if !accept_if.is_none_or(is_welcome) {
        let reason = format!("{peer} is not allowed to connect to this server");
        return Err((Status::PermissionDenied, reason));
    }
    if reserved.is_none() {
        match threads.reserve() {
            Ok(thread) => *reserved = Some(thread),
            Err(error) => {
                core.totals.refused.add(1);
                log::warn!("client refused: no thread to serve it: {error}");
                let reason = format!("the server has no thread for another connection: {error}");
                return Err((Status::ResourceExhausted, reason));
            }
        }
    }
    let latency_class = latency_core.is_some_and(|wanted| core.settings.latency_core(wanted).is_some());
    Ok(Admission { latency_class })
}

/// Has `thread` serve `stream`.
fn begin(core: &Arc<Core>, thread: Reserved, mut stream: Stream) {
    let peer = introduce(core, &mut stream);
    let (core, stream) = (Arc::clone(core), core.boxes.pack(stream));
    thread.run(Box::new(move || connection::serve(&core, &peer, stream)));
}

fn introduce(core: &Core, stream: &mut Stream) -> Arc<Peer> {
    let info = ConnectionInfo {
        id: core.next_id.add(1),
        peer: stream.peer(),
        since: Instant::now(),
        latency_core: stream.negotiated().latency_core,
        metadata: Metadata::default(),
    };
    let link = stream.halves().1.interrupter();
    let peer = Arc::new(Peer::new(info, link, Arc::clone(&core.queues)));
    core.connection_began(&peer);
    peer
}
