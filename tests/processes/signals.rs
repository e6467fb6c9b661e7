//! Signals that arrive during a wait, and the one that a write to a closed socket would raise.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use ringwire::sync::{Area, Ordering::Relaxed, Word};
use ringwire::{ErrorKind, Listener};

use super::common::raw::raw_client;
use super::common::{Watchdog, assert_bytes, bytes, say, second};
use super::deaths::assert_died;
use super::{STRATEGIES, accept_from, connect, event, listen};

/// The second process: signals with a handler arrive while it waits, for messages and for room.
pub(crate) fn signalled() {
    extern "C" fn ignore(_: nix::libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let mut stream = connect();
    say(&nix::unistd::gettid().to_string());
    for number in 0..3 {
        assert_eq!(stream.receive().unwrap().header(), event(number));
    }
    stream.send(event(0), &bytes(0, 1 << 20)).unwrap();
}

/// The second process: a write to a closed socket would end it.
pub(crate) fn unguarded() {
    // SAFETY: back to what the system does.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::bind(directory.path().join("s.sock")).unwrap();
    let (mut stream, peer) = raw_client(&mut listener, 4096);
    // Asleep on the lifeline for the first record, and then gone.
    peer.back.reader_parked().store(3, Relaxed);
    drop(peer.lifeline);
    stream.send(event(0), b"a bell that nobody hears").unwrap();
    assert_died(stream.receive());
    // A client that hangs up before it is refused or welcomed.
    for _ in 0..20 {
        drop(UnixStream::connect(listener.path()).unwrap());
        let mut client = UnixStream::connect(listener.path()).unwrap();
        client.write_all(b"nonsense").unwrap();
        drop(client);
        let end = listener.accept_timeout(Duration::from_millis(1)).map(drop).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::TimedOut);
    }
    say("alive");
}

#[test]
fn signals_do_not_end_a_wait() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (name, _) in STRATEGIES {
        let (mut stream, mut child) = accept_from(&mut listener, "signalled", name, 4096);
        let thread_id = Pid::from_raw(child.hear().parse().unwrap());
        let disturb = |pause_us| {
            for _ in 0..40 {
                kill(thread_id, Signal::SIGUSR1).unwrap();
                thread::sleep(Duration::from_micros(pause_us));
            }
        };
        for number in 0..3 {
            disturb(700);
            stream.send(event(number), b"").unwrap();
        }
        disturb(100);
        let mut buffer = Vec::new();
        assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(0));
        assert_bytes(&buffer, &bytes(0, 1 << 20), name);
        child.join();
    }
}

#[test]
fn no_write_raises_sigpipe() {
    let _watchdog = Watchdog::start();
    let mut child = second("unguarded", &[]);
    assert_eq!(child.hear(), "alive");
    child.join();
}
