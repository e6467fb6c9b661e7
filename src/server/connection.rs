//! The life of a connection: its thread's loop.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use super::core::Core;
use super::deferred::encode;
use super::dispatch::{Dispatch, End};
use super::errors::{Action, ErrorClass, ErrorEvent};
use super::handover::BoxedStream;
use super::peer::{Peer, QueuedAnswer, QueuedEvent, Wanted};
use super::registry::View;
use crate::error::{Error, ErrorKind};
use crate::transport::{Backpressure, Cancellations, Deadline, Received, Sender, Stream};
use crate::wire::call::SLOTS;
use crate::wire::{Header, Kind};

/// A connection that always has requests looks this often at what other threads want of it.
const LOOK_EVERY_REQUESTS: u32 = 32;
/// Deferred answers that are sent at a time, before the ring is looked at again.
const ANSWERS_PER_LOOK: usize = 128;
/// Events that are sent at a time.
const EVENTS_PER_LOOK: usize = 256;
/// An event that found no room in the ring is tried again after this time, then after twice as long, ...
const FIRST_RETRY_MS: u64 = 1;
const LAST_RETRY_MS: u64 = 64;
/// A connection that has said goodbye, and owes nothing, closes when nothing has come for this long: what the client sent
/// before it saw the goodbye is still answered.
const LINGER: Duration = Duration::from_millis(50);

/// How far a connection is with its goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    NotSaid,
    /// Said: so many more requests are served, since an honest client has no more on their way.
    Serving(usize),
    /// Whatever comes now is refused.
    Refusing,
}

impl Goodbye {
    /// One more was served. What needs no answer does not count: of that there may be any number.
    fn count_request(&mut self) {
        match self {
            Self::Serving(left) if *left > 1 => *left -= 1,
            Self::Serving(_) => *self = Self::Refusing,
            Self::NotSaid | Self::Refusing => {}
        }
    }
}

/// What a turn of the loop has taken.
enum Taken {
    Request,
    /// Something that nobody waits for an answer to.
    Other,
    Interruption,
    Error(Error),
}

/// Serves a connection until its end, on the calling thread.
// Boxed up to here: moved from hand to hand, a stream would leave a copy in each frame, a page of every thread's stack.
pub(super) fn serve(core: &Arc<Core>, peer: &Arc<Peer>, stream: BoxedStream) {
    // Dropped behind the stream: who waits for the connection's end finds it closed.
    let _ended = Ended { core, peer };
    let mut stream = core.boxes.unpack(stream);
    // By reference: the frame is to hold one copy.
    let Some(stream) = &mut stream else { return };
    peer.begin();
    let _latency = super::latency::enter(core, peer, stream);
    stream.set_send_timeout(core.settings.send_timeout);
    let mut connection = Connection::new(core, peer, stream);
    let end = connection.run();
    connection.bury(&end);
}

/// The turns of [`serve`], one a call; whether there is another.
pub(super) fn turns<'s>(
    core: &'s Core,
    peer: &'s Arc<Peer>,
    stream: &'s mut Stream,
) -> impl FnMut() -> bool + 's {
    let mut connection = Connection::new(core, peer, stream);
    move || connection.turn().is_ok()
}

struct Ended<'s> {
    core: &'s Core,
    peer: &'s Arc<Peer>,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        // What the program keeps with a connection may panic when it is dropped: the connection has ended all the same.
        let ended = catch_unwind(AssertUnwindSafe(|| self.peer.end()));
        self.core.connection_ended(self.peer);
        match ended {
            Ok(()) => {}
            // A second panic at once would end the process.
            Err(panic) if std::thread::panicking() => std::mem::forget(panic),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// What the thread of a connection knows of it.
struct Connection<'s> {
    core: &'s Core,
    peer: &'s Arc<Peer>,
    stream: &'s mut Stream,
    cancellations: Cancellations,
    view: View,
    requests: u64,
    /// So many requests until the next look at what others want.
    look_in: u32,
    goodbye: Goodbye,
    /// When to look around though nothing has come.
    deadline: Deadline,
    /// There was more to send than one look's worth.
    is_behind: bool,
    /// The time without requests is over then, if `requests` is still `idle_from`.
    idle_deadline: Deadline,
    idle_from: u64,
    /// An event that found no room in the ring.
    held: Option<QueuedEvent>,
    retry_ms: u64,
}

