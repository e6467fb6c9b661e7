//! What all threads of a server share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Failure;
use super::errors::{Action, ErrorClass, ErrorEvent, Errors};
use super::handover::Boxes;
use super::latency::LatencyCore;
use super::middleware::Middleware;
use super::peer::{EventSettings, Peer, QueueSettings, QueuedEvent, Wanted, WhenFull};
use super::placement::Placement;
use super::registry::Registry;
use super::shed::SharedToken;
use super::stats::{ConnectionSummary, ServerStats, Totals};
use crate::buffer::Pool;
use crate::error::{Error, ErrorKind};
use crate::transport::{Counter, Deadline, Stopper};

/// How long what is cut off at a shutdown's deadline may take to notice.
const CUT_OFF_GRACE: Duration = Duration::from_secs(1);

/// What the builder was told, as far as it matters while serving.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) max_connections: usize,
    pub(super) max_message_bytes: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) send_timeout: Option<Duration>,
    pub(super) request_timeout: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) events: EventSettings,
    pub(super) placement: Placement,
    pub(super) time_slice: Option<Duration>,
    pub(super) latency_cores: Vec<LatencyCore>,
    pub(super) latency_busy_poll: Duration,
}

impl Settings {
    /// The core `wanted`, if it is offered.
    pub(super) fn latency_core(&self, wanted: u32) -> Option<&LatencyCore> {
        self.latency_cores.iter().find(|core| core.number == wanted)
    }
}

/// Shared by the accepting thread, the connections' threads and the handles.
pub(super) struct Core {
    pub(super) settings: Settings,
    pub(super) queues: Arc<QueueSettings>,
    pub(super) registry: Registry,
    pub(super) middleware: Vec<Box<dyn Middleware>>,
    /// Also the first of the middleware.
    pub(super) token: Option<Arc<SharedToken>>,
    pub(super) errors: Errors,
    pub(super) pool: Pool,
    pub(super) totals: Totals,
    pub(super) started: Instant,
    pub(super) stopper: Stopper,
    pub(super) next_id: Counter,
    pub(super) state: Mutex<State>,
    /// Signalled when a connection ends, and when the phase changes.
    pub(super) changed: Condvar,
    pub(super) boxes: Boxes,
}

#[derive(Debug, Default)]
pub(super) struct State {
    connections: BTreeMap<u64, Arc<Peer>>,
    phase: Phase,
    stop: Option<Stop>,
}

/// How far a server has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Built,
    Serving,
    Ended {
        in_time: bool,
    },
}

/// That, until when and why a server stops.
#[derive(Debug)]
struct Stop {
    deadline: Deadline,
    cause: Option<String>,
}

impl Core {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // What can panic runs without it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the error policy, and does what concerns the server as a whole.
    #[cold]
    #[inline(never)]
    pub(super) fn handle_error(&self, error: &ErrorEvent<'_>) -> Action {
        let action = self.errors.handle_error(error);
        if action == Action::StopServer {
            let deadline = Deadline::after(self.settings.drain_timeout);
            self.begin_stop(deadline, Some(error.failure.to_string()));
        }
        action
    }

    /// Ends the accepting. The rest is done by the thread that serves, until `deadline`; an earlier one holds.
    pub(super) fn begin_stop(&self, deadline: Deadline, cause: Option<String>) {
        let mut state = self.lock();
        let stop = state.stop.get_or_insert(Stop { deadline, cause: None });
        stop.deadline = stop.deadline.min(deadline);
        if stop.cause.is_none() {
            stop.cause = cause;
        }
        drop(state);
        self.stopper.stop();
        self.changed.notify_all();
    }

    pub(super) fn begin_serving(&self) {
        self.lock().phase = Phase::Serving;
    }

