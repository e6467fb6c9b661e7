//! Deadlines and clocks that run on: a process stopped beyond its deadline, and one whose clock shows another time.
//!
//! A suspended machine stops its processes and `CLOCK_MONOTONIC` with them, so no deadline comes nearer. Stopping the
//! processes alone is the harder case, and it can be tested: time goes on without them.

use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use nix::libc;
use ringwire::wait::Deadline;
use ringwire::{ErrorKind, Listener, Stream};

use super::common::{Second, Watchdog, assert_bytes, bytes, say, second, setting, told, wait_until};
use super::{
    STRATEGIES, connect, event, go_on, is_a, listen, pause_ms, place, round_trip, send_back, socket, stop,
    strategy,
};

const TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than the deadline.
const STOPPED: Duration = Duration::from_millis(1_200);
/// Travels in fragments, all of which fit into the ring.
const LENGTH: usize = 40_000;

/// In a second process: says since when it waits.
fn say_waiting() {
    say(&Deadline::now_ns().to_string());
}

/// Stops `child`, which says since when it waits. `false` if that was too late to be sure that it was waiting then: a
/// loaded machine, and no test of anything.
fn stop_in_time(child: &mut Second, stage_ms: u64) -> bool {
    let since_ns: u64 = child.hear().parse().unwrap();
    pause_ms(stage_ms);
    stop(child);
    Duration::from_nanos(Deadline::now_ns() - since_ns) < TIMEOUT * 3 / 4
}

/// The second process: a wait of one second, begun right after it says so.
pub(crate) fn late() {
    let wait = setting("WAIT");
    let builder = Stream::builder(socket()).ring_bytes(64 << 10).timeout(TIMEOUT);
    if wait == "connect" {
        told();
        say_waiting();
        drop(builder.connect().unwrap());
        return say("in time");
    }
    let mut stream = builder.wait_strategy(strategy(&setting("STRATEGY"))).connect().unwrap();
    stream.set_receive_timeout(Some(TIMEOUT));
    stream.set_send_timeout(Some(TIMEOUT));
    if wait == "receive" {
        say_waiting();
        let mut buffer = Vec::new();
        assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(7));
        assert_bytes(&buffer, &bytes(7, LENGTH), "whole");
    } else {
        while stream.try_send(event(0), &[0; 500]).is_ok() {}
        say_waiting();
        stream.send(event(1), &[0; 500]).unwrap();
    }
    say("in time");
    told();
}

/// The second process: the server of the one above. Does its part when it is told to.
pub(crate) fn late_server() {
    let mut listener = Listener::bind(socket()).unwrap();
    say("bound");
    let mut stream = match setting("WAIT").as_str() {
        "accept" => {
            told();
            say_waiting();
            drop(listener.accept_timeout(TIMEOUT).unwrap());
            return say("in time");
        }
        _ => listener.accept().unwrap(),
    };
    match setting("WAIT").as_str() {
        "receive" => {
            told();
            stream.send(event(7), &bytes(7, LENGTH)).unwrap();
        }
        "send" => {
            told();
            while stream.try_receive().unwrap().is_some() {}
        }
        _ => {}
    }
    say("done");
    told();
}

fn start(role: &str, wait: &str, strategy: &str, path: &str) -> Second {
    second(role, &[("SOCKET", path), ("WAIT", wait), ("STRATEGY", strategy)])
}

/// `client` waits; the server does what it waits for while it is stopped, and is stopped itself; the deadline passes.
fn both_stopped(name: &str, wait: &str, stage_ms: u64) -> bool {
    let (_directory, path) = place();
    let path = path.to_str().unwrap();
    let mut server = start("late server", wait, name, path);
    assert_eq!(server.hear(), "bound");
    let mut client = start("late", wait, name, path);
    if !stop_in_time(&mut client, stage_ms) {
        return false;
    }
    server.tell("do it");
    assert_eq!(server.hear(), "done");
    stop(&server);
    thread::sleep(STOPPED);
    go_on(&client);
    assert_eq!(client.hear(), "in time", "{name} {wait} {stage_ms} ms");
    go_on(&server);
    server.tell("end");
    client.tell("end");
    client.join();
    server.join();
    true
}

#[test]
fn what_is_there_when_a_stopped_process_goes_on_is_taken_though_the_deadline_has_passed() {
    let _watchdog = Watchdog::start();
    thread::scope(|scope| {
        for (name, _) in STRATEGIES {
            for wait in ["receive", "send"] {
                for stage_ms in [4, 60] {
                    scope.spawn(move || wait_until(|| both_stopped(name, wait, stage_ms)));
                }
            }
        }
    });
}

