//! A thousand signals a second, with a handler and without `SA_RESTART`, during every kind of wait.

use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use ringwire::sync::Counter;
use ringwire::{Error, ErrorKind, Listener, Stream};

use super::common::{Watchdog, second, setting};
use super::{STRATEGIES, bytes, event, is_a, pause_ms, place, receives, strategy};

static HANDLED: Counter = Counter::new(0);

extern "C" fn handle(_: libc::c_int) {
    HANDLED.add(1);
}

/// Disturbs this thread every millisecond, as long as it lives.
fn disturb() -> Timer {
    let action = SigAction::new(SigHandler::Handler(handle), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing but add to an atomic number.
    unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
    let thread_id = nix::unistd::gettid().as_raw();
    let notify = SigevNotify::SigevThreadId { signal: Signal::SIGALRM, thread_id, si_value: 0 };
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify)).unwrap();
    let every = Expiration::Interval(Duration::from_millis(1).into());
    timer.set(every, TimerSetTimeFlags::empty()).unwrap();
    timer
}

const TIMEOUT: Duration = Duration::from_millis(300);
/// What a loaded machine may add: the bound that tells a kept deadline from one that each signal puts off.
const GRACE: Duration = Duration::from_secs(10);

/// Waits in vain until the deadline.
#[track_caller]
fn times_out<T>(wait: impl FnOnce() -> Result<T, Error>) {
    let (started, handled) = (Instant::now(), HANDLED.get());
    is_a(ErrorKind::TimedOut, wait());
    let took = started.elapsed();
    assert!((TIMEOUT..TIMEOUT + GRACE).contains(&took), "{took:?}");
    let handled = HANDLED.get() - handled;
    // Those that came while this thread did not run are one; each of the few would do.
    assert!(handled > 5, "{handled} signals in {took:?}");
}

/// The second process: each wait once in vain, and once until what it waits for comes.
pub(crate) fn disturbed() {
    let timer = disturb();
    match setting("WAIT").as_str() {
        "message" => waits_for_messages(),
        "room" => waits_for_room(),
        "client" => waits_for_clients(),
        "server" => waits_for_a_server(),
        "memory" => waits_for_memory(),
        other => panic!("{other}"),
    }
    drop(timer);
}

fn pair() -> (Stream, Stream) {
    Stream::pair_with(4096, strategy(&setting("STRATEGY"))).unwrap()
}

fn waits_for_messages() {
    let (mut one, mut two) = pair();
    one.set_receive_timeout(Some(TIMEOUT));
    times_out(|| one.receive());
    times_out(|| one.receive_into(&mut Vec::new()));
    one.set_receive_timeout(Some(GRACE));
    // In the spin, asleep on the word, on the lifeline.
    for (number, after_ms) in [0, 3, 7, 50, 100].into_iter().enumerate() {
        thread::scope(|scope| {
            let two = &mut two;
            scope.spawn(move || {
                pause_ms(after_ms);
                two.send(event(number as u64), &bytes(number as u64, 100)).unwrap();
            });
            receives(&mut one, number as u64);
        });
    }
}

fn waits_for_room() {
    let (mut one, mut two) = pair();
    one.set_send_timeout(Some(TIMEOUT));
    while one.try_send(event(0), &[0; 500]).is_ok() {}
    times_out(|| one.send(event(0), &[0; 500]));
    one.set_send_timeout(Some(GRACE));
    for after_ms in [0, 3, 7, 50] {
        while one.try_send(event(0), &[0; 500]).is_ok() {}
        thread::scope(|scope| {
            let two = &mut two;
            scope.spawn(move || {
                pause_ms(after_ms);
                while two.try_receive().unwrap().is_some() {}
            });
            one.send(event(1), &[0; 500]).unwrap();
        });
    }
}

fn waits_for_clients() {
    let (_directory, path) = place();
    let mut listener = Listener::bind(&path).unwrap();
    times_out(|| listener.accept_timeout(TIMEOUT));
    // One that never greets.
    let _silent = UnixStream::connect(&path).unwrap();
    times_out(|| listener.accept_timeout(TIMEOUT));
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            pause_ms(50);
            Stream::connect(&path).unwrap()
        });
        listener.accept().unwrap();
        client.join().unwrap();
    });
}

fn waits_for_a_server() {
    let (_directory, path) = place();
    let connecting = |timeout| Stream::builder(&path).timeout(timeout).connect();
    // One that never answers.
    let silent = UnixListener::bind(&path).unwrap();
    times_out(|| connecting(TIMEOUT));
    drop(silent);
    std::fs::remove_file(&path).unwrap();
    // One that never accepts, and whose backlog is full.
    let address = UnixAddr::new(&path).unwrap();
    let make = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let full = make();
    bind(full.as_raw_fd(), &address).unwrap();
    listen(&full, Backlog::new(0).unwrap()).unwrap();
    let clients: Vec<_> = (0..2).map(|_| make()).collect();
    let connected = clients.iter().filter(|client| connect(client.as_raw_fd(), &address).is_ok()).count();
    assert_eq!(connected, 1);
    times_out(|| connecting(TIMEOUT));
    drop((full, clients));
    // And one that is late.
    let mut listener = Listener::bind(&path).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            pause_ms(100);
            listener.accept().unwrap()
        });
        connecting(GRACE).unwrap();
    });
}

/// Allocating memory takes longer than the time between two signals.
fn waits_for_memory() {
    let (_directory, path) = place();
    let mut listener = Listener::builder(&path).ring_bytes(32 << 20).reserve(true).bind().unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(|| Stream::connect(&path));
        // A client that is refused leaves nobody to accept.
        let accepted = listener.accept_timeout(GRACE);
        client.join().unwrap().unwrap();
        accepted.unwrap();
    });
}

#[test]
fn a_thousand_signals_a_second_neither_end_a_wait_nor_put_off_its_deadline() {
    let _watchdog = Watchdog::start();
    for (name, _) in STRATEGIES {
        let start = |wait| second("disturbed", &[("WAIT", wait), ("STRATEGY", name)]);
        for child in ["message", "room"].map(start) {
            child.join();
        }
    }
    for child in ["client", "server"].map(|wait| second("disturbed", &[("WAIT", wait)])) {
        child.join();
    }
}

#[test]
fn signals_do_not_keep_memory_from_being_reserved() {
    let _watchdog = Watchdog::start();
    second("disturbed", &[("WAIT", "memory")]).join();
}
