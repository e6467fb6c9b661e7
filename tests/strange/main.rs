//! Processes that are stopped, forked, replaced, disturbed or short of something, and paths that others meddle with.
//!
//! `RINGWIRE_STRANGE=full cargo test --test strange` stops processes for 10 s instead of one, and kills the winners of
//! 1,000 races instead of as many as fit into some seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod clocks;
mod debugger;
mod files;
mod forked;
mod leaving;
mod limits;
mod races;
mod signals;
mod stopped;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, thread};

use common::scene::{STRATEGIES, event, listen, place, strategy};
use common::{Second, bytes, comes_true, second, setting};
use nix::sys::signal::Signal;
use ringwire::{Error, ErrorKind, Listener, Stream};

#[test]
fn child_entry() {
    common::child_entry(&[
        ("echo", echo),
        ("accepting echo", accepting_echo),
        ("flood", stopped::flood),
        ("late", clocks::late),
        ("late server", clocks::late_server),
        ("into another time", clocks::into_another_time),
        ("in another time", clocks::in_another_time),
        ("fork", forked::forking),
        ("forking server", forked::forking_server),
        ("replaced", leaving::replaced),
        ("inventory", leaving::inventory),
        ("leaver", leaving::leaver),
        ("leaving server", leaving::leaving_server),
        ("out of descriptors", limits::out_of_descriptors),
        ("out of threads", limits::out_of_threads),
        ("out of memory", limits::out_of_memory),
        ("pair out of memory", limits::pair_out_of_memory),
        ("disturbed", signals::disturbed),
        ("read-only", files::read_only),
        ("unprivileged", files::unprivileged),
        ("racer", races::racer),
        ("doomed racer", races::doomed_racer),
    ]);
}

/// How long after a wait began: still in its spin or just asleep, on the word, on the lifeline.
const STAGES_MS: [u64; 3] = [0, 4, 60];

fn is_full_form() -> bool {
    env::var("RINGWIRE_STRANGE").is_ok_and(|form| form == "full")
}

/// How long a process is stopped.
fn stop_time() -> Duration {
    Duration::from_secs(if is_full_form() { 10 } else { 1 })
}

/// Starts `role` as a client of `listener`, with rings of 4 KiB.
fn accept_from(
    listener: &mut Listener,
    role: &str,
    strategy_name: &str,
    more: &[(&str, &str)],
) -> (Stream, Second) {
    let path = listener.path().to_str().unwrap().to_owned();
    let mut settings = vec![("SOCKET", path.as_str()), ("STRATEGY", strategy_name)];
    settings.extend(more);
    let child = second(role, &settings);
    let mut stream = listener.accept().unwrap();
    stream.set_wait_strategy(strategy(strategy_name));
    (stream, child)
}

fn socket() -> PathBuf {
    Path::new(&setting("SOCKET")).to_owned()
}

/// In a second process: connects as the parent wants it.
fn connect() -> Stream {
    let builder = Stream::builder(socket()).ring_bytes(4096);
    builder.wait_strategy(strategy(&setting("STRATEGY"))).connect().unwrap()
}

/// The second process: sends back what it receives, until the other side closes.
fn echo() {
    common::say(&nix::unistd::gettid().to_string());
    send_back(connect());
}

/// The same as the server.
fn accepting_echo() {
    let mut listener = Listener::bind(socket()).unwrap();
    common::say("bound");
    send_back(listener.accept().unwrap());
}

fn send_back(mut stream: Stream) {
    let mut buffer = Vec::new();
    loop {
        match stream.receive_into(&mut buffer) {
            Ok(header) => stream.send(header, &buffer).unwrap(),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}"),
        }
    }
}

/// A message out and back.
#[track_caller]
fn round_trip(stream: &mut Stream, number: u64) {
    stream.send(event(number), &bytes(number, 100)).unwrap();
    receives(stream, number);
}

/// What `round_trip` has sent.
#[track_caller]
fn receives(stream: &mut Stream, number: u64) {
    let message = stream.receive().unwrap();
    assert_eq!(message.header(), event(number));
    assert_eq!(message.payload().to_vec(), bytes(number, 100));
}

#[track_caller]
fn is_a<T>(kind: ErrorKind, result: Result<T, Error>) -> String {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

/// The letter of a process's state: `T` stopped, `t` held by a tracer, `Z` ended.
fn state(id: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, behind_name) = stat.rsplit_once(") ").unwrap();
    behind_name.chars().next().unwrap()
}

/// Stops `child` for good: SIGSTOP only asks for it.
fn stop(child: &Second) {
    child.signal(Signal::SIGSTOP);
    assert!(comes_true(Duration::from_secs(10), || state(child.id()) == 'T'), "did not stop");
}

fn go_on(child: &Second) {
    child.signal(Signal::SIGCONT);
}

fn pause_ms(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
