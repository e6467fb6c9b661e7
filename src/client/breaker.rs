//! [`CircuitBreaker`]: does not ask a server that does not answer well.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::window::{Machine, Phase, Rules, Verdict};
use crate::error::{Error, ErrorKind};
use crate::transport::{Counter, Deadline, Status};

/// Whether an error speaks against the server.
type FailureIf = dyn Fn(&Error) -> bool + Send + Sync;

/// Refuses calls at once while the other side fails too often, and tries again by itself.
///
/// | | calls | goes over |
/// |---|---|---|
/// | **closed** | are made, and their outcomes kept in a sliding window | to open, when a call fails and there are enough failures in the window, in number and in rate |
/// | **open** | are refused | to half-open at the first call behind [`open_for`](CircuitBreakerBuilder::open_for) |
/// | **half-open** | one at a time is made, the probe; all others are refused | to closed when enough probes in a row have succeeded, to open when one fails |
///
/// A refusal is an error of [`ErrorKind::Status`] with [`Status::Unavailable`] and an [`Error::retry_after`]: as if the
/// server had said so, but in less than a microsecond. The outcome of a call that began before the breaker last changed its
/// state changes nothing.
///
/// Clones are the same breaker, for any number of threads: one per server is a good choice. Put around a call by hand, or
/// given to a [`ReconnectingClient`](crate::ReconnectingClient), which asks it before each call.
///
/// ```
/// # use ringwire::{Client, Stream, Header, Kind};
/// # use ringwire::client::ECHO;
/// # let (stream, mut server) = Stream::pair()?;
/// # let mut client = Client::builder("").over(stream);
/// # std::thread::spawn(move || {
/// #     let asked = server.receive()?.header();
/// #     server.send(Header::new(Kind::Response, asked.message_type, asked.correlation), b"hello")
/// # });
/// use ringwire::client::{BreakerState, CircuitBreaker};
///
/// let breaker = CircuitBreaker::builder().failure_rate(0.5).min_failures(5).build();
/// let reply = breaker.call(|| client.call(ECHO, b"hello"))?;
/// assert_eq!((reply.len(), breaker.state()), (5, BreakerState::Closed));
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Clone)]
pub struct CircuitBreaker {
    shared: Arc<Shared>,
}

struct Shared {
    machine: Mutex<Machine>,
    /// Until then everything is refused: for who does not want the lock. 0 unless open.
    open_until_ns: Counter,
    refused: Counter,
    failure_if: Box<FailureIf>,
}

/// What a [`CircuitBreaker`] does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Lets them through.
    Closed,
    /// Refuses them.
    Open,
    /// Lets one through, to see.
    HalfOpen,
}

/// What has become of the calls of a [`CircuitBreaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerStats {
    /// What it does with the next call.
    pub state: BreakerState,
    /// Outcomes in the window.
    pub calls: usize,
    /// Those of them that were failures.
    pub failures: usize,
    /// How often it has opened.
    pub opened: u64,
    /// Calls refused.
    pub refused: u64,
}

/// How a [`CircuitBreaker`] judges. Made by [`CircuitBreaker::builder`].
#[must_use]
pub struct CircuitBreakerBuilder {
    rules: Rules,
    failure_if: Box<FailureIf>,
}

impl CircuitBreaker {
    /// A breaker with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Chooses when to open, and for how long.
    pub fn builder() -> CircuitBreakerBuilder {
        let rules = Rules {
            failure_rate: 0.5,
            min_failures: 5,
            window_calls: 100,
            window_ns: 10_000_000_000,
            open_ns: 1_000_000_000,
            probes: 1,
        };
        CircuitBreakerBuilder { rules, failure_if: Box::new(speaks_against_server) }
    }

    /// Makes a call, unless the breaker refuses it, and keeps its outcome.
    ///
    /// # Errors
    /// Those of `call`, or a refusal.
    pub fn call<T>(&self, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let permit = self.admit()?;
        let called = call();
        permit.judge(called.as_ref().err());
        called
    }

    /// Asks to make a call of any kind, whose outcome is to be told to the permit.
    ///
    /// ```
    /// use ringwire::client::CircuitBreaker;
    /// let breaker = CircuitBreaker::new();
    /// let permit = breaker.admit()?;
    /// match std::fs::read("/etc/hostname") {
    ///     Ok(_) => permit.success(),
    ///     Err(_) => permit.failure(),
    /// }
    /// # Ok::<(), ringwire::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Status`] with [`Status::Unavailable`] and an [`Error::retry_after`].
    pub fn admit(&self) -> Result<Permit, Error> {
        let now_ns = Deadline::now_ns();
        // What is read without the lock may be old: then the lock decides, or one call more is refused.
        let open_until_ns = self.shared.open_until_ns.get();
        if now_ns < open_until_ns {
            return Err(self.refuse(open_until_ns - now_ns));
        }
        let admitted = self.shared.with_machine(|machine| machine.admit(now_ns));
        match admitted {
            Ok(epoch) => Ok(Permit { shared: Arc::clone(&self.shared), epoch, is_open: true }),
            Err(again_ns) => Err(self.refuse(again_ns)),
        }
    }