    /// Nobody new comes in: says goodbye to the connections and waits for them, at most until the deadline of the stop;
    /// then cuts them off. `join` waits for the threads until then, and says how many are left.
    ///
    /// # Errors
    /// [`ErrorKind::Stopped`] with the error that stopped the server, if one did.
    pub(super) fn drain(&self, join: impl FnOnce(Instant) -> usize) -> Result<(), Error> {
        for peer in self.peers() {
            peer.want(Wanted::Goodbye);
        }
        let mut state = self.lock();
        let mut in_time = true;
        while !state.connections.is_empty() {
            // Read each time: a second shutdown may be in more of a hurry.
            let deadline = state.stop.as_ref().map_or(Deadline::NEVER, |stop| stop.deadline);
            if deadline.has_passed() {
                in_time = false;
                break;
            }
            state = self.wait(state, deadline);
        }
        drop(state);
        for peer in self.peers() {
            peer.hang_up();
        }
        let left = join(Instant::now() + CUT_OFF_GRACE);
        if left > 0 {
            log::warn!("{left} threads are still in a handler and go on without their connections");
        }
        let mut state = self.lock();
        state.phase = Phase::Ended { in_time: in_time && left == 0 };
        let cause = state.stop.as_mut().and_then(|stop| stop.cause.take());
        drop(state);
        self.changed.notify_all();
        cause.map_or(Ok(()), |cause| Err(Error::new(ErrorKind::Stopped, cause)))
    }

    /// Waits until the server has ended, and says whether all was done by the deadline of its stop.
    pub(super) fn wait_until_ended(&self, deadline: Deadline) -> bool {
        let patience = deadline
            .left()
            .map_or(Deadline::NEVER, |left| Deadline::after(left.saturating_add(CUT_OFF_GRACE * 2)));
        let mut state = self.lock();
        loop {
            match state.phase {
                Phase::Built => return true,
                Phase::Ended { in_time } => return in_time,
                Phase::Serving if patience.has_passed() => return false,
                Phase::Serving => state = self.wait(state, patience),
            }
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, deadline: Deadline) -> MutexGuard<'a, State> {
        match deadline.left() {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    pub(super) fn connection_began(&self, peer: &Arc<Peer>) {
        self.totals.accepted.add(1);
        self.lock().connections.insert(peer.info.id, Arc::clone(peer));
    }

    pub(super) fn connection_ended(&self, peer: &Peer) {
        let mut state = self.lock();
        // Under the lock, so that no look at the counters finds them in both places or in neither.
        if state.connections.remove(&peer.info.id).is_some() {
            self.totals.absorb(peer);
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        self.lock().connections.get(&id).cloned()
    }

    pub(super) fn peers(&self) -> Vec<Arc<Peer>> {
        self.lock().connections.values().cloned().collect()
    }

    pub(super) fn summaries(&self) -> Vec<ConnectionSummary> {
        self.lock().connections.values().map(|peer| ConnectionSummary::of(peer)).collect()
    }

    pub(super) fn stats(&self) -> ServerStats {
        let state = self.lock();
        let stats = self.totals.with(state.connections.values().map(|peer| &**peer));
        drop(state);
        ServerStats {
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            handler_errors: self.errors.count(ErrorClass::Handler),
            panics: self.errors.count(ErrorClass::Panic),
            request_errors: self.errors.count(ErrorClass::Request),
            connection_errors: self.errors.count(ErrorClass::Connection),
            accept_errors: self.errors.count(ErrorClass::Accept),
            ..stats
        }
    }

    /// Queues an event for every connection, and says for how many that went well. The full ones are waited for behind the
    /// others, and all together no longer than one.
    pub(super) fn broadcast(&self, event: &QueuedEvent) -> usize {
        let (mut reached, mut full) = (0, Vec::new());
        for peer in self.peers() {
            if self.token.is_some() && !SharedToken::is_known(&peer.info) {
                continue;
            }
            match peer.offer_event(event.clone()) {
                Ok(None) => reached += 1,
                Ok(Some(_)) => full.push(peer),
                Err(_) => {}
            }
        }
        if let (false, WhenFull::Wait(patience)) = (full.is_empty(), self.settings.events.when_full) {
            let deadline = Deadline::after(patience);
            let waited = full.iter().map(|peer| peer.wait_to_push_event(event.clone(), deadline));
            reached += waited.filter(Result::is_ok).count();
        }
        reached
    }

    /// An error that is no request's and no connection's.
    pub(super) fn accept_failed(&self, error: &Error) -> Action {
        let failure = Failure::internal(error.to_string());
        self.handle_error(&ErrorEvent {
            class: ErrorClass::Accept,
            failure: &failure,
            connection: None,
            message_type: None,
        })
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("settings", &self.settings)
            .field("registry", &self.registry)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}
