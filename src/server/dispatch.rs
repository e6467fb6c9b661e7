//! From a request to its one answer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Failure;
use super::assemble::{assemble, failed};
use super::context::{Context, Request};
use super::core::Core;
use super::deferred::encode;
use super::errors::{Action, ErrorClass, ErrorEvent, panic_message};
use super::items::{Items, Source, StreamingRequest};
use super::middleware::{Flow, Outcome};
use super::peer::Peer;
use super::registry::{Handler, PlainHandler, StreamingHandler, Table, View};
use super::reply::{Progress, Reply, Turn, forward};
use super::shed::Held;
use crate::error::Error;
use crate::transport::{Cancellations, Deadline, Message, MessageReader, Payload, Sender};
use crate::wire::call::SLOTS;
use crate::wire::{Header, Kind, Status};

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// Somebody on this side wanted it.
    Wanted,
    /// The connection itself: closed, died, broken.
    Failed(Error),
    /// The client sent what no client sends.
    Violation(&'static str),
}

/// What came out of a handler: its result, or its panic.
type Caught = Result<Result<(), Failure>, Box<dyn Any + Send>>;

/// Runs the handler, or answers with what a middleware has instead.
type Call<'a> = dyn FnMut(Option<&[u8]>) -> Result<(), Failure> + 'a;

/// What all requests of one connection have in common.
pub(super) struct Dispatch<'d> {
    pub(super) core: &'d Core,
    pub(super) peer: &'d Arc<Peer>,
    pub(super) cancellations: &'d Cancellations,
    pub(super) sender: &'d mut Sender,
    /// The client has been told goodbye, and its time for requests is over.
    pub(super) is_refusing: bool,
}

impl<'d> Dispatch<'d> {
    /// Answers a message of one record; says whether it was a request.
    #[inline(always)]
    pub(super) fn message(
        &mut self,
        requests: &mut u64,
        view: &mut View,
        message: &Message<'_>,
    ) -> Result<bool, End> {
        let header = message.header();
        if matches!(header.kind, Kind::Request | Kind::Event) {
            self.peer.count_request(requests);
            self.request(view.table(&self.core.registry), header, message.payload())?;
            return Ok(header.kind == Kind::Request);
        }
        match header.kind {
            Kind::Ping => self.pong(header, &message.payload())?,
            // A client that is about to close, or cancels by a way of its own.
            Kind::Goodbye | Kind::Cancel => {}
            _ => return Err(End::Violation("an answer from a client")),
        }
        Ok(false)
    }

    /// Answers a request of one record.
    #[inline(always)]
    fn request(&mut self, table: &Table, header: Header, payload: Payload<'_>) -> Result<(), End> {
        let mut context = self.context(header);
        let rest;
        let payload = if header.is_extended() {
            match payload.split_word() {
                Some((deadline_ns, behind)) => {
                    context.deadline = Deadline::at_ns(deadline_ns);
                    rest = behind;
                    rest.again()
                }
                None => return self.refuse(&context, too_short()),
            }
        } else {
            payload
        };
        if self.is_unwelcome(&context) {
            return self.refuse_unwelcome(&context);
        }
        match table.find(header.message_type) {
            Some(Handler::Plain(handler)) => self.plain(&**handler, &context, payload),
            Some(Handler::Streaming(handler)) => self.streaming(&**handler, &context, Source::Whole(payload)),
            None => self.refuse_unknown(&context),
        }
    }

