//! What comes to a receiver besides messages: the attention of other threads, and cancellations.

use std::sync::Arc;

use super::connection::RingKernel;
use super::message::{Message, MessageReader};
use crate::ring;
use crate::shm::Segment;
use crate::sync::{Native, NativeArea, NativeWord, Ordering, Word};

/// What [`Receiver::receive_any`](crate::transport::Receiver::receive_any) came back with.
#[derive(Debug)]
pub enum Received<'a> {
    /// A message of one record.
    Whole(Message<'a>),
    /// A message that travels in fragments.
    Pieces(MessageReader<'a>),
    /// Another thread of this process wants this one: see [`Interrupter`].
    Interrupted,
}

/// Gets a receiving thread's attention from other threads of its process: made by
/// [`Receiver::interrupter`](crate::transport::Receiver::interrupter).
///
/// ```
/// use ringwire::transport::{Deadline, Received};
/// use ringwire::Stream;
/// let (_editor, mut engine) = Stream::pair()?;
/// let interrupter = engine.halves().1.interrupter();
/// let (say, hear) = std::sync::mpsc::channel();
/// let other = std::thread::spawn(move || {
///     say.send("tell the editor").unwrap();
///     interrupter.interrupt();
/// });
/// assert!(matches!(engine.receive_any(Deadline::NEVER)?, Received::Interrupted));
/// assert_eq!(hear.try_recv(), Ok("tell the editor"));
/// # other.join().unwrap();
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Interrupter(pub(super) ring::Interrupter<NativeArea, RingKernel>);

impl Interrupter {
    /// Ends the receiver's wait, or its next one: at once where it spins or sleeps on the lifeline, within 10 ms (mostly at
    /// once; 100 ms where threads queue for the cores, and for a server in the latency class) where it is just falling
    /// asleep. Several before it looks are one.
    ///
    /// First put what it is wanted for where it will look: that is visible behind the interruption.
    pub fn interrupt(&self) {
        self.0.interrupt::<Native>();
    }

    /// Ends this side's waits, for messages and for room, within 10 ms (100 where threads queue for the cores, and for a
    /// server in the latency class): the present ones and all further ones, with
    /// [`ErrorKind::PeerDied`](crate::ErrorKind::PeerDied). What is there can still be received, and what finds room is
    /// still sent; the peer sees nothing of it.
    pub fn end_waits(&self) {
        self.0.kernel().cut_off();
        self.0.kernel().cut_off_other();
        self.interrupt();
    }

    /// Ends the connection whatever its own thread is in the middle of: every wait of both sides ends within 10 ms (100 where
    /// threads queue for the cores, and for a server in the latency class), or at once on the lifeline, with
    /// [`ErrorKind::PeerDied`](crate::ErrorKind::PeerDied). What was committed before can still be received.
    pub fn hang_up(&self) {
        self.0.kernel().connection().hang_up();
    }
}

/// Whether a request has been given up by its caller, as told out of band: no message needs to be read for it.
#[derive(Clone, Copy, Debug)]
pub struct Cancellation<'a> {
    segment: &'a Arc<Segment>,
    correlation: u64,
}

/// What the client of a connection gives up, as its server sees it: made by
/// [`Stream::cancellations`](crate::Stream::cancellations).
///
/// ```
/// use ringwire::Stream;
/// use ringwire::wire::call;
/// let (client, server) = Stream::pair()?;
/// let cancellations = server.cancellations();
/// let request = call::correlation(1, 5);
/// assert!(!cancellations.of(request).is_cancelled());
/// client.cancel(request);
/// assert!(cancellations.of(request).is_cancelled());
/// assert!(!cancellations.of(call::correlation(2, 5)).is_cancelled());
/// # Ok::<(), ringwire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cancellations(Arc<Segment>);

impl Cancellations {
    pub(super) fn new(segment: &Arc<Segment>) -> Self {
        Self(Arc::clone(segment))
    }

    /// Of the request `correlation`.
    #[inline]
    #[must_use]
    pub fn of(&self, correlation: u64) -> Cancellation<'_> {
        Cancellation { segment: &self.0, correlation }
    }
}

impl Cancellation<'_> {
    /// One load from shared memory; the word is the peer's, who can only cancel its own.
    #[inline]
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        is_cancelled(self.segment, self.correlation)
    }

    /// The same for any thread and as long as it likes.
    #[must_use]
    pub fn to_shared(&self) -> SharedCancellation {
        SharedCancellation { segment: Arc::clone(self.segment), correlation: self.correlation }
    }
}

/// A [`Cancellation`] that outlives the borrow of its receiver, and keeps the connection's memory.
#[derive(Clone, Debug)]
pub struct SharedCancellation {
    segment: Arc<Segment>,
    correlation: u64,
}

impl SharedCancellation {
    /// As [`Cancellation::is_cancelled`].
    #[inline]
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        is_cancelled(&self.segment, self.correlation)
    }
}

#[inline]
fn is_cancelled(segment: &Segment, correlation: u64) -> bool {
    let mark = mark(correlation);
    mark != 0 && word(segment, correlation).load(Ordering::Relaxed) == mark
}

/// Tells the server that `correlation` is no longer wanted.
///
/// Relaxed on both sides: nothing else is read by it, and a store is seen within the time that a line takes to move.
pub(super) fn cancel(segment: &Segment, correlation: u64) {
    word(segment, correlation).store(mark(correlation), Ordering::Relaxed);
}

/// Says that nothing is cancelled in `slot`.
pub(super) fn take_back_cancel(segment: &Segment, slot: usize) {
    segment.cancel_word(slot).store(0, Ordering::Relaxed);
}

fn word(segment: &Segment, correlation: u64) -> &NativeWord {
    segment.cancel_word(crate::wire::call::slot_of(correlation))
}

/// The low half. 0 means that nothing is cancelled: a client leaves out sequences whose low half would be 0.
#[inline]
fn mark(correlation: u64) -> u32 {
    correlation as u32
}
