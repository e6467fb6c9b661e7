//! An idle connection costs no processor time: not one switch of context, as a third process reads it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

mod common;

use std::time::Duration;
use std::{fs, thread};

use common::{Watchdog, say, second, setting, wait_until};
use ringwire::{Header, Kind, Listener, Stream, WaitStrategy};

const CONNECTIONS: usize = 100;

#[test]
fn child_entry() {
    common::child_entry(&[("server", server), ("client", client)]);
}

fn strategy(number: usize) -> WaitStrategy {
    if number.is_multiple_of(2) { WaitStrategy::SpinThenPark } else { WaitStrategy::ParkAtOnce }
}

/// Exchanges one message, then waits for another that does not come.
fn idle(mut stream: Stream, number: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        stream.set_wait_strategy(strategy(number));
        stream.send(Header::new(Kind::Event, 1, 1), b"hello").unwrap();
        drop(stream.receive().unwrap());
        // Until it is killed, or the other process is.
        let _ = stream.receive();
    })
}

fn wait_for_all(threads: Vec<thread::JoinHandle<()>>) {
    say("idle");
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The second process: one thread for each connection.
fn server() {
    let mut listener = Listener::bind(setting("SOCKET")).unwrap();
    say("bound");
    wait_for_all((0..CONNECTIONS).map(|number| idle(listener.accept().unwrap(), number)).collect());
}

/// The third.
fn client() {
    let path = setting("SOCKET");
    wait_for_all((0..CONNECTIONS).map(|number| idle(Stream::connect(&path).unwrap(), number)).collect());
}

/// Switches of context, voluntary and not, of all threads of process `id`, and how many threads those are.
fn switches(id: u32) -> (u64, usize) {
    let mut total = 0;
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{id}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches:"));
        total +=
            counts.map(|line| line.rsplit(':').next().unwrap().trim().parse::<u64>().unwrap()).sum::<u64>();
        threads += 1;
    }
    (total, threads)
}

#[test]
fn idle_connections_do_not_wake_up() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let settings = [("SOCKET", path.to_str().unwrap())];
    let mut server = second("server", &settings);
    assert_eq!(server.hear(), "bound");
    let mut client = second("client", &settings);
    for child in [&mut server, &mut client] {
        assert_eq!(child.hear(), "idle");
    }
    let count = || [switches(server.id()), switches(client.id())];
    thread::sleep(Duration::from_secs(1));
    let mut before = count();
    // On a busy machine it takes longer until all have gone over to the lifeline.
    wait_until(|| {
        let earlier = before;
        thread::sleep(Duration::from_millis(200));
        before = count();
        before == earlier
    });
    assert!(before.iter().all(|(_, threads)| *threads >= CONNECTIONS), "{before:?}");
    thread::sleep(Duration::from_secs(5));
    assert_eq!(count(), before);
    client.kill();
    server.join();
}
