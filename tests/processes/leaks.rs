//! What a connection costs while it lives, and that nothing of it is left.

use ringwire::{ErrorKind, Listener, Stream};

use super::common::{Second, Watchdog, descriptors, say, second, segments, told};
use super::{event, socket};

const ROUNDS: u64 = 200;
const AT_ONCE: usize = 40;

/// What this process has open, as the parent reads it.
fn report() -> String {
    let id = std::process::id();
    format!("{} {}", descriptors(id), segments(id))
}

/// The second process: connects again and again, then many times at once.
pub(crate) fn many_clients() {
    let connect = || Stream::connect(socket()).unwrap();
    let once = |number: u64| {
        let mut stream = connect();
        stream.send(event(number), b"hello").unwrap();
        assert_eq!(stream.receive().unwrap().header(), event(number));
    };
    once(0);
    say(&report());
    (0..ROUNDS).for_each(once);
    say(&report());
    let streams: Vec<Stream> = (0..AT_ONCE).map(|_| connect()).collect();
    say(&report());
    told();
    drop(streams);
    say(&report());
    told();
}

/// The third process: serves the second one.
pub(crate) fn many_servers() {
    let mut listener = Listener::bind(socket()).unwrap();
    say("bound");
    let mut once = || {
        let mut stream = listener.accept().unwrap();
        let header = stream.receive().unwrap().header();
        stream.send(header, b"").unwrap();
        assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerClosed);
    };
    once();
    say(&report());
    (0..ROUNDS).for_each(|_| once());
    say(&report());
    let streams: Vec<Stream> = (0..AT_ONCE).map(|_| listener.accept().unwrap()).collect();
    assert_eq!(listener.connections(), AT_ONCE);
    say(&report());
    told();
    drop(streams);
    assert_eq!(listener.connections(), 0);
    say(&report());
    told();
}

fn hear_counts(child: &mut Second) -> (usize, usize) {
    let said = child.hear();
    let (descriptors, segments) = said.split_once(' ').unwrap();
    (descriptors.parse().unwrap(), segments.parse().unwrap())
}

#[test]
fn a_connection_costs_one_descriptor_and_one_mapping_on_each_side_and_leaves_nothing() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let settings = [("SOCKET", path.to_str().unwrap())];
    let mut server = second("many servers", &settings);
    assert_eq!(server.hear(), "bound");
    let client = second("many clients", &settings);
    let mut both = [server, client];
    let mut first = Vec::new();
    for child in &mut both {
        let before = hear_counts(child);
        assert_eq!(before.1, 0, "no segment is mapped between connections");
        assert_eq!(hear_counts(child), before, "after {ROUNDS} connections");
        first.push(before);
    }
    for (child, before) in both.iter_mut().zip(&first) {
        assert_eq!(
            hear_counts(child),
            (before.0 + AT_ONCE, before.1 + AT_ONCE),
            "with {AT_ONCE} connections"
        );
    }
    for child in &mut both {
        child.tell("drop them");
    }
    for (child, before) in both.iter_mut().zip(&first) {
        assert_eq!(hear_counts(child), *before);
    }
    for mut child in both {
        child.tell("end");
        child.join();
    }
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}
