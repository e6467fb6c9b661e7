//! Connections in an event loop of the program's own: epoll, level- and edge-triggered, and mio. A wake-up that is lost is a
//! test that hangs, until the watchdog ends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod endings;
mod hostile;
mod serving;
mod steps;

use common::scene::{event, listen};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ringwire::{Error, Header, Readiness, Stream};

#[test]
fn child_entry() {
    common::child_entry(&[
        ("callers", serving::callers),
        ("bursts", serving::bursts),
        ("echo", serving::echo),
        ("sender", endings::sender),
    ]);
}

const TRIGGERS: [(&str, EpollFlags); 2] = [("level", EpollFlags::empty()), ("edge", EpollFlags::EPOLLET)];
/// Beside the connections' numbers.
const LISTENER: u64 = u64::MAX;

/// The next message if it is there; the stream is free again afterwards.
fn take_one(stream: &mut Stream) -> Result<Option<(Header, Vec<u8>)>, Error> {
    Ok(stream.try_receive()?.map(|message| (message.header(), message.payload().to_vec())))
}

/// One thread's epoll, and the connections in it.
struct EventLoop {
    epoll: Epoll,
    trigger: EpollFlags,
    connections: Vec<Option<Stream>>,
    /// How often it has been told that a connection is readable.
    turns: u64,
}

impl EventLoop {
    fn new(trigger: EpollFlags) -> Self {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        Self { epoll, trigger, connections: Vec::new(), turns: 0 }
    }

    fn with(trigger: EpollFlags, stream: Stream) -> Self {
        let mut events = Self::new(trigger);
        events.add(stream);
        events
    }

    /// Adds a connection that is not armed yet.
    fn add(&mut self, stream: Stream) -> usize {
        let number = self.connections.len();
        self.epoll.add(&stream, self.event(number as u64)).unwrap();
        self.connections.push(Some(stream));
        number
    }

    fn event(&self, data: u64) -> EpollEvent {
        EpollEvent::new(EpollFlags::EPOLLIN | self.trigger, data)
    }

    fn stream(&mut self, number: usize) -> &mut Stream {
        self.connections[number].as_mut().unwrap()
    }

    /// The numbers of those that are readable, or none after `limit`.
    fn wait(&mut self, limit: Option<Duration>) -> Vec<u64> {
        let timeout = limit.map_or(EpollTimeout::NONE, |limit| limit.try_into().unwrap());
        let mut events = [EpollEvent::empty(); 16];
        let count = self.epoll.wait(&mut events, timeout).unwrap();
        self.turns += count as u64;
        events[..count].iter().map(EpollEvent::data).collect()
    }

    /// Takes what connection `number` has until it is armed, or at its end, which is told.
    fn turn(
        &mut self,
        number: usize,
        mut take: impl FnMut(&mut Stream, Header, Vec<u8>),
    ) -> Result<(), Error> {
        let stream = self.stream(number);
        loop {
            match take_one(stream)? {
                Some((header, payload)) => take(stream, header, payload),
                None if stream.arm() == Readiness::Armed => return Ok(()),
                None => {}
            }
        }
    }

    fn remove(&mut self, number: usize) {
        self.epoll.delete(self.connections[number].take().unwrap()).unwrap();
    }
}