fn an_answer_to_a_stopped_client() -> bool {
    let (_directory, path) = place();
    let path = path.to_str().unwrap();
    let mut server = start("late server", "connect", "park", path);
    assert_eq!(server.hear(), "bound");
    let mut client = start("late", "connect", "park", path);
    stop(&server);
    client.tell("go");
    if !stop_in_time(&mut client, 50) {
        return false;
    }
    go_on(&server);
    assert_eq!(server.hear(), "done", "it has accepted");
    thread::sleep(STOPPED);
    go_on(&client);
    assert_eq!(client.hear(), "in time");
    server.tell("end");
    client.join();
    server.join();
    true
}

#[test]
fn an_answer_that_came_while_the_client_was_stopped_connects_it() {
    let _watchdog = Watchdog::start();
    wait_until(an_answer_to_a_stopped_client);
}

fn a_client_of_a_stopped_server() -> bool {
    let (_directory, path) = place();
    let mut server = start("late server", "accept", "park", path.to_str().unwrap());
    assert_eq!(server.hear(), "bound");
    server.tell("go");
    if !stop_in_time(&mut server, 50) {
        return false;
    }
    thread::scope(|scope| {
        let client = scope.spawn(|| Stream::connect(&path));
        thread::sleep(STOPPED);
        go_on(&server);
        client.join().unwrap().unwrap();
    });
    assert_eq!(server.hear(), "in time");
    server.join();
    true
}

#[test]
fn a_client_that_came_while_the_server_was_stopped_is_accepted() {
    let _watchdog = Watchdog::start();
    wait_until(a_client_of_a_stopped_server);
}

/// A day and some: what a clock that starts at boot may differ by between two machines' snapshots.
const SHIFT_S: u64 = 100_000;

/// The second process: starts a third one whose `CLOCK_MONOTONIC` shows another time.
pub(crate) fn into_another_time() {
    const CLONE_NEWTIME: libc::c_int = 0x80;
    // SAFETY: only children are moved into the new namespace.
    if unsafe { libc::unshare(CLONE_NEWTIME) } != 0 {
        return say(&format!("left out: {}", io::Error::last_os_error()));
    }
    // By its thread: the first thread of the process has not left its namespace.
    let offsets = format!("/proc/{}/timens_offsets", nix::unistd::gettid());
    fs::write(offsets, format!("monotonic {SHIFT_S} 0\n")).unwrap();
    let arguments = ["--exact", "child_entry", "--nocapture", "--test-threads=1"];
    let mut shifted = Command::new(env::current_exe().unwrap());
    shifted.args(arguments).env("RINGWIRE_TEST_ROLE", "in another time");
    shifted.env("NOW_NS", Deadline::now_ns().to_string());
    say("moving");
    assert!(shifted.status().unwrap().success());
}

/// The third process: keeps its own deadlines, and echoes.
pub(crate) fn in_another_time() {
    let then_ns: u64 = setting("NOW_NS").parse().unwrap();
    assert!(Deadline::now_ns() > then_ns + SHIFT_S * 1_000_000_000, "the clock is not shifted");
    let mut stream = connect();
    stream.set_receive_timeout(Some(Duration::from_millis(100)));
    let started = Instant::now();
    is_a(ErrorKind::TimedOut, stream.receive());
    assert!(started.elapsed() >= Duration::from_millis(100));
    stream.set_receive_timeout(None);
    say("echoing");
    send_back(stream);
}

#[test]
fn two_processes_whose_clocks_differ_by_a_day_understand_each_other() {
    let _watchdog = Watchdog::start();
    for (name, _) in STRATEGIES {
        let (_directory, mut listener) = listen();
        let path = listener.path().to_str().unwrap().to_owned();
        let mut child = second("into another time", &[("SOCKET", &path), ("STRATEGY", name)]);
        let said = child.hear();
        if said != "moving" {
            return eprintln!("{said}");
        }
        let mut stream = listener.accept().unwrap();
        stream.set_wait_strategy(strategy(name));
        assert_eq!(child.hear(), "echoing");
        stream.set_receive_timeout(Some(Duration::from_secs(30)));
        for number in 0..100 {
            round_trip(&mut stream, number);
            pause_ms(number % 20);
        }
        stream.set_receive_timeout(Some(Duration::from_millis(50)));
        is_a(ErrorKind::TimedOut, stream.receive());
        drop(stream);
        child.join();
    }
}
