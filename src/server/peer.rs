//! [`Peer`]: what a connection's thread shares with the other threads of its process.
//!
//! | state | who touches it |
//! |---|---|
//! | stream, ring positions, table view | the connection's thread alone |
//! | the two queues | any thread puts in, the connection's thread takes out (and who makes room under `DropOldest`) |
//! | what is wanted of the connection | any thread raises it, the connection's thread looks at it when interrupted |
//! | the link (who interrupts it) | any thread uses it under its lock; the connection's thread takes it away at the end |
//! | counters | requests: written by the connection's thread alone; the others: added to by any |
//! | metadata | any thread, under its own lock |

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, unbounded};

use super::context::ConnectionInfo;
use crate::error::{Error, ErrorKind};
use crate::transport::{Counter, Deadline, Interrupter, Pending};
use crate::wire::{Header, Kind};

/// Items of deferred replies that may be on their way to the ring at once.
const ITEM_CREDITS: usize = 64;
/// How long an item waits for a credit where the server has no send timeout: its thread may have other clients to serve.
const ITEM_PATIENCE: Duration = Duration::from_secs(30);
/// How often a thread that waits for room in a queue looks whether the connection still lives.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What happens to an event whose connection has as many waiting already as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// The sender waits for room, at most this long; then [`ErrorKind::ResourceExhausted`].
    Wait(Duration),
    /// The oldest event that waits is left out, and counted.
    DropOldest,
    /// The client does not keep up: its connection is closed.
    Disconnect,
}

/// What other threads want of a connection, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    Nothing,
    /// Finish what is in flight, then close.
    Goodbye,
    /// Close.
    Disconnect,
}

/// An event on its way to a client: one copy of its bytes, however many clients get it.
#[derive(Clone, Debug)]
pub(super) struct QueuedEvent {
    pub(super) message_type: u16,
    pub(super) payload: Arc<[u8]>,
}

/// A deferred answer, or a part of one, on its way to the client.
#[derive(Debug)]
pub(super) struct QueuedAnswer {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug)]
struct Events {
    put: Sender<QueuedEvent>,
    take: Receiver<QueuedEvent>,
}

/// Answers need no bound of their own: each request has one, and of those as many are accepted as there are slots. Items
/// have: each needs a credit.
#[derive(Debug)]
struct Answers {
    put: Sender<QueuedAnswer>,
    take: Receiver<QueuedAnswer>,
    put_credit: Sender<()>,
    take_credit: Receiver<()>,
}

/// How a connection's queue of events behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventSettings {
    pub(super) capacity: usize,
    pub(super) when_full: WhenFull,
}

/// How the queues of all connections of a server behave.
#[derive(Debug)]
pub(super) struct QueueSettings {
    events: EventSettings,
    item_patience: Duration,
}

impl QueueSettings {
    pub(super) fn new(events: EventSettings, send_timeout: Option<Duration>) -> Self {
        Self { events, item_patience: send_timeout.unwrap_or(ITEM_PATIENCE) }
    }
}

/// A connection, as far as threads share it. It may outlive the connection itself.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) info: ConnectionInfo,
    /// `None` once the connection has ended.
    link: Mutex<Option<Interrupter>>,
    thread: OnceLock<ThreadId>,
    wanted: Counter,
    queues: Arc<QueueSettings>,
    /// Boxed, as most connections have neither.
    events: OnceLock<Box<Events>>,
    answers: OnceLock<Box<Answers>>,
    /// Requests that were taken from the ring, notifications among them.
    pub(super) requests: Counter,
    /// Those that were answered with a status.
    pub(super) failures: Counter,
    pub(super) events_sent: Counter,
    pub(super) events_dropped: Counter,
    /// Requests whose answer a [`DeferredReply`](super::DeferredReply) owes.
    pub(super) deferred: Pending,
}

impl Peer {
    /// One more, of which the connection's own thread keeps count in `requests`.
    #[inline(always)]
    pub(super) fn count_request(&self, requests: &mut u64) {
        *requests += 1;
        self.requests.set(*requests);
    }

