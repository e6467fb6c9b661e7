//! A peer in a debugger's hands: attached, stopped in each of its waits, let go.

use std::io;
use std::ptr;
use std::thread;

use nix::libc;
use ringwire::Stream;

use super::common::{Second, Watchdog};
use super::stopped::traffic;
use super::{STAGES_MS, STRATEGIES, accept_from, listen, pause_ms, round_trip, stop_time};

/// A thread of another process in this thread's hands: the kernel knows a tracer by its thread.
struct Traced(libc::pid_t);

impl Traced {
    fn ask(&self, request: libc::c_uint) -> io::Result<()> {
        let none = ptr::null_mut::<libc::c_void>();
        // SAFETY: none of the requests used here reads or writes this process's memory.
        let result = unsafe { libc::ptrace(request, self.0, none, none) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Attaches without stopping it; `None` where that is not allowed.
    fn seize(thread_id: libc::pid_t) -> Option<Self> {
        let traced = Self(thread_id);
        match traced.ask(libc::PTRACE_SEIZE) {
            Ok(()) => Some(traced),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
                eprintln!("left out: ptrace is not allowed here");
                None
            }
        }
    }

    /// Stops it, and waits until it is.
    fn interrupt(&self) {
        self.ask(libc::PTRACE_INTERRUPT).unwrap();
        let mut status = 0;
        // SAFETY: the kernel writes the status, which outlives the call.
        let found = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        assert!(found == self.0 && libc::WIFSTOPPED(status), "status {status:#x}");
    }

    fn resume(&self) {
        self.ask(libc::PTRACE_CONT).unwrap();
    }

    fn let_go(self) {
        self.ask(libc::PTRACE_DETACH).unwrap();
    }
}

fn echoing(name: &str) -> (Stream, Second, libc::pid_t) {
    let (_directory, mut listener) = listen();
    let (mut stream, mut child) = accept_from(&mut listener, "echo", name, &[]);
    let thread_id = child.hear().parse().unwrap();
    round_trip(&mut stream, 0);
    (stream, child, thread_id)
}

#[test]
fn a_peer_held_by_a_debugger_is_waited_for() {
    let _watchdog = Watchdog::start();
    thread::scope(|scope| {
        for ((name, _), stage_ms) in STRATEGIES.iter().zip(STAGES_MS) {
            scope.spawn(move || {
                let (mut stream, child, thread_id) = echoing(name);
                pause_ms(stage_ms);
                let Some(traced) = Traced::seize(thread_id) else { return };
                traced.interrupt();
                thread::scope(|scope| {
                    let waiting = scope.spawn(|| round_trip(&mut stream, 1));
                    thread::sleep(stop_time());
                    assert!(!waiting.is_finished());
                    traced.let_go();
                });
                round_trip(&mut stream, 2);
                drop(stream);
                child.join();
            });
        }
    });
}

#[test]
fn a_peer_interrupted_by_a_debugger_again_and_again_loses_nothing() {
    let _watchdog = Watchdog::start();
    let (mut stream, child, thread_id) = echoing("spin then park");
    thread::scope(|scope| {
        let debugger = scope.spawn(move || {
            let Some(traced) = Traced::seize(thread_id) else { return };
            for round in 0..300 {
                traced.interrupt();
                pause_ms(round % 2);
                traced.resume();
                pause_ms(round % 3);
            }
            traced.interrupt();
            traced.let_go();
        });
        assert!(traffic(&mut stream, || debugger.is_finished()) > 0);
    });
    drop(stream);
    child.join();
}