impl<'s> Connection<'s> {
    fn new(core: &'s Core, peer: &'s Arc<Peer>, stream: &'s mut Stream) -> Self {
        let mut connection = Self {
            core,
            peer,
            cancellations: stream.cancellations(),
            stream,
            view: View::of(&core.registry),
            requests: 0,
            look_in: LOOK_EVERY_REQUESTS,
            goodbye: Goodbye::NotSaid,
            deadline: Deadline::NEVER,
            is_behind: false,
            idle_deadline: Deadline::after_option(core.settings.idle_timeout),
            idle_from: 0,
            held: None,
            retry_ms: FIRST_RETRY_MS,
        };
        connection.plan();
        connection
    }

    fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.turn() {
                return end;
            }
        }
    }

    #[inline(always)]
    fn turn(&mut self) -> Result<(), End> {
        let (sender, receiver) = self.stream.halves();
        if sender.owes_an_end() {
            return self.turn_slowly();
        }
        let Some(found) = receiver.await_plainly(self.deadline, || sender.trim_idle()) else {
            return self.turn_slowly();
        };
        let message = receiver.hand_out(found);
        let mut dispatch = Dispatch {
            core: self.core,
            peer: self.peer,
            cancellations: &self.cancellations,
            sender,
            is_refusing: self.goodbye == Goodbye::Refusing,
        };
        let is_request = dispatch.message(&mut self.requests, &mut self.view, &message)?;
        drop(message);
        if is_request {
            self.stream.halves().1.expect_answer();
            self.count_down_request()
        } else {
            self.count_down()
        }
    }

    /// As [`Connection::turn`], for whatever comes or does not come.
    #[inline(never)]
    fn turn_slowly(&mut self) -> Result<(), End> {
        match self.take()? {
            Taken::Request => {
                self.stream.halves().1.expect_answer();
                self.count_down_request()
            }
            Taken::Other => self.count_down(),
            Taken::Interruption => self.look_around(),
            Taken::Error(error) => self.on_error(error),
        }
    }

    /// Takes one message and answers it.
    fn take(&mut self) -> Result<Taken, End> {
        let (sender, receiver) = self.stream.halves();
        if sender.owes_an_end() {
            sender
                .end_abandoned(Deadline::after_option(self.core.settings.send_timeout), &mut ())
                .map_err(End::Failed)?;
        }
        let received = receiver.receive_any_idling(self.deadline, || sender.trim_idle());
        let mut dispatch = Dispatch {
            core: self.core,
            peer: self.peer,
            cancellations: &self.cancellations,
            sender,
            is_refusing: self.goodbye == Goodbye::Refusing,
        };
        match received {
            Ok(Received::Whole(message)) => {
                let is_request = dispatch.message(&mut self.requests, &mut self.view, &message)?;
                Ok(if is_request { Taken::Request } else { Taken::Other })
            }
            Ok(Received::Pieces(reader)) => {
                if !matches!(reader.header().kind, Kind::Request | Kind::Event) {
                    return Err(End::Violation("something else than a request in fragments"));
                }
                self.peer.count_request(&mut self.requests);
                let is_answered = reader.header().kind == Kind::Request;
                dispatch.request_in_pieces(self.view.table(&self.core.registry), reader)?;
                if is_answered {
                    self.goodbye.count_request();
                }
                // Reading it has taken away an interruption that came meanwhile.
                Ok(Taken::Interruption)
            }
            Ok(Received::Interrupted) => Ok(Taken::Interruption),
            Err(error) => Ok(Taken::Error(error)),
        }
    }

    #[inline(always)]
    fn count_down(&mut self) -> Result<(), End> {
        self.look_in -= 1;
        if self.look_in == 0 { self.look_around() } else { Ok(()) }
    }

    #[inline(always)]
    fn count_down_request(&mut self) -> Result<(), End> {
        self.look_in -= 1;
        if self.look_in == 0 { self.look_behind_request() } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn look_behind_request(&mut self) -> Result<(), End> {
        self.goodbye.count_request();
        self.look_around()
    }

    #[cold]
    #[inline(never)]
    fn on_error(&mut self, error: Error) -> Result<(), End> {
        if error.kind() != ErrorKind::TimedOut {
            return Err(End::Failed(error));
        }
        if self.is_behind {
            return self.look_around();
        }
        match self.goodbye {
            // The ring was empty for a while.
            Goodbye::Serving(_) | Goodbye::Refusing if self.peer.owes_nothing() => return Err(End::Wanted),
            Goodbye::Serving(_) => self.goodbye = Goodbye::Refusing,
            _ => {}
        }
        if self.idle_deadline.has_passed() {
            if self.requests == self.idle_from && self.peer.owes_nothing() {
                self.say_goodbye("nothing was asked for the server's idle timeout")?;
            }
            self.idle_from = self.requests;
            self.idle_deadline = Deadline::after_option(self.core.settings.idle_timeout);
        }
        self.look_around()
    }

    /// What other threads want: an end, deferred answers, events.
    #[cold]
    #[inline(never)]
    fn look_around(&mut self) -> Result<(), End> {
        // Each time after a goodbye, which counts the requests.
        self.look_in = if self.goodbye == Goodbye::NotSaid { LOOK_EVERY_REQUESTS } else { 1 };
        match self.peer.wanted() {
            Wanted::Disconnect => return Err(End::Wanted),
            Wanted::Goodbye if self.goodbye == Goodbye::NotSaid => {
                self.say_goodbye("the server is shutting down")?;
            }
            Wanted::Goodbye | Wanted::Nothing => {}
        }
        self.is_behind = self.send_answers()? | self.send_events()?;
        self.plan();
        if self.is_behind {
            self.deadline = Deadline::at_ns(0);
        }
        Ok(())
    }

    /// Tells the client that its time is over.
    fn say_goodbye(&mut self, why: &'static str) -> Result<(), End> {
        self.goodbye = Goodbye::Serving(SLOTS);
        self.look_in = 1;
        let header = Header::new(Kind::Goodbye, 0, 0);
        self.sender().send(header, &encode(&Failure::unavailable(why))).map_err(End::Failed)
    }

    /// Sends what deferred replies have said; whether there is more.
    fn send_answers(&mut self) -> Result<bool, End> {
        for _ in 0..ANSWERS_PER_LOOK {
            let Some(answer) = self.peer.next_answer() else { return Ok(false) };
            self.send_answer(&answer).map_err(End::Failed)?;
        }
        Ok(true)
    }

    fn send_answer(&mut self, answer: &QueuedAnswer) -> Result<(), Error> {
        let header = answer.header;
        match self.sender().send(header, &answer.payload) {
            Err(error) if error.kind() == ErrorKind::MessageTooLarge && header.kind == Kind::Response => {
                self.peer.failures.add(1);
                let header = Header::new(Kind::Error, header.message_type, header.correlation);
                self.sender().send(header, &encode(&error.into()))
            }
            // An item that the client cannot take is lost.
            Err(error) if error.kind() == ErrorKind::MessageTooLarge => {
                log::warn!("connection {}: an item was left out: {error}", self.peer.info.id);
                Ok(())
            }
            sent => sent,
        }
    }

    /// Sends the events that wait, as far as there is room in the ring: they never wait for it. Says whether there are more
    /// for which there may be.
    fn send_events(&mut self) -> Result<bool, End> {
        let peer = self.peer;
        for _ in 0..EVENTS_PER_LOOK {
            let Some(event) = self.held.take().or_else(|| peer.next_event()) else { return Ok(false) };
            let header = Header::new(Kind::Event, event.message_type, 0);
            let sender = self.sender();
            sender.set_backpressure(Backpressure::Fail);
            let sent = sender.send(header, &event.payload);
            sender.set_backpressure(Backpressure::Wait);
            match sent {
                Ok(()) => {
                    peer.events_sent.add(1);
                    self.retry_ms = FIRST_RETRY_MS;
                }
                Err(error) if error.kind() == ErrorKind::Full => {
                    self.held = Some(event);
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::MessageTooLarge => {
                    peer.events_dropped.add(1);
                    log::warn!("connection {}: an event was left out: {error}", peer.info.id);
                }
                Err(error) => return Err(End::Failed(error)),
            }
        }
        Ok(true)
    }

    /// When to look around though nothing comes.
    fn plan(&mut self) {
        self.deadline = self.idle_deadline;
        if self.goodbye != Goodbye::NotSaid {
            self.deadline = self.deadline.min(Deadline::after(LINGER));
        }
        if self.held.is_some() {
            self.deadline = self.deadline.min(Deadline::after(Duration::from_millis(self.retry_ms)));
            self.retry_ms = (self.retry_ms * 2).min(LAST_RETRY_MS);
        }
    }

    fn sender(&mut self) -> &mut Sender {
        self.stream.halves().0
    }

    /// Says why it ended, where that is worth a word.
    fn bury(&self, end: &End) {
        let id = self.peer.info.id;
        let failure = match end {
            End::Wanted => return log::debug!("connection {id} closed"),
            End::Failed(error) if matches!(error.kind(), ErrorKind::PeerClosed | ErrorKind::PeerDied) => {
                return log::debug!("connection {id} ended: {error}");
            }
            End::Failed(error) => Failure::internal(error.to_string()),
            End::Violation(what) => Failure::invalid_argument(*what),
        };
        // Closed it is in any case.
        let _: Action = self.core.handle_error(&ErrorEvent {
            class: ErrorClass::Connection,
            failure: &failure,
            connection: Some(&self.peer.info),
            message_type: None,
        });
    }
}