    /// What it does with calls now; the next one may change it.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        state_of(self.shared.lock().phase())
    }

    /// Counts, for who watches.
    #[must_use]
    pub fn stats(&self) -> BreakerStats {
        let mut machine = self.shared.lock();
        let (calls, failures) = machine.in_window(Deadline::now_ns());
        BreakerStats {
            state: state_of(machine.phase()),
            calls,
            failures,
            opened: machine.opened,
            refused: self.shared.refused.get(),
        }
    }

    #[cold]
    fn refuse(&self, again_ns: u64) -> Error {
        self.shared.refused.add(1);
        let again = Duration::from_nanos(again_ns);
        let message = "circuit breaker open: too many of the last calls failed; see retry_after";
        Error::answered(Status::Unavailable, message, Some(again)).executed(false)
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        // Nothing under the lock panics half-way.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_machine<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        let mut machine = self.lock();
        let before = machine.phase();
        let result = act(&mut machine);
        let after = machine.phase();
        if after != before {
            // Under the lock: its order is that of the phases.
            self.open_until_ns.set(if let Phase::Open { until_ns } = after { until_ns } else { 0 });
            if state_of(after) != state_of(before) {
                log::info!("circuit breaker: {:?} to {:?}", state_of(before), state_of(after));
            }
        }
        result
    }
}

fn state_of(phase: Phase) -> BreakerState {
    match phase {
        Phase::Closed => BreakerState::Closed,
        Phase::Open { .. } => BreakerState::Open,
        Phase::HalfOpen { .. } => BreakerState::HalfOpen,
    }
}

/// The leave to make one call: from [`CircuitBreaker::admit`]. Dropped without a word it counts as a failure, so a call that
/// panics does.
#[must_use = "dropped at once it counts as a failure"]
pub struct Permit {
    shared: Arc<Shared>,
    epoch: u64,
    /// Nothing has been said yet.
    is_open: bool,
}

impl Permit {
    /// The call went well.
    pub fn success(self) {
        self.end(Verdict::Good);
    }

    /// The call failed, and that speaks against the other side.
    pub fn failure(self) {
        self.end(Verdict::Bad);
    }

    /// The call came to nothing, and that says nothing about the other side: as if it had not been made.
    pub fn abandon(self) {
        self.end(Verdict::None);
    }

    /// The call ended with this error, or well.
    pub fn judge(self, error: Option<&Error>) {
        match error {
            Some(error) if error.kind() == ErrorKind::Cancelled => self.abandon(),
            Some(error) if (self.shared.failure_if)(error) => self.failure(),
            _ => self.success(),
        }
    }

    fn end(mut self, verdict: Verdict) {
        self.report(verdict);
    }

    fn report(&mut self, verdict: Verdict) {
        self.is_open = false;
        let now_ns = Deadline::now_ns();
        self.shared.with_machine(|machine| machine.report(now_ns, self.epoch, verdict));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_open {
            self.report(Verdict::Bad);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl CircuitBreakerBuilder {
    /// The share of failures in the window at which it opens, 0 to 1; 0.5 by default.
    pub fn failure_rate(mut self, rate: f64) -> Self {
        self.rules.failure_rate = rate.clamp(0.0, 1.0);
        self
    }

    /// So many failures must be in the window too; 5 by default, at least 1.
    pub fn min_failures(mut self, failures: usize) -> Self {
        self.rules.min_failures = failures.max(1);
        self
    }

    /// The window: the last so many calls, and none older than `span`; 100 and 10 s by default, at most a million.
    pub fn window(mut self, calls: usize, span: Duration) -> Self {
        self.rules.window_calls = calls.clamp(1, 1_000_000);
        self.rules.window_ns = nanos(span);
        self
    }

    /// How long it refuses before it tries again; 1 s by default.
    pub fn open_for(mut self, time: Duration) -> Self {
        self.rules.open_ns = nanos(time);
        self
    }

    /// So many probes in a row must succeed, one behind the other, before it closes; 1 by default.
    pub fn probes(mut self, probes: u32) -> Self {
        self.rules.probes = probes.max(1);
        self
    }

    /// Which errors speak against the server. By default: the end of a connection, a connection that cannot be made, a
    /// deadline that passed, and the statuses `Unavailable`, `DeadlineExceeded`, `ResourceExhausted`, `Internal`, `Unknown`
    /// and `DataLoss`. Not: what is the caller's own fault. A [`ErrorKind::Cancelled`] never counts at all.
    pub fn failure_if(mut self, judge: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        self.failure_if = Box::new(judge);
        self
    }

    /// The breaker, closed.
    #[must_use]
    pub fn build(self) -> CircuitBreaker {
        CircuitBreaker {
            shared: Arc::new(Shared {
                machine: Mutex::new(Machine::new(self.rules)),
                open_until_ns: Counter::new(0),
                refused: Counter::new(0),
                failure_if: self.failure_if,
            }),
        }
    }
}

impl fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerBuilder").field("rules", &self.rules).finish_non_exhaustive()
    }
}

fn nanos(time: Duration) -> u64 {
    // At least 1: a window that holds something, a refusal that ends.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

fn speaks_against_server(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Status => matches!(
            error.status(),
            Some(
                Status::Unavailable
                    | Status::DeadlineExceeded
                    | Status::ResourceExhausted
                    | Status::Internal
                    | Status::Unknown
                    | Status::DataLoss
            )
        ),
        kind => matches!(
            kind,
            ErrorKind::ConnectionLost
                | ErrorKind::PeerClosed
                | ErrorKind::PeerDied
                | ErrorKind::CorruptPeer
                | ErrorKind::TimedOut
                | ErrorKind::NotFound
                | ErrorKind::ConnectionRefused
                | ErrorKind::TooManyConnections
                | ErrorKind::Handshake
        ),
    }
}