    /// Answers a request that travels in fragments.
    #[cold]
    #[inline(never)]
    pub(super) fn request_in_pieces(
        &mut self,
        table: &Table,
        mut reader: MessageReader<'_>,
    ) -> Result<(), End> {
        let header = reader.header();
        let mut context = self.context(header);
        let whole_until = Deadline::after(self.core.settings.request_timeout);
        if header.is_extended() {
            let mut word = [0; 8];
            reader.read_until(whole_until);
            match std::io::Read::read_exact(&mut reader, &mut word) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return self.refuse(&context, too_short());
                }
                Err(error) => return self.refuse(&context, failed(error)),
            }
            context.deadline = Deadline::at_ns(u64::from_ne_bytes(word));
        }
        if self.is_unwelcome(&context) {
            return self.refuse_unwelcome(&context);
        }
        if let Some(Err(failure)) = self.core.token.as_ref().map(|token| token.check_in_pieces(&context)) {
            return self.refuse(&context, failure);
        }
        match table.find(header.message_type) {
            Some(Handler::Streaming(handler)) => {
                reader.read_until(context.deadline);
                self.streaming(&**handler, &context, Source::Pieces(reader))
            }
            Some(Handler::Plain(handler)) => {
                let limit = self.core.settings.max_message_bytes;
                let until = whole_until.min(context.deadline);
                let assembled = assemble(&self.core.pool, &mut reader, limit, until);
                drop(reader);
                match assembled {
                    Ok((buffer, bytes)) => self.assembled(&**handler, &context, &buffer[..bytes]),
                    Err(failure) => self.refuse(&context, failure),
                }
            }
            None => self.refuse_unknown(&context),
        }
    }

    #[inline(always)]
    fn context(&self, header: Header) -> Context<'d> {
        Context {
            peer: self.peer,
            cancellation: self.cancellations.of(header.correlation),
            deadline: Deadline::NEVER,
            header: header.packed(),
            is_one_way: header.kind == Kind::Event,
            held: Held::default(),
        }
    }

    /// Answers a request with a handler, and sees to it that it is answered whatever the handler does.
    #[inline(always)]
    fn plain(
        &mut self,
        handler: &PlainHandler,
        context: &Context<'_>,
        payload: Payload<'_>,
    ) -> Result<(), End> {
        let (sender, mut turn) = (&mut *self.sender, Turn::new(context));
        let request = Request { context, payload };
        let caught = if self.core.middleware.is_empty() {
            let reply = Reply { sender, turn: &mut turn, context };
            catch_unwind(AssertUnwindSafe(|| handler(&request, reply).map(drop)))
        } else {
            around(self.core, context, &mut |instead| {
                let reply = Reply { sender: &mut *sender, turn: &mut turn, context };
                let replied = match instead {
                    None => handler(&request, reply),
                    Some(answer) => reply.send(answer),
                };
                replied.map(drop)
            })
        };
        if turn.progress == Progress::Answered && matches!(caught, Ok(Ok(()))) {
            return Ok(());
        }
        self.settle(context, &turn, caught)
    }

    /// As [`Dispatch::plain`]. A frame of its own: that of who puts the request together is there while it waits.
    #[cold]
    #[inline(never)]
    fn assembled(
        &mut self,
        handler: &PlainHandler,
        context: &Context<'_>,
        payload: &[u8],
    ) -> Result<(), End> {
        self.plain(handler, context, Payload::private(payload))
    }

    #[inline(never)]
    fn streaming(
        &mut self,
        handler: &StreamingHandler,
        context: &Context<'_>,
        source: Source<'_>,
    ) -> Result<(), End> {
        let (sender, mut turn) = (&mut *self.sender, Turn::new(context));
        let mut source = Some(source);
        let mut call = |instead: Option<&[u8]>| {
            let mut items = Items::new(&mut *sender, &mut turn, context);
            match (instead, source.take()) {
                (Some(answer), _) => items.send(answer),
                (None, Some(source)) => handler(StreamingRequest::new(context, source), &mut items),
                (None, None) => Ok(()),
            }
        };
        let caught = if self.core.middleware.is_empty() {
            catch_unwind(AssertUnwindSafe(|| call(None)))
        } else {
            around(self.core, context, &mut call)
        };
        if turn.progress == Progress::None && matches!(caught, Ok(Ok(()))) {
            return self.end_stream(context);
        }
        self.settle(context, &turn, caught)
    }

    fn end_stream(&mut self, context: &Context<'_>) -> Result<(), End> {
        if context.is_one_way {
            return Ok(());
        }
        let header = context.answer(Kind::StreamEnd);
        // Code and retry hint; no words.
        self.sender.send(header, &[0; 8]).map_err(End::Failed)
    }

    /// Everything but a handler that has answered: an error, a panic, an answer that is still owed.
    #[cold]
    #[inline(never)]
    fn settle(&mut self, context: &Context<'_>, turn: &Turn, caught: Caught) -> Result<(), End> {
        let (class, failure) = match caught {
            Ok(Ok(())) if matches!(turn.progress, Progress::Deferred | Progress::Answered) => return Ok(()),
            Ok(Ok(())) => {
                let message = "the handler returned the proof of another request's answer";
                (ErrorClass::Handler, Failure::internal(message))
            }
            Ok(Err(failure)) => (ErrorClass::Handler, failure),
            Err(panic) => {
                let said = panic_message(&*panic).to_owned();
                // What the panic carries may panic when it is dropped.
                if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(panic))) {
                    std::mem::forget(again);
                }
                (ErrorClass::Panic, Failure::internal(format!("the handler panicked: {said}")))
            }
        };
        if let Progress::Broken(kind) = turn.progress {
            let message = format!("an answer was lost: {}", failure.message());
            return Err(End::Failed(Error::new(kind, message)));
        }
        self.fail(context, turn, class, failure)
    }

    /// Has the error policy decide, and answers what is still owed.
    fn fail(
        &mut self,
        context: &Context<'_>,
        turn: &Turn,
        class: ErrorClass,
        failure: Failure,
    ) -> Result<(), End> {
        let action = self.core.handle_error(&ErrorEvent {
            class,
            failure: &failure,
            connection: Some(&self.peer.info),
            message_type: Some(context.message_type()),
        });
        let failure = match action {
            Action::Answer(status) => failure.under(status),
            Action::CloseConnection | Action::StopServer => failure,
        };
        if turn.progress == Progress::None && !context.is_one_way {
            self.peer.failures.add(1);
            let kind = if turn.is_stream { Kind::StreamEnd } else { Kind::Error };
            let header = context.answer(kind);
            self.sender.send(header, &encode(&failure)).map_err(End::Failed)?;
        }
        if action == Action::CloseConnection { Err(End::Wanted) } else { Ok(()) }
    }

    /// Whether the request is answered without a look at its handler.
    #[inline(always)]
    fn is_unwelcome(&self, context: &Context<'_>) -> bool {
        let is_answered = !context.is_one_way;
        context.deadline.has_passed()
            || is_answered
                && (context.cancellation.is_cancelled()
                    || self.peer.deferred.count() >= SLOTS as u64
                    || self.is_refusing)
    }

    #[cold]
    #[inline(never)]
    fn refuse_unwelcome(&mut self, context: &Context<'_>) -> Result<(), End> {
        let failure = if context.is_cancelled() {
            Failure::cancelled("cancelled before its handler began")
        } else if context.deadline.has_passed() {
            Failure::deadline_exceeded("the deadline passed before its handler began")
        } else if self.is_refusing {
            Failure::unavailable("the server is shutting down")
        } else {
            Failure::resource_exhausted(format!(
                "{SLOTS} requests of this connection are unanswered, the limit"
            ))
        };
        self.refuse(context, failure)
    }

    #[cold]
    #[inline(never)]
    fn refuse_unknown(&mut self, context: &Context<'_>) -> Result<(), End> {
        let message = format!("no handler for message type {}", context.message_type());
        self.refuse(context, Failure::unimplemented(message))
    }

    /// Answers a request that reaches no handler.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, context: &Context<'_>, failure: Failure) -> Result<(), End> {
        self.fail(context, &Turn::new(context), ErrorClass::Request, failure)
    }

    /// Answers a ping.
    #[cold]
    #[inline(never)]
    pub(super) fn pong(&mut self, header: Header, payload: &Payload<'_>) -> Result<(), End> {
        let header = Header::new(Kind::Pong, header.message_type, header.correlation);
        forward(self.sender, header, payload).map_err(End::Failed)
    }
}

#[cold]
fn too_short() -> Failure {
    Failure::invalid_argument("a request with a deadline has at least 8 bytes")
}

/// Asks the middleware, calls the handler (`None`) or answers in its place, and tells the middleware what came out.
#[cold]
#[inline(never)]
fn around(core: &Core, context: &Context<'_>, call: &mut Call<'_>) -> Caught {
    let started = Instant::now();
    let mut asked = 0;
    let mut caught = catch_unwind(AssertUnwindSafe(|| {
        for middleware in &core.middleware {
            asked += 1;
            match middleware.before(context)? {
                Flow::Continue => {}
                Flow::Answer(answer) => return call(Some(&answer)),
            }
        }
        call(None)
    }));
    let outcome = outcome_of(&caught, started.elapsed());
    for middleware in core.middleware[..asked].iter().rev() {
        let told = catch_unwind(AssertUnwindSafe(|| middleware.after(context, &outcome)));
        if let (Err(panic), Ok(_)) = (told, &caught) {
            caught = Err(panic);
        }
    }
    caught
}

fn outcome_of(caught: &Caught, elapsed: Duration) -> Outcome {
    let status = match caught {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(failure)) => failure.status(),
        Err(_) => Status::Internal,
    };
    Outcome { status, elapsed }
}
