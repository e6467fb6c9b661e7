//! Processes that are replaced by another program, or end without dropping anything.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, fs, process, thread};

use nix::sys::resource::{Resource, setrlimit};
use ringwire::{ErrorKind, Listener, Stream};

use super::common::{Watchdog, bytes, say, second, segments, setting, told, wait_until};
use super::{
    STAGES_MS, STRATEGIES, accept_from, connect, event, is_a, listen, pause_ms, place, receives, socket,
    state,
};

/// Sockets, segments and files of a server that this process has open.
fn belongings() -> String {
    let own = fs::read_dir("/proc/self/fd").unwrap();
    let names = own.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let found: Vec<_> = names
        .filter(|name| ["socket:", "/memfd:ringwire", ".lock"].iter().any(|part| name.contains(part)))
        .collect();
    format!("{found:?}, {} segments", segments(process::id()))
}

/// What another program finds that this process starts, or becomes.
fn program() -> Command {
    let mut program = Command::new(env::current_exe().unwrap());
    program.args(["--exact", "child_entry", "--nocapture", "--test-threads=1"]);
    program.env("RINGWIRE_TEST_ROLE", "inventory");
    program
}

/// The second process: has one of everything, starts another program, then becomes one.
pub(crate) fn replaced() {
    let mut listener = Listener::bind(socket()).unwrap();
    let mut stream = listener.accept().unwrap();
    let client = thread::spawn(|| Stream::connect(socket()).unwrap());
    let own = (listener.accept().unwrap(), client.join().unwrap(), Stream::pair().unwrap());
    assert_eq!(segments(process::id()), 5);
    stream.send(event(0), &bytes(0, 100)).unwrap();
    let mut child = program().spawn().unwrap();
    assert!(child.wait().unwrap().success());
    stream.send(event(1), &bytes(1, 100)).unwrap();
    told();
    let error = program().exec();
    drop(own);
    panic!("{error}");
}

/// Another program.
pub(crate) fn inventory() {
    say(&belongings());
    told();
}

#[test]
fn another_program_inherits_nothing_and_who_becomes_one_is_seen_as_dead() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = place();
    let mut child = second("replaced", &[("SOCKET", path.to_str().unwrap())]);
    wait_until(|| path.exists());
    let mut stream = Stream::connect(&path).unwrap();
    receives(&mut stream, 0);
    assert_eq!(child.hear(), "[], 0 segments", "in a program that it starts");
    child.tell("end the inventory");
    receives(&mut stream, 1);
    child.tell("go");
    is_a(ErrorKind::PeerDied, stream.receive());
    assert_eq!(child.hear(), "[], 0 segments", "in the program that it becomes");
    // That program lives, but serves nobody.
    is_a(ErrorKind::ConnectionRefused, Stream::connect(&path));
    drop(Listener::bind(&path).unwrap());
    child.tell("end");
    child.join();
}

/// The second process: sends something, and ends while another of its threads waits.
pub(crate) fn leaver() {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    let (mut sender, mut receiver) = connect().split();
    for number in 0..3 {
        sender.send(event(number), &bytes(number, 100)).unwrap();
    }
    let for_room = setting("WAIT") == "room";
    thread::spawn(move || {
        if for_room {
            while sender.send(event(3), &bytes(3, 100)).is_ok() {}
        } else {
            let _ = receiver.receive();
        }
    });
    say("sent");
    told();
    if setting("WAY") == "abort" { process::abort() } else { process::exit(0) }
}

#[test]
fn a_process_that_ends_without_drops_while_a_thread_waits_is_seen_as_dead_after_what_it_sent() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for way in ["exit", "abort"] {
        for ((name, _), stage_ms) in STRATEGIES.iter().zip(STAGES_MS) {
            for wait in ["message", "room"] {
                let settings = [("WAY", way), ("WAIT", wait)];
                let (mut stream, mut child) = accept_from(&mut listener, "leaver", name, &settings);
                assert_eq!(child.hear(), "sent");
                pause_ms(stage_ms);
                child.tell("leave");
                for number in 0..3 {
                    receives(&mut stream, number);
                }
                let error = loop {
                    match stream.receive() {
                        Ok(message) => assert_eq!(message.payload().to_vec(), bytes(3, 100)),
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), ErrorKind::PeerDied, "{way} {name} {wait}: {error}");
                wait_until(|| state(child.id()) == 'Z');
            }
        }
    }
    assert_eq!(listener.connections(), 0);
}

/// The second process: a server that ends without dropping its listener.
pub(crate) fn leaving_server() {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    let mut listener = Listener::bind(socket()).unwrap();
    say("bound");
    let _stream = listener.accept().unwrap();
    if setting("WAY") == "abort" { process::abort() } else { process::exit(0) }
}

#[test]
fn a_server_that_ends_without_drops_is_replaced() {
    let _watchdog = Watchdog::start();
    let (directory, path) = place();
    for way in ["exit", "abort"] {
        let mut child = second("leaving server", &[("SOCKET", path.to_str().unwrap()), ("WAY", way)]);
        assert_eq!(child.hear(), "bound", "{way}");
        let mut stream = Stream::connect(&path).unwrap();
        is_a(ErrorKind::PeerDied, stream.receive());
        is_a(ErrorKind::ConnectionRefused, Stream::connect(&path));
    }
    drop(Listener::bind(&path).unwrap());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
