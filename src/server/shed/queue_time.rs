//! [`QueueTime`]: no work for what has waited too long.

use std::time::Duration;

use super::local::PerConnection;
use super::{as_ns, whole_ms};
use crate::server::{Context, Failure, Flow, Middleware, Outcome};
use crate::transport::{Counter, Deadline};
use crate::wire::call::{SLOTS, slot_of};

/// A pause between two requests that is longer than this is one in which there was none: a waiting request is taken up
/// within a microsecond, and a client that has its answer takes longer than that to want something else.
const PAUSE_NS: u64 = 100_000;

/// Refuses what has waited too long for its handler ([`Status::Unavailable`](crate::wire::Status::Unavailable)), so that a
/// server that has fallen behind works on what is still wanted.
///
/// A request does not say when it was sent. How long it has waited is concluded, in the better of two ways:
///
/// - **From the deadline**, if clients give every call the same timeout
///   ([`ClientBuilder::call_timeout`](crate::ClientBuilder::call_timeout)) and [`QueueTime::call_timeout`] says it: what is
///   missing of it is the wait, exact, the time in which the connection's thread waited for a core included. A call
///   with a shorter deadline of its own looks older than it is.
/// - **From what went before**, otherwise: a client sends in a slot (one of 64) only what follows the answer to the last
///   request in it, requests come in the order in which they were sent, and behind a pause of 100 us nothing had been
///   waiting. So it is known before when a request cannot have been sent, and it is taken to have waited since. What it
///   does not see: that the thread had to wait for a core when it was woken, and that a handler went on after its answer.
///   It is too severe with a client that does not take the lowest free slot, as this library's does.
///
/// Limits below a millisecond are within the error of the second way. It keeps 0.5 KiB for each connection.
///
/// [`QueueTime::least_left`] refuses what has less time left than its answer takes
/// ([`Status::DeadlineExceeded`](crate::wire::Status::DeadlineExceeded)); what has none left reaches no middleware anyway.
///
/// ```
/// use ringwire::server::shed::QueueTime;
/// use std::time::Duration;
/// let limit = QueueTime::new(Duration::from_millis(200))
///     .call_timeout(Duration::from_secs(1))
///     .least_left(Duration::from_millis(20));
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("queue.sock");
/// let server = ringwire::Server::builder(path).middleware(limit).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "it limits nothing until a server has it"]
pub struct QueueTime {
    limit_ns: u64,
    call_timeout_ns: Option<u64>,
    least_left_ns: u64,
    local: PerConnection,
    refused: Counter,
}

impl QueueTime {
    /// Nothing waits longer than `limit` for its handler.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit_ns: as_ns(limit),
            call_timeout_ns: None,
            least_left_ns: 0,
            local: PerConnection::new(),
            refused: Counter::new(0),
        }
    }

    /// Clients give every call this timeout, if they give it one.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout_ns = Some(as_ns(timeout));
        self
    }

    /// Requests with a deadline need this much time.
    pub fn least_left(mut self, time: Duration) -> Self {
        self.least_left_ns = as_ns(time);
        self
    }

    /// Requests refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    fn waited_ns(&self, context: &Context<'_>, now_ns: u64) -> u64 {
        if let (Some(timeout_ns), false) = (self.call_timeout_ns, context.deadline() == Deadline::NEVER) {
            return now_ns.saturating_add(timeout_ns).saturating_sub(context.deadline().as_ns());
        }
        self.local
            .with(context.connection(), History::default, |history| history.waited_ns(now_ns, slot(context)))
    }

    #[cold]
    fn refuse(&self, failure: Failure) -> Failure {
        self.refused.add(1);
        failure.retry_after(whole_ms(self.limit_ns))
    }
}

fn slot(context: &Context<'_>) -> Option<usize> {
    (!context.is_one_way()).then(|| slot_of(context.correlation()))
}

