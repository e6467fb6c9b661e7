//! One send and one receive of 64 bytes, single-stepped: the victim is killed after each instruction.
#![cfg(target_arch = "x86_64")]

use std::arch::asm;
use std::path::Path;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};
use ringwire::{ErrorKind, Listener, Stream, WaitStrategy};

use super::common::{Second, Watchdog, bytes, say, second, setting, told};
use super::rows::Wait;
use super::survivor::{Survivor, held};
use super::victims::{header, survived};
use super::{alone, number};

const PAYLOAD_BYTES: usize = 64;
/// The short form steps over this many.
const STRIDE: u64 = 7;
/// And does not go through more of them for one operation: unoptimised code has thousands of instructions.
const SHORT_FORM: u64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Send,
    Receive,
}

/// The debugger takes over here.
#[inline(always)]
fn breakpoint() {
    // SAFETY: the trap is the tracer's; nothing is read or written.
    unsafe { asm!("int3", options(nomem, nostack)) };
}

/// The second process: stops before and behind the operation.
pub(crate) fn stepped() {
    let connector = Stream::builder(setting("SOCKET")).ring_bytes(4096);
    let mut stream = connector.wait_strategy(WaitStrategy::ParkAtOnce).connect().unwrap();
    let mut received = vec![0; PAYLOAD_BYTES];
    // Once before: what happens at the first time only is over.
    for number in 0..2 {
        stream.send(header(number, PAYLOAD_BYTES), &bytes(number, PAYLOAD_BYTES)).unwrap();
    }
    stream.receive().unwrap().payload().copy_to(&mut received);
    let (header, payload) = (header(2, PAYLOAD_BYTES), bytes(2, PAYLOAD_BYTES));
    ptrace::traceme().unwrap();
    say(&gettid().to_string());
    told();
    if setting("DOING") == "Send" {
        breakpoint();
        let sent = stream.send(header, &payload);
        breakpoint();
        sent.unwrap();
    } else {
        breakpoint();
        if let Ok(message) = stream.receive() {
            message.payload().copy_to(&mut received);
        }
        breakpoint();
    }
    survived()
}

/// The traced thread of the second process.
struct Traced {
    thread: Pid,
    victim: Second,
}

impl Traced {
    /// Goes on until the breakpoint in front of the operation.
    fn until_breakpoint(&self) {
        assert_eq!(self.wait(), WaitStatus::Stopped(self.thread, Signal::SIGTRAP));
        assert!(self.is_at_breakpoint());
    }

    fn wait(&self) -> WaitStatus {
        waitpid(self.thread, Some(WaitPidFlag::__WALL)).unwrap()
    }

    /// And not behind a step.
    fn is_at_breakpoint(&self) -> bool {
        ptrace::getsiginfo(self.thread).unwrap().si_code != TRAP_TRACE
    }

    /// Executes up to `count` instructions; how many it were, less if the operation ended.
    fn step(&self, count: u64) -> u64 {
        for done in 0..count {
            ptrace::step(self.thread, None).unwrap();
            assert_eq!(self.wait(), WaitStatus::Stopped(self.thread, Signal::SIGTRAP));
            if self.is_at_breakpoint() {
                return done;
            }
        }
        count
    }

    fn kill(mut self) {
        let id = Pid::from_raw(self.victim.id().cast_signed());
        kill(id, Signal::SIGKILL).unwrap();
        assert_eq!(self.wait(), WaitStatus::Signaled(self.thread, Signal::SIGKILL, false));
        if self.thread != id {
            self.victim.end();
        }
    }
}

const TRAP_TRACE: i32 = 2;

/// Kills the victim behind the instruction `at` of `operation`; says where it was, and what the survivor has seen of it.
fn kill_at(listener: &mut Listener, operation: Operation, at: u64, wait: Wait) -> (u64, u64) {
    let _watchdog = Watchdog::start();
    let before = held();
    let doing = format!("{operation:?}");
    let path = listener.path().to_str().unwrap().to_owned();
    let mut victim = second("stepped", &[("SOCKET", &path), ("DOING", &doing)]);
    let mut survivor = Survivor::new(listener.accept().unwrap());
    survivor.send(if operation == Operation::Receive { 2 } else { 1 });
    survivor.take(2);
    let thread = Pid::from_raw(victim.hear().parse().unwrap());
    let waiting = survivor.begin(wait);
    waiting.until_it_waits();
    victim.tell("go");
    let traced = Traced { thread, victim };
    traced.until_breakpoint();
    let done = traced.step(at);
    traced.kill();
    let mut survivor = waiting.end().survivor;
    assert_eq!(survivor.ends(), [ErrorKind::PeerDied; 2]);
    let seen = survivor.received - 2;
    drop(survivor);
    assert_eq!(held(), before, "descriptors and mappings");
    (done, seen)
}

/// Instructions to be killed behind: all of them, or some that differ from one process to the next.
fn places(total: u64) -> Box<dyn Iterator<Item = u64>> {
    if number("RINGWIRE_KILL_RUNS").is_some() {
        return Box::new(1..=total);
    }
    let stride = STRIDE.max(total.div_ceil(SHORT_FORM));
    Box::new((u64::from(std::process::id()) % stride..=total).step_by(usize::try_from(stride).unwrap()))
}

fn kill_behind_each_instruction(operation: Operation, waits: &[Wait]) {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::bind(Path::new(directory.path()).join("s.sock")).unwrap();
    let (total, seen) = kill_at(&mut listener, operation, u64::MAX, Wait::Away);
    assert_eq!(seen, u64::from(operation == Operation::Send), "killed behind the operation");
    let mut kills = 0;
    let mut first_seen = None;
    for (at, wait) in places(total).zip(waits.iter().cycle()) {
        let (done, seen) = kill_at(&mut listener, operation, at, *wait);
        kills += 1;
        assert!(
            seen <= u64::from(operation == Operation::Send && done > 0),
            "{seen} messages at {at}, {wait:?}"
        );
        if seen == 1 {
            first_seen.get_or_insert(done);
        }
    }
    let first_seen = first_seen.map_or_else(|| "never seen".into(), |at| format!("first seen behind {at}"));
    println!("{operation:?}: {total} instructions, {kills} kills, {first_seen}");
}

#[test]
fn a_send_killed_behind_each_instruction_is_whole_or_nothing() {
    kill_behind_each_instruction(Operation::Send, &[Wait::Away, Wait::Futex, Wait::Spin, Wait::Lifeline]);
}

#[test]
fn a_receive_killed_behind_each_instruction_spoils_nothing() {
    kill_behind_each_instruction(Operation::Receive, &[Wait::Away, Wait::Room, Wait::Spin, Wait::RoomSpin]);
}
