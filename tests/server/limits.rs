//! Limits answer, and the server serves on: connections, threads, descriptors, and memory after a crowd.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use ringwire::transport::raise_fd_limit;
use ringwire::wire::call::ECHO;
use ringwire::{Error, ErrorKind, Server, Stream};

use super::caller::{Caller, Serving};
use super::common::{Watchdog, descriptors, say, second, setting, told, wait_until};
use super::is_long;

const NEWS: u16 = 50;

fn connect(path: &str) -> Result<Caller, Error> {
    Stream::connect(path).map(Caller::new)
}

#[test]
fn the_connection_beyond_the_limit_is_told_so_and_the_others_go_on() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.max_connections(10));
    let mut callers: Vec<Caller> = (0..10).map(|_| serving.caller()).collect();
    for _ in 0..5 {
        let Err(error) = serving.try_caller() else { panic!("one too many") };
        assert_eq!(error.kind(), ErrorKind::TooManyConnections);
        assert!(error.to_string().contains("10 connections"), "{error}");
        for caller in &mut callers {
            assert_eq!(caller.call(ECHO, b"undisturbed"), Ok(b"undisturbed".to_vec()));
        }
    }
    callers.pop();
    wait_until(|| serving.handle.connections().len() == 9);
    // A handle of an ended connection keeps no place taken.
    let kept: Vec<_> =
        serving.handle.connections().iter().map(|of| serving.handle.connection(of.id).unwrap()).collect();
    callers.clear();
    wait_until(|| serving.handle.connections().is_empty());
    let again: Vec<Caller> = (0..10).map(|_| serving.caller()).collect();
    assert!(kept.iter().all(|connection| !connection.is_open()));
    drop(again);
}

#[test]
fn a_condition_on_clients_refuses_them_before_they_are_welcomed() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.accept_if(|peer| peer.pid == 1));
    let Err(error) = serving.try_caller() else { panic!("let in") };
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(serving.handle.stats().accepted, 0);
    // One that panics lets nobody in, and goes on being asked.
    let asked = ringwire::sync::Counter::new(0);
    let serving = Serving::start(|builder| {
        builder.accept_if(move |_| {
            assert!(asked.add(1) > 1, "the first two");
            true
        })
    });
    for _ in 0..2 {
        let Err(error) = serving.try_caller() else { panic!("let in") };
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    assert_eq!(serving.caller().call(ECHO, b"in"), Ok(b"in".to_vec()));
}

#[test]
fn impossible_choices_are_refused_when_building() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || Server::builder(directory.path().join("x.sock"));
    for refused in [
        builder().stack_bytes(1024).build(),
        builder().events(0, ringwire::server::WhenFull::DropOldest).build(),
        builder().placement(ringwire::server::Placement::Cores(vec![])).build(),
        builder().ring_bytes(1000).build(),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(!directory.path().join("x.sock").exists());
}

/// Becomes a user whom limits bind.
fn become_nobody() {
    if Uid::effective().is_root() {
        let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
        setgroups(&[]).unwrap();
        setresgid(gid, gid, gid).unwrap();
        setresuid(uid, uid, uid).unwrap();
        // Lost with the user.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

/// The second process: a server that may start some threads, then none.
pub(super) fn short_of_threads() {
    become_nobody();
    let serving = Serving::start(|builder| builder);
    let mut first = serving.caller();
    first.call(ECHO, b"").unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    setrlimit(Resource::RLIMIT_NPROC, 1, hard).unwrap();
    for _ in 0..3 {
        let Err(error) = serving.try_caller() else { panic!("a thread from nowhere") };
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.to_string().contains("no thread"), "{error}");
        assert_eq!(first.call(ECHO, b"on"), Ok(b"on".to_vec()));
    }
    assert_eq!(serving.handle.stats().refused, 3);
    // Its thread is there for the next one.
    drop(first);
    wait_until(|| serving.try_caller().is_ok());
    setrlimit(Resource::RLIMIT_NPROC, hard, hard).unwrap();
    let mut both = (serving.caller(), serving.caller());
    both.0.call(ECHO, b"").unwrap();
    both.1.call(ECHO, b"").unwrap();
    drop(both);
    serving.shut_down();
}

#[test]
fn a_server_without_threads_refuses_and_serves_on() {
    let _watchdog = Watchdog::start();
    second("short of threads", &[]).join();
}

/// The second process: a server with few descriptors to spare.
pub(super) fn short_of_descriptors() {
    let server = Server::builder(setting("PATH_TO_SERVE")).build().unwrap();
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.serve());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, descriptors(std::process::id()) as u64 + 12, hard).unwrap();
    say("ready");
    while told() == "news" {
        say(&handle.broadcast(NEWS, b"all is well").to_string());
    }
    assert!(handle.shutdown(Duration::from_secs(10)));
    serving.join().unwrap().unwrap();
}