    pub(super) fn new(info: ConnectionInfo, link: Interrupter, queues: Arc<QueueSettings>) -> Self {
        Self {
            info,
            link: Mutex::new(Some(link)),
            thread: OnceLock::new(),
            wanted: Counter::new(0),
            queues,
            events: OnceLock::new(),
            answers: OnceLock::new(),
            requests: Counter::new(0),
            failures: Counter::new(0),
            events_sent: Counter::new(0),
            events_dropped: Counter::new(0),
            deferred: Pending::default(),
        }
    }

    /// Says that the calling thread is the connection's.
    pub(super) fn begin(&self) {
        let _ = self.thread.set(std::thread::current().id());
    }

    /// The connection has ended: nothing more is taken in, and what waits is dropped.
    pub(super) fn end(&self) {
        drop(self.lock_link().take());
        while self.next_event().is_some() {}
        while self.next_answer().is_some() {}
        self.info.metadata.clear();
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock_link().is_some()
    }

    fn lock_link(&self) -> std::sync::MutexGuard<'_, Option<Interrupter>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the connection's thread look at what it is wanted for.
    pub(super) fn interrupt(&self) {
        if let Some(link) = &*self.lock_link() {
            link.interrupt();
        }
    }

    /// Ends the connection's waits, whatever the client does; the client sees it at once.
    pub(super) fn hang_up(&self) {
        self.wanted.raise_to(Wanted::Disconnect as u64);
        if let Some(link) = &*self.lock_link() {
            link.hang_up();
            // Also of what would not wait: a request that comes in a trickle.
            link.end_waits();
        }
    }

    pub(super) fn want(&self, wanted: Wanted) {
        self.wanted.raise_to(wanted as u64);
        if let Some(link) = &*self.lock_link() {
            match wanted {
                Wanted::Disconnect => link.end_waits(),
                Wanted::Nothing | Wanted::Goodbye => link.interrupt(),
            }
        }
    }

    pub(super) fn wanted(&self) -> Wanted {
        match self.wanted.get() {
            0 => Wanted::Nothing,
            1 => Wanted::Goodbye,
            _ => Wanted::Disconnect,
        }
    }

    fn is_own_thread(&self) -> bool {
        self.thread.get() == Some(&std::thread::current().id())
    }

    #[cold]
    fn ended(&self) -> Error {
        Error::new(ErrorKind::PeerClosed, format!("connection {} has ended", self.info.id))
    }

    #[cold]
    fn full(&self, what: &str, limit: usize) -> Error {
        let message =
            format!("connection {} has {limit} {what} waiting: its client does not keep up", self.info.id);
        Error::new(ErrorKind::ResourceExhausted, message)
    }

    fn events(&self) -> &Events {
        self.events.get_or_init(|| {
            let (put, take) = bounded(self.queues.events.capacity);
            Box::new(Events { put, take })
        })
    }

    /// Queues an event by the policy for full queues.
    pub(super) fn push_event(&self, event: QueuedEvent) -> Result<(), Error> {
        let Some(event) = self.offer_event(event)? else { return Ok(()) };
        let WhenFull::Wait(patience) = self.queues.events.when_full else { return Ok(()) };
        self.wait_to_push_event(event, Deadline::after(patience))
    }

