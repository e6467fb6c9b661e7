//! The survivor's end of the connection: it waits as it is told to, and checks what it sees.

use std::sync::mpsc::{Receiver as Inbox, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::{Pid, gettid};
use ringwire::{Error, ErrorKind, Kind, Receiver, Sender, Stream, WaitStrategy};

use super::common::{assert_bytes, bytes, descriptors, segments, wait_until};
use super::rows::Wait;
use super::victims::header;

/// As long as the victim's large ones.
const PAYLOAD: &[u8] = &[7; 600];

/// What this process has open; the same again when a connection is over.
pub(crate) fn held() -> (usize, usize) {
    let id = std::process::id();
    (descriptors(id), segments(id))
}

pub(crate) struct Survivor {
    sender: Sender,
    receiver: Receiver,
    pub(crate) received: u64,
    sent: u64,
}

/// How a wait ended.
pub(crate) struct Outcome {
    pub(crate) survivor: Survivor,
    pub(crate) seen: Instant,
}

/// A survivor that waits on a thread of its own.
pub(crate) struct Waiting {
    thread: JoinHandle<Outcome>,
    wait: Wait,
    about_to_wait: Inbox<Pid>,
}

impl Survivor {
    pub(crate) fn new(stream: Stream) -> Self {
        let (sender, receiver) = stream.split();
        Self { sender, receiver, received: 0, sent: 0 }
    }

    /// Receives what the victim has sent, up to `total` messages in all, and says so.
    pub(crate) fn take(&mut self, total: u64) {
        while self.received < total {
            self.receive().unwrap();
        }
        self.receiver.publish_consumed();
    }

    pub(crate) fn send(&mut self, count: u64) {
        for _ in 0..count {
            self.sender.send(header(self.sent, PAYLOAD.len()), PAYLOAD).unwrap();
            self.sent += 1;
        }
    }

    /// The next message, which must be the one that comes next, and whole.
    fn receive(&mut self) -> Result<(), Error> {
        let message = self.receiver.receive()?;
        let found = message.header();
        let payload = message.payload().to_vec();
        assert_eq!(found, header(self.received, payload.len()), "message {}", self.received);
        assert_eq!(found.kind, Kind::Event);
        assert_bytes(&payload, &bytes(self.received, payload.len()), "message");
        self.received += 1;
        Ok(())
    }

    fn receive_until_error(&mut self) -> ErrorKind {
        loop {
            if let Err(error) = self.receive() {
                return error.kind();
            }
        }
    }

    fn send_until_error(&mut self) -> ErrorKind {
        loop {
            if let Err(error) = self.sender.send(header(self.sent, PAYLOAD.len()), PAYLOAD) {
                return error.kind();
            }
            self.sent += 1;
        }
    }

    /// The end as reads and writes find it.
    pub(crate) fn ends(&mut self) -> [ErrorKind; 2] {
        [self.receive_until_error(), self.send_until_error()]
    }

    /// Begins to wait on a thread of its own.
    pub(crate) fn begin(mut self, wait: Wait) -> Waiting {
        let strategy = match wait {
            Wait::Spin | Wait::RoomSpin => WaitStrategy::SpinOnly,
            _ => WaitStrategy::ParkAtOnce,
        };
        self.receiver.set_wait_strategy(strategy);
        self.sender.set_wait_strategy(strategy);
        let (waits, about_to_wait) = channel();
        let thread = thread::spawn(move || {
            match wait {
                Wait::Away => waits.send(gettid()).unwrap(),
                Wait::Spin | Wait::Futex | Wait::Lifeline => {
                    waits.send(gettid()).unwrap();
                    self.receive_until_error();
                }
                Wait::Room | Wait::RoomSpin => {
                    while self.sender.try_send(header(self.sent, PAYLOAD.len()), PAYLOAD).is_ok() {
                        self.sent += 1;
                    }
                    waits.send(gettid()).unwrap();
                    self.send_until_error();
                }
            }
            Outcome { survivor: self, seen: Instant::now() }
        });
        Waiting { thread, wait, about_to_wait }
    }
}

impl Waiting {
    /// Returns when it waits: whether it does so as it should. A reader's sleep on its word lasts 10 ms, and can be over
    /// before this thread sees it.
    pub(crate) fn until_it_waits(&self) -> bool {
        let thread = self.about_to_wait.recv().unwrap();
        let mut found = None;
        let mut is_one_of = |calls: &[libc::c_long]| {
            wait_until(|| {
                found = system_call_of(thread);
                found.is_some_and(|call| calls.contains(&call))
            });
            found
        };
        match self.wait {
            Wait::Futex => is_one_of(&[libc::SYS_futex, libc::SYS_ppoll]) == Some(libc::SYS_futex),
            Wait::Room => is_one_of(&[libc::SYS_futex]).is_some(),
            Wait::Lifeline => is_one_of(&[libc::SYS_ppoll]).is_some(),
            // Into the polling, for which there is no witness.
            Wait::Spin | Wait::RoomSpin => {
                thread::sleep(Duration::from_micros(200));
                true
            }
            Wait::Away => true,
        }
    }

    pub(crate) fn end(self) -> Outcome {
        self.thread.join().unwrap()
    }
}

/// The system call that a thread of this process is in.
fn system_call_of(thread: Pid) -> Option<libc::c_long> {
    let found = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap();
    found.split(' ').next()?.trim().parse().ok()
}