#[test]
fn a_server_without_descriptors_refuses_and_serves_on() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("few.sock");
    let path = path.to_str().unwrap();
    let mut server = second("short of descriptors", &[("PATH_TO_SERVE", path)]);
    assert_eq!(server.hear(), "ready");
    let mut callers = Vec::new();
    let refused = loop {
        match connect(path) {
            Ok(mut caller) => {
                caller.call(ECHO, b"in").unwrap();
                callers.push(caller);
            }
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::ResourceExhausted, "{refused}");
    assert!((2..=12).contains(&callers.len()), "{}", callers.len());
    std::thread::sleep(Duration::from_millis(30));
    server.tell("news");
    assert_eq!(server.hear(), callers.len().to_string());
    for caller in &mut callers {
        // Whether or not there was a descriptor left to wake its thread with.
        assert_eq!(caller.event().payload, b"all is well");
        assert_eq!(caller.call(ECHO, b"on"), Ok(b"on".to_vec()));
    }
    callers.truncate(1);
    wait_until(|| connect(path).is_ok());
    drop(callers);
    server.tell("enough");
    server.join();
}

/// What a process holds, as another one sees it.
#[derive(Clone, Copy, Debug)]
struct Holding {
    threads: usize,
    descriptors: usize,
    /// Dirty pages of its own, and pages of the rings.
    private_kib: usize,
    segments_kib: usize,
}

fn holding(id: u32) -> Holding {
    let (mut is_segment, mut private_kib, mut segments_kib) = (false, 0, 0);
    for line in fs::read_to_string(format!("/proc/{id}/smaps")).unwrap().lines() {
        let kib = |rest: &str| rest.split_whitespace().next().unwrap().parse::<usize>().unwrap();
        if line.starts_with(|first: char| first.is_ascii_hexdigit() && !first.is_ascii_uppercase()) {
            is_segment = line.contains("/memfd:ringwire");
        } else if let Some(rest) = line.strip_prefix("Rss:") {
            segments_kib += if is_segment { kib(rest) } else { 0 };
        } else if let Some(rest) = line.strip_prefix("Private_Dirty:") {
            private_kib += if is_segment { 0 } else { kib(rest) };
        }
    }
    let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap().count();
    Holding { threads, descriptors: descriptors(id), private_kib, segments_kib }
}

/// The second process: a server that says when it has no connections any more.
pub(super) fn crowded() {
    let crowd: usize = setting("CROWD").parse().unwrap();
    let builder = Server::builder(setting("PATH_TO_SERVE")).max_connections(crowd).idle_threads(0);
    let server = builder.raise_fd_limit(true).build().unwrap();
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.serve());
    say("ready");
    while told() == "gone" {
        wait_until(|| handle.connections().is_empty());
        say("gone");
    }
    assert!(handle.shutdown(Duration::from_secs(10)));
    serving.join().unwrap().unwrap();
}

#[test]
fn a_crowd_that_has_gone_leaves_nothing_behind() {
    let _watchdog = Watchdog::lasting(Duration::from_secs(300));
    let (crowd, rounds) = if is_long() { (1_000, 20) } else { (1_000, 3) };
    raise_fd_limit().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("crowd.sock");
    let path = path.to_str().unwrap();
    let crowd_text = crowd.to_string();
    let settings = [("PATH_TO_SERVE", path), ("CROWD", &crowd_text), ("MALLOC_ARENA_MAX", "2")];
    let mut server = second("crowded", &settings);
    assert_eq!(server.hear(), "ready");
    // Until the serving thread has read what it reads of the machine.
    std::thread::sleep(Duration::from_millis(100));
    let start = holding(server.id());
    println!("at the start: {start:?}");
    // In a few rounds of a debug build the allocator has not come to rest; what stays would grow by 10 MiB a round.
    let slack_kib = if is_long() { 512 } else { 1_536 };
    let mut first_kib = None;
    for round in 0..rounds {
        let mut callers: Vec<Caller> = (0..crowd).map(|_| connect(path).unwrap()).collect();
        let Err(refused) = connect(path) else { panic!("one too many") };
        assert!(refused.to_string().contains(&format!("{crowd} connections")), "{refused}");
        for caller in &mut callers {
            assert_eq!(caller.call(ECHO, &[7; 1000]), Ok(vec![7; 1000]));
        }
        let there = holding(server.id());
        let each = (there.private_kib + there.segments_kib - start.private_kib) as f64 / f64::from(crowd);
        println!("with crowd {round}: {there:?}, {each:.1} KiB each");
        drop(callers);
        server.tell("gone");
        assert_eq!(server.hear(), "gone");
        // The last threads are just ending; one is kept for the next client.
        wait_until(|| holding(server.id()).threads <= start.threads + 1);
        let left = holding(server.id());
        println!("after crowd {round}: {left:?}");
        assert_eq!((left.descriptors, left.segments_kib), (start.descriptors, 0));
        assert!(left.private_kib <= *first_kib.get_or_insert(left.private_kib) + slack_kib);
    }
    server.tell("enough");
    server.join();
}
