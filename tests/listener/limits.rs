//! Limits of connections, rings, descriptors and memory.

use std::os::fd::AsRawFd;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringwire::{ErrorKind, Listener, PeerPolicy, Stream};

use super::common::{Watchdog, descriptors, say, second, setting, told, wait_until};
use super::{Accepting, EVENT, directory, works};

#[test]
fn a_connection_too_many_is_told_so_and_let_in_when_another_ends() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let mut listener = Listener::builder(&path).max_connections(2).bind().unwrap();
    let (give, take) = channel();
    let accepting = thread::spawn(move || {
        for _ in 0..4 {
            give.send(listener.accept().unwrap()).unwrap();
        }
        listener
    });
    let mut clients: Vec<Stream> = (0..2).map(|_| Stream::connect(&path).unwrap()).collect();
    let mut servers: Vec<Stream> = take.iter().take(2).collect();
    for _ in 0..3 {
        let error = Stream::connect(&path).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::TooManyConnections, true));
        assert!(error.to_string().contains("the server allows 2 connections, and has as many"), "{error}");
    }
    for _ in 0..2 {
        // The server's end counts, not the client's.
        drop(clients.remove(0));
        assert_eq!(Stream::connect(&path).unwrap_err().kind(), ErrorKind::TooManyConnections);
        let (sender, receiver) = servers.remove(0).split();
        drop(sender);
        assert_eq!(Stream::connect(&path).unwrap_err().kind(), ErrorKind::TooManyConnections);
        drop(receiver);
        clients.push(Stream::connect(&path).unwrap());
        servers.push(take.recv().unwrap());
        works(clients.last_mut().unwrap(), servers.last_mut().unwrap());
    }
    let listener = accepting.join().unwrap();
    assert_eq!(listener.connections(), 2);
    drop(servers);
    assert_eq!(listener.connections(), 0);
}

#[test]
fn rings_are_what_the_client_asks_for_within_the_server_s_limit() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let builder = Listener::builder(&path).ring_bytes(1 << 14).max_ring_bytes(1 << 18);
    let accepting = Accepting::start(builder, 4);
    let record = |ring_bytes: usize| ring_bytes / 2 - 32;
    let connect = |to_server, to_client| {
        let stream = Stream::builder(&accepting.path).ring_bytes_each(to_server, to_client).connect();
        stream.unwrap()
    };
    let clients = [connect(0, 0), connect(1, 5000), connect(1 << 18, 4096), connect(1 << 30, (1 << 17) + 1)];
    let servers = accepting.join().1;
    for ((client, server), expected) in clients.iter().zip(&servers).zip([
        (1 << 14, 1 << 14),
        (4096, 8192),
        (1 << 18, 4096),
        (1 << 18, 1 << 18),
    ]) {
        let found = (client.max_record_bytes(), server.max_record_bytes());
        assert_eq!(found, (record(expected.0), record(expected.1)));
    }
    for (a, b) in [(u32::MAX, 0), (0, (1 << 30) + 1)] {
        let error = Stream::builder(&path).ring_bytes_each(a, b).connect().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_listener_s_own_sizes_are_checked_before_it_binds() {
    let (_directory, path) = directory();
    for bytes in [0, 1, 4095, 5000, 1 << 31] {
        for builder in
            [Listener::builder(&path).ring_bytes(bytes), Listener::builder(&path).max_ring_bytes(bytes)]
        {
            let error = builder.bind().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("expected a power of two from 4096 to 1073741824"), "{error}");
        }
    }
    assert!(!path.exists());
}

#[test]
fn who_is_not_allowed_is_told_who_it_is() {
    let _watchdog = Watchdog::start();
    let own = nix::unistd::geteuid().as_raw();
    let other = PeerPolicy::Allow { uids: vec![own.wrapping_add(1)], gids: vec![] };
    let (_directory, path) = directory();
    let listener = Listener::builder(&path).accept_from(other.clone()).bind().unwrap();
    let mut listener = listener;
    let accepting =
        thread::spawn(move || listener.accept_timeout(Duration::from_secs(2)).map(drop).unwrap_err().kind());
    for _ in 0..3 {
        let error = Stream::connect(&path).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::PermissionDenied, false));
        let said = format!("process {} (uid {own}, gid ", std::process::id());
        assert!(
            error.to_string().contains(&said) && error.to_string().contains("not allowed to connect"),
            "{error}"
        );
    }
    assert_eq!(accepting.join().unwrap(), ErrorKind::TimedOut);
    let (_directory, path) = directory();
    let mut listener = Listener::bind(&path).unwrap();
    let error = Stream::builder(&path).connect_to(other).connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains(&format!("(uid {own}, ")), "{error}");
    assert!(error.to_string().contains("this client does not trust"), "{error}");
    // The server hears nothing of it, and goes on.
    assert_eq!(
        listener.accept_timeout(Duration::from_millis(50)).map(drop).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
}

