//! The kernel's part: sleeping on words, and the lifeline.

use core::fmt;
use std::rc::Rc;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};
use ringwire::sync::{Heard, Kernel};
use ringwire::wait::Deadline;

use crate::LoomWord;

/// When a sleep on a word ends without a wake-up. There is no time in a model: no deadline comes, but for [`PAST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slices {
    /// Never, so that only a wake-up helps.
    Endless,
    /// At once, so that a reader goes over to the lifeline. (A writer would try again for ever.)
    Over,
    /// Once the peer has hung up, as a slice of 5 ms then does sooner or later; see [`LoomKernel::end_slice`].
    UntilHangUp,
}

/// A deadline that has passed: no sleep with it lasts.
pub const PAST: Deadline = Deadline::at_ns(1);

#[derive(Debug, Default)]
struct Line {
    bytes: u32,
    hung_up: bool,
    /// Something came that an edge-triggered event loop has not been told of.
    news: bool,
}

impl Line {
    fn is_readable(&self) -> bool {
        self.bytes > 0 || self.hung_up
    }
}

/// How an event loop is told that a descriptor is readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// For as long as it is.
    Level,
    /// Once for each time that something comes, if it is still there.
    Edge,
}

/// One end of a lifeline: what has arrived there.
struct Doorbell {
    line: Mutex<Line>,
    arrived: Condvar,
}

impl Doorbell {
    fn new() -> Rc<Self> {
        Rc::new(Self { line: Mutex::new(Line::default()), arrived: Condvar::new() })
    }

    fn ring(&self) {
        let mut line = self.line.lock().unwrap();
        line.bytes += 1;
        line.news = true;
        drop(line);
        self.arrived.notify_one();
    }

    fn hang_up(&self) {
        let mut line = self.line.lock().unwrap();
        line.hung_up = true;
        line.news = true;
        drop(line);
        self.arrived.notify_one();
    }

    fn is_hung_up(&self) -> bool {
        self.line.lock().unwrap().hung_up
    }

    /// Takes in nothing.
    fn poll(&self, trigger: Trigger) {
        let mut line = self.line.lock().unwrap();
        while !line.is_readable() || trigger == Trigger::Edge && !line.news {
            line.news = false;
            line = self.arrived.wait(line).unwrap();
        }
        line.news = false;
    }

    /// Takes in everything; a hang-up is told at once, even with bytes in front of it.
    fn listen(&self, lasts: bool) -> Heard {
        let mut line = self.line.lock().unwrap();
        while lasts && line.bytes == 0 && !line.hung_up {
            line = self.arrived.wait(line).unwrap();
        }
        let bytes = core::mem::take(&mut line.bytes);
        match (line.hung_up, bytes) {
            (true, _) => Heard::HungUp,
            (false, 0) => Heard::Nothing,
            (false, _) => Heard::Bell,
        }
    }
}

/// The kernel as one process sees it.
#[derive(Clone)]
pub struct LoomKernel {
    own: Rc<Doorbell>,
    peer: Rc<Doorbell>,
    slices: Slices,
    /// What other threads of this process raise.
    signal: Rc<AtomicU32>,
}

impl fmt::Debug for LoomKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoomKernel").field("slices", &self.slices).finish_non_exhaustive()
    }
}

/// The two ends of a new lifeline, and how the threads at either end sleep on words.
#[must_use]
pub fn lifeline(here: Slices, there: Slices) -> (LoomKernel, LoomKernel) {
    let (a, b) = (Doorbell::new(), Doorbell::new());
    let end = |own: &Rc<Doorbell>, peer: &Rc<Doorbell>, slices| LoomKernel {
        own: Rc::clone(own),
        peer: Rc::clone(peer),
        slices,
        signal: Rc::new(AtomicU32::new(0)),
    };
    (end(&a, &b, here), end(&b, &a, there))
}

impl LoomKernel {
    /// The process at this end dies: the kernel closes its end.
    pub fn die(&self) {
        self.peer.hang_up();
    }

    /// After [`LoomKernel::die`]: the slice of whoever sleeps on `word` comes to its end.
    pub fn end_slice(&self, word: &LoomWord) {
        word.wake_one();
    }

    /// An event loop sleeps until this end of the lifeline is readable.
    pub fn poll(&self, trigger: Trigger) {
        self.own.poll(trigger);
    }

    /// As [`ringwire::sync::Signal::take`]. (A swap that finds nothing might, for loom, take back a later raise.)
    #[must_use]
    pub fn take_interruption(&self) -> bool {
        self.is_interrupted() && self.signal.swap(0, Ordering::AcqRel) != 0
    }

    fn slice_lasts(&self) -> bool {
        match self.slices {
            Slices::Endless => true,
            Slices::Over => false,
            Slices::UntilHangUp => !self.own.is_hung_up(),
        }
    }
}

impl Kernel<LoomWord> for LoomKernel {
    fn sleep(&self, word: &LoomWord, expected: u32, until_ns: u64) {
        word.sleep_while(expected, || until_ns > PAST.as_ns() && self.slice_lasts());
    }
    fn wake(&self, word: &LoomWord) {
        word.wake_one();
    }
    fn listen(&self, until_ns: u64) -> Heard {
        self.own.listen(until_ns > PAST.as_ns())
    }
    fn ring_bell(&self) {
        self.peer.ring();
    }
    fn peer_is_gone(&self) -> bool {
        self.own.is_hung_up()
    }
    fn is_interrupted(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }
    fn interrupt(&self) {
        // As ringwire::sync::Signal::raise.
        self.signal.swap(1, Ordering::Release);
    }
    fn end_listening(&self) {
        self.own.ring();
    }
    fn discard(&self, _from: u32, _to: u32) {}
}
