//! Processes that are killed while they connect, bind, accept, refuse, or leave their path.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use ringwire::sync::failpoint::Failpoint::{self, *};
use ringwire::{ErrorKind, Header, Kind, Listener, Stream};
use tempfile::TempDir;

use super::common::{Second, Watchdog, second, setting};
use super::matrix::was_killed;
use super::survivor::held;
use super::victims::{arm_when_told, survived};
use super::{alone, runs};

/// What becomes of a client's connection at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// There is none.
    No,
    /// As the server was quick enough to welcome it.
    Perhaps,
    /// There is one, whose end is a death.
    Dead,
}

pub(crate) const CLIENTS: &[(Failpoint, Accepted)] = &[
    (ConnectReached, Accepted::No),
    (ConnectTrusted, Accepted::No),
    (HelloSent, Accepted::Perhaps),
    (AnswerAwaited, Accepted::Perhaps),
    (AnswerRead, Accepted::Dead),
    (AnswerSettled, Accepted::Dead),
];

/// Where a server is killed, at what, and what a client finds then: one that was waiting, then one that comes later.
pub(crate) type ServerRow = (Failpoint, &'static str, Option<ErrorKind>, ErrorKind);

const GONE: ErrorKind = ErrorKind::ConnectionRefused;

pub(crate) const SERVERS: &[ServerRow] = &[
    (BindLocked, "bind", None, GONE),
    (BindCleared, "bind", None, ErrorKind::NotFound),
    (BindSocketMade, "bind", None, ErrorKind::NotFound),
    (BindBound, "bind", None, GONE),
    (BindListening, "bind", None, GONE),
    (AcceptTaken, "accept", Some(ErrorKind::PeerClosed), GONE),
    (AcceptAdmitted, "accept", Some(ErrorKind::PeerClosed), GONE),
    (HelloRead, "accept", Some(ErrorKind::PeerClosed), GONE),
    (AcceptCounted, "accept", Some(ErrorKind::PeerClosed), GONE),
    (SegmentMade, "accept", Some(ErrorKind::PeerClosed), GONE),
    (WelcomeSent, "accept", Some(ErrorKind::PeerDied), GONE),
    (RefusalSending, "refuse", Some(ErrorKind::PeerClosed), GONE),
    (RefusalSent, "refuse", Some(ErrorKind::TooManyConnections), GONE),
    (UnbindBegun, "unbind", None, GONE),
    (UnbindSocketRemoved, "unbind", None, ErrorKind::NotFound),
    (UnbindLockRemoved, "unbind", None, ErrorKind::NotFound),
];

pub(crate) fn connecting() {
    arm_when_told();
    // A server that answers before this side looks is not waited for: see the tries.
    let _stream = Stream::connect(setting("SOCKET")).unwrap();
    survived()
}

pub(crate) fn serving() {
    let (socket, doing) = (setting("SOCKET"), setting("DOING"));
    if doing == "bind" {
        arm_when_told();
        let _listener = Listener::bind(socket).unwrap();
        survived()
    }
    let mut listener =
        Listener::builder(socket).max_connections(if doing == "refuse" { 0 } else { 1 }).bind().unwrap();
    arm_when_told();
    if doing != "unbind" {
        let _stream = listener.accept().unwrap();
        survived()
    }
    drop(listener);
    survived()
}

fn victim(role: &str, path: &Path, doing: &str, at: Failpoint) -> Second {
    let at = format!("{at:?}");
    let path = path.to_str().unwrap();
    let settings = [("SOCKET", path), ("DOING", doing), ("FAILPOINT", &at), ("PASSAGE", "1")];
    let mut victim = second(role, &settings);
    assert_eq!(victim.hear(), "ready");
    victim
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    (directory, path)
}

/// A client and a server of this process exchange a message.
fn assert_talk(mut client: Stream, mut server: Stream) {
    client.send(Header::new(Kind::Request, 1, 1), b"healthy").unwrap();
    assert_eq!(server.receive().unwrap().payload().to_vec(), b"healthy");
}

/// What `listener` accepts until a client of this process comes, and what came before it.
fn accept_until_own(listener: &mut Listener) -> (Stream, Vec<Stream>) {
    let mut others = Vec::new();
    loop {
        let stream = listener.accept().unwrap();
        if stream.peer().pid.cast_unsigned() == std::process::id() {
            return (stream, others);
        }
        others.push(stream);
    }
}

fn kill_a_client(listener: &mut Listener, at: Failpoint, accepted: Accepted) -> bool {
    let mut victim = victim("connecting", listener.path(), "connect", at);
    let path = listener.path().to_owned();
    let (killed, client, (server, others)) = thread::scope(|scope| {
        let accepting = scope.spawn(|| accept_until_own(listener));
        victim.tell("go");
        let killed = was_killed(&mut victim);
        let client = Stream::connect(path).unwrap();
        (killed, client, accepting.join().unwrap())
    });
    assert_talk(client, server);
    let limits = match accepted {
        Accepted::No => 0..=0,
        Accepted::Perhaps => 0..=1,
        Accepted::Dead => 1..=1,
    };
    assert!(!killed || limits.contains(&others.len()), "{} connections", others.len());
    for mut dead in others {
        assert_eq!(dead.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerDied);
    }
    assert_eq!(listener.connections(), 0);
    killed
}

#[test]
fn a_client_killed_in_the_handshake_leaves_its_server_accepting() {
    let _alone = alone();
    let (directory, path) = directory();
    let mut listener = Listener::bind(path).unwrap();
    for (at, accepted) in CLIENTS {
        for number in 0..runs() {
            let _watchdog = Watchdog::start();
            let before = held();
            let killed = (0..50).any(|_| kill_a_client(&mut listener, *at, *accepted));
            assert!(killed, "never came by {at:?}, run {number}");
            assert_eq!(held(), before, "{at:?}");
        }
    }
    drop(listener);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

fn kill_a_server((at, doing, waiting, later): ServerRow) {
    let (directory, path) = directory();
    if doing == "bind" {
        // A dead server's, to be replaced.
        drop(UnixListener::bind(&path).unwrap());
    }
    let mut victim = victim("serving", &path, doing, at);
    victim.tell("go");
    if let Some(expected) = waiting {
        let connected = Stream::connect(&path).and_then(|mut stream| stream.receive().map(drop));
        assert_eq!(connected.unwrap_err().kind(), expected, "{at:?}");
    }
    assert!(was_killed(&mut victim), "{at:?}");
    assert_eq!(Stream::connect(&path).unwrap_err().kind(), later, "{at:?}");
    let mut next = Listener::bind(&path).unwrap();
    let client = thread::spawn(move || Stream::connect(path).unwrap());
    let server = next.accept().unwrap();
    assert_talk(client.join().unwrap(), server);
    drop(next);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{at:?}");
}

#[test]
fn a_server_killed_anywhere_is_seen_by_its_clients_and_followed_by_the_next() {
    let _alone = alone();
    for row in SERVERS {
        for _ in 0..runs() {
            let _watchdog = Watchdog::start();
            let before = held();
            kill_a_server(*row);
            assert_eq!(held(), before, "{:?}", row.0);
        }
    }
}