#[test]
fn the_own_group_is_enough_where_it_is_allowed() {
    let _watchdog = Watchdog::start();
    let gid = nix::unistd::getegid().as_raw();
    let policy = PeerPolicy::Allow { uids: vec![], gids: vec![gid] };
    let (_directory, path) = directory();
    let accepting = Accepting::start(Listener::builder(&path).accept_from(policy.clone()), 1);
    let mut client = Stream::builder(&path).connect_to(policy).connect().unwrap();
    works(&mut client, &mut accepting.join().1[0]);
}

/// The second process: a server that runs out of descriptors.
pub(crate) fn short_of_descriptors() {
    let mut listener = Listener::bind(setting("SOCKET")).unwrap();
    let soft = descriptors(std::process::id()) as u64 + 3;
    setrlimit(Resource::RLIMIT_NOFILE, soft, getrlimit(Resource::RLIMIT_NOFILE).unwrap().1).unwrap();
    say("bound");
    let mut streams: Vec<Stream> = Vec::new();
    loop {
        match listener.accept_timeout(Duration::from_millis(20)) {
            Ok(stream) => streams.push(stream),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
        }
        // Clients that have left make room again.
        streams.retain_mut(|stream| match stream.try_receive() {
            Ok(Some(message)) if message.payload().to_vec() == b"end" => std::process::exit(0),
            Ok(_) => true,
            Err(_) => false,
        });
    }
}

#[test]
fn a_server_without_descriptors_says_so_and_serves_again_afterwards() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let mut child = second("short of descriptors", &[("SOCKET", path.to_str().unwrap())]);
    assert_eq!(child.hear(), "bound");
    for _ in 0..3 {
        let mut clients = Vec::new();
        let mut refused = 0;
        for _ in 0..12 {
            match Stream::connect(&path) {
                Ok(stream) => clients.push(stream),
                Err(error) => {
                    assert_eq!(
                        (error.kind(), error.is_retryable()),
                        (ErrorKind::ResourceExhausted, true),
                        "{error}"
                    );
                    assert!(error.to_string().contains("refused the connection"), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(!clients.is_empty() && refused >= 8, "{} connected, {refused} refused", clients.len());
        drop(clients);
        wait_until(|| Stream::connect(&path).is_ok());
    }
    let mut last = None;
    wait_until(|| {
        last = Stream::connect(&path).ok();
        last.is_some()
    });
    last.unwrap().send(EVENT, b"end").unwrap();
    child.join();
}

/// The second process: a client that may not map as much as the server gives it.
pub(crate) fn short_of_memory() {
    let hard = getrlimit(Resource::RLIMIT_AS).unwrap().1;
    setrlimit(Resource::RLIMIT_AS, 1 << 30, hard).unwrap();
    let error = Stream::builder(setting("SOCKET")).ring_bytes(1 << 30).connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert!(error.to_string().contains("Cannot allocate memory"), "{error}");
    say("refused");
    told();
}

#[test]
fn a_client_without_memory_for_the_rings_says_so() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let accepting = Accepting::start(Listener::builder(&path).max_ring_bytes(1 << 30), 2);
    let mut child = second("short of memory", &[("SOCKET", path.to_str().unwrap())]);
    assert_eq!(child.hear(), "refused");
    child.tell("end");
    child.join();
    let mut client = accepting.connect().unwrap();
    let mut streams = accepting.join().1;
    works(&mut client, &mut streams[1]);
    assert_eq!(streams[0].receive().map(drop).unwrap_err().kind(), ErrorKind::PeerDied);
}

/// The second process: a client whose last descriptor is its socket.
pub(crate) fn client_short_of_descriptors() {
    let hard = getrlimit(Resource::RLIMIT_NOFILE).unwrap().1;
    let lowest_free = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    let soft = u64::try_from(lowest_free).unwrap() + 1;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let error = Stream::connect(setting("SOCKET")).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ResourceExhausted, true), "{error}");
    assert!(error.to_string().contains("Too many open files"), "{error}");
    setrlimit(Resource::RLIMIT_NOFILE, soft + 1, hard).unwrap();
    drop(Stream::connect(setting("SOCKET")).unwrap());
    say("refused, then connected");
}

#[test]
fn a_client_without_descriptors_says_so_and_connects_when_it_has_one_more() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = directory();
    let accepting = Accepting::start(Listener::builder(&path), 2);
    let mut child = second("client short of descriptors", &[("SOCKET", path.to_str().unwrap())]);
    assert_eq!(child.hear(), "refused, then connected");
    child.join();
    let mut streams = accepting.join().1;
    assert_eq!(streams[0].receive().map(drop).unwrap_err().kind(), ErrorKind::PeerDied);
    assert_eq!(streams[1].receive().map(drop).unwrap_err().kind(), ErrorKind::PeerClosed);
}