impl Middleware for QueueTime {
    fn before(&self, context: &Context<'_>) -> Result<Flow, Failure> {
        let now_ns = Deadline::now_ns();
        if context.deadline().as_ns().saturating_sub(now_ns) < self.least_left_ns {
            let least = Duration::from_nanos(self.least_left_ns);
            let message = format!("less than {least:?} are left until the deadline: the answer takes longer");
            return Err(self.refuse(Failure::deadline_exceeded(message)));
        }
        let waited_ns = self.waited_ns(context, now_ns);
        if waited_ns > self.limit_ns {
            let (waited, limit) = (Duration::from_nanos(waited_ns), Duration::from_nanos(self.limit_ns));
            let message = format!("waited {waited:?} for its handler, the limit is {limit:?}");
            return Err(self.refuse(Failure::unavailable(message)));
        }
        Ok(Flow::Continue)
    }

    fn after(&self, context: &Context<'_>, _: &Outcome) {
        let now_ns = Deadline::now_ns();
        self.local.with(context.connection(), History::default, |history| history.end(now_ns, slot(context)));
    }
}

/// What is known of a connection's requests.
#[derive(Debug)]
struct History {
    /// The last handler returned then.
    ended_ns: u64,
    /// The latest request was sent after this.
    sent_after_ns: u64,
    /// The last handler of a request in each slot returned then.
    slots_ns: [u64; SLOTS],
}

impl Default for History {
    fn default() -> Self {
        Self { ended_ns: 0, sent_after_ns: 0, slots_ns: [0; SLOTS] }
    }
}

impl History {
    fn waited_ns(&mut self, now_ns: u64, slot: Option<usize>) -> u64 {
        let sent_after_ns = if now_ns.saturating_sub(self.ended_ns) > PAUSE_NS {
            now_ns
        } else {
            slot.map_or(0, |slot| self.slots_ns[slot])
        };
        self.sent_after_ns = self.sent_after_ns.max(sent_after_ns);
        now_ns - self.sent_after_ns.min(now_ns)
    }

    fn end(&mut self, now_ns: u64, slot: Option<usize>) {
        self.ended_ns = now_ns;
        if let Some(slot) = slot {
            self.slots_ns[slot] = now_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;
    const MS: u64 = 1_000 * US;

    /// A handler that takes `ms`, with the time that its request is taken to have waited.
    fn run(history: &mut History, now_ns: &mut u64, slot: usize, ms: u64) -> u64 {
        let waited_ns = history.waited_ns(*now_ns, Some(slot));
        *now_ns += ms * MS;
        history.end(*now_ns, Some(slot));
        *now_ns += US;
        waited_ns
    }

    #[test]
    fn who_waits_for_each_answer_never_waits_for_a_handler() {
        let (mut history, mut now_ns) = (History::default(), 5_000 * MS);
        for pause in [0, 20 * US, 90 * US, 110 * US, 3 * MS, 0, 0] {
            now_ns += pause;
            assert!(run(&mut history, &mut now_ns, 0, 50) <= PAUSE_NS + US);
        }
    }

    #[test]
    fn a_burst_waits_as_long_as_what_is_in_front_of_it() {
        let (mut history, mut now_ns) = (History::default(), 5_000 * MS);
        for slot in 0..16 {
            let waited_ns = run(&mut history, &mut now_ns, slot, 5);
            assert_eq!(waited_ns, slot as u64 * (5 * MS + US));
        }
    }

    #[test]
    fn a_connection_that_always_has_requests_waits_for_those_of_its_window_alone() {
        let (mut history, mut now_ns) = (History::default(), 5_000 * MS);
        for round in 0..1_000 {
            for slot in 0..4 {
                let waited_ns = run(&mut history, &mut now_ns, slot, 1);
                assert!(waited_ns <= 4 * (MS + US), "{waited_ns} ns in round {round}");
            }
        }
        // A slot that was never used before is not as old as the connection.
        assert!(run(&mut history, &mut now_ns, 60, 1) <= 5 * (MS + US));
    }

    #[test]
    fn notifications_are_as_old_as_what_was_sent_before_them() {
        let (mut history, mut now_ns) = (History::default(), 5_000 * MS);
        run(&mut history, &mut now_ns, 0, 5);
        assert_eq!(history.waited_ns(now_ns, None), 5 * MS + US);
    }
}