    /// Queues an event unless that means to wait: then it comes back.
    pub(super) fn offer_event(&self, event: QueuedEvent) -> Result<Option<QueuedEvent>, Error> {
        if !self.is_open() {
            return Err(self.ended());
        }
        let events = self.events();
        let mut event = event;
        loop {
            match events.put.try_send(event) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) => match self.queues.events.when_full {
                    WhenFull::Wait(_) => return Ok(Some(back)),
                    WhenFull::DropOldest => {
                        if events.take.try_recv().is_ok() {
                            self.events_dropped.add(1);
                        }
                        event = back;
                    }
                    WhenFull::Disconnect => {
                        self.want(Wanted::Disconnect);
                        return Err(self.full("events", self.queues.events.capacity));
                    }
                },
                Err(TrySendError::Disconnected(_)) => return Err(self.ended()),
            }
        }
        self.interrupt();
        Ok(None)
    }

    pub(super) fn wait_to_push_event(&self, event: QueuedEvent, deadline: Deadline) -> Result<(), Error> {
        let limit = self.queues.events.capacity;
        wait_to_put(&self.events().put, event, || self.may_wait(deadline, "events", limit))?;
        self.interrupt();
        Ok(())
    }

    /// Whether a thread may go on waiting for the connection's own to make room in a queue.
    fn may_wait(&self, deadline: Deadline, what: &str, limit: usize) -> Result<(), Error> {
        if !self.is_open() {
            return Err(self.ended());
        }
        // The connection's own thread would wait for itself.
        if self.is_own_thread() || deadline.has_passed() {
            return Err(self.full(what, limit));
        }
        Ok(())
    }

    /// The next event that waits.
    pub(super) fn next_event(&self) -> Option<QueuedEvent> {
        self.events.get()?.take.try_recv().ok()
    }

    fn answers(&self) -> &Answers {
        self.answers.get_or_init(|| {
            let ((put, take), (put_credit, take_credit)) = (unbounded(), bounded(ITEM_CREDITS));
            Box::new(Answers { put, take, put_credit, take_credit })
        })
    }

    /// Queues what ends a deferred reply, which then no longer counts.
    pub(super) fn push_last_answer(&self, answer: QueuedAnswer) -> Result<(), Error> {
        let is_open = self.is_open();
        if is_open {
            // Cannot fail: both ends are here.
            let _ = self.answers().put.send(answer);
        }
        self.deferred.end();
        self.interrupt();
        if is_open { Ok(()) } else { Err(self.ended()) }
    }

    /// Queues an item of a deferred reply, once there is a credit for it; `give_up` says when to stop waiting.
    pub(super) fn push_item(
        &self,
        answer: QueuedAnswer,
        mut give_up: impl FnMut() -> Result<Deadline, Error>,
    ) -> Result<(), Error> {
        let (answers, mut patience) = (self.answers(), None);
        wait_to_put(&answers.put_credit, (), || {
            let patience = *patience.get_or_insert_with(|| Deadline::after(self.queues.item_patience));
            self.may_wait(give_up()?.min(patience), "items", ITEM_CREDITS)
        })?;
        self.put_item(answer)
    }

    /// Whether there is a credit for an item now; it is taken then, and [`Peer::put_item`] uses it.
    pub(super) fn try_take_credit(&self) -> Result<(), Error> {
        if !self.is_open() {
            return Err(self.ended());
        }
        self.answers().put_credit.try_send(()).map_err(|_| ErrorKind::Full.into())
    }

    /// Queues an item that has its credit.
    pub(super) fn put_item(&self, answer: QueuedAnswer) -> Result<(), Error> {
        if !self.is_open() {
            return Err(self.ended());
        }
        let _ = self.answers().put.send(answer);
        self.interrupt();
        Ok(())
    }

    /// The next part of a deferred reply that waits.
    pub(super) fn next_answer(&self) -> Option<QueuedAnswer> {
        let answers = self.answers.get()?;
        let answer = answers.take.try_recv().ok()?;
        if answer.header.kind == Kind::StreamItem {
            let credit: Result<(), TryRecvError> = answers.take_credit.try_recv();
            debug_assert!(credit.is_ok(), "an item without its credit");
        }
        Some(answer)
    }

    /// Whether nothing is owed to the client any more.
    pub(super) fn owes_nothing(&self) -> bool {
        // In this order: who finds no reply open sees the last answers of all of them in the queue.
        self.deferred.is_none() && self.answers.get().is_none_or(|answers| answers.take.is_empty())
    }

    pub(super) fn age(&self) -> Duration {
        Instant::now().saturating_duration_since(self.info.since)
    }
}

/// Puts `what` into a bounded queue; `may_wait` is asked whenever there is no room for a while.
fn wait_to_put<T>(
    put: &Sender<T>,
    what: T,
    mut may_wait: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let mut what = what;
    loop {
        let full = match put.try_send(what) {
            Ok(()) => return Ok(()),
            Err(back) => back.into_inner(),
        };
        may_wait()?;
        what = match put.send_timeout(full, LOOK_EVERY) {
            Ok(()) => return Ok(()),
            Err(back) => back.into_inner(),
        };
    }
}
