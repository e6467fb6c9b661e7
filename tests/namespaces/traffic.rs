//! Messages and deaths between namespaces.

use std::thread;
use std::time::Duration;

use ringwire::{ErrorKind, Listener, Stream, WaitStrategy};

use super::common::{Watchdog, assert_bytes, bytes, say, setting, told};
use super::{Host, arrive, contained, event, is_inside, kill_inside, kinds_of_containers, outside};

const LARGE_BYTES: usize = 2 << 20;
const ROUNDS: u64 = 1_000;
const STRATEGIES: [WaitStrategy; 2] = [WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce];

/// One side's part; the other answers with the same.
fn talk(stream: &mut Stream) {
    let mut buffer = Vec::new();
    for strategy in STRATEGIES {
        stream.set_wait_strategy(strategy);
        for number in 0..ROUNDS {
            stream.send(event(number), &bytes(number, number as usize % 300)).unwrap();
            assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(number));
            assert_bytes(&buffer, &bytes(number, number as usize % 300), "between namespaces");
        }
        // From futex to lifeline, and back.
        for number in 0..4 {
            thread::sleep(Duration::from_millis(12 * number));
            stream.send(event(number), &[]).unwrap();
            assert_eq!(stream.receive().unwrap().header(), event(number));
        }
        stream.send(event(7), &bytes(7, LARGE_BYTES)).unwrap();
        assert_eq!(stream.receive_into(&mut buffer).unwrap(), event(7));
        assert_bytes(&buffer, &bytes(7, LARGE_BYTES), "large");
    }
}

fn answer(stream: &mut Stream) {
    let mut buffer = Vec::new();
    loop {
        match stream.receive_into(&mut buffer) {
            Ok(header) => stream.send(header, &buffer).unwrap(),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}"),
        }
    }
}

/// Inside: the process on the other side is of no pid namespace that this one knows.
fn assert_sees_own_user_elsewhere(stream: &Stream) {
    if is_inside() {
        assert_eq!(stream.peer().pid, 0, "{}", stream.peer());
    }
    assert_eq!(stream.peer().uid, nix::unistd::geteuid().as_raw(), "{}", stream.peer());
}

fn bind() -> Listener {
    let listener = Listener::bind(setting("SOCKET")).unwrap();
    say("listening");
    listener
}

/// The process inside: connects and talks.
pub(crate) fn client() {
    arrive();
    let mut stream = Stream::connect(setting("SOCKET")).unwrap();
    assert_sees_own_user_elsewhere(&stream);
    talk(&mut stream);
}

/// The process inside: serves one client.
pub(crate) fn server() {
    arrive();
    let mut stream = bind().accept().unwrap();
    assert_sees_own_user_elsewhere(&stream);
    answer(&mut stream);
}

#[test]
fn a_client_in_a_container_talks_to_a_server_outside() {
    let _watchdog = Watchdog::start();
    for (kind, user) in kinds_of_containers() {
        let host = Host::new();
        let mut listener = Listener::bind(host.socket()).unwrap();
        let (inside, pid) = contained(&host, "client", user);
        let mut stream = listener.accept().unwrap();
        assert_eq!(stream.peer().pid, pid.as_raw(), "{kind}");
        assert_eq!(stream.peer().uid, nix::unistd::geteuid().as_raw(), "{kind}");
        answer(&mut stream);
        inside.join();
        drop(listener);
        host.assert_nothing_left();
    }
}

#[test]
fn a_client_outside_talks_to_a_server_in_a_container() {
    let _watchdog = Watchdog::start();
    for (kind, user) in kinds_of_containers() {
        let host = Host::new();
        let (mut inside, pid) = contained(&host, "server", user);
        assert_eq!(inside.hear(), "listening");
        let mut stream = Stream::connect(host.socket()).unwrap();
        assert_eq!(stream.peer().pid, pid.as_raw(), "{kind}");
        talk(&mut stream);
        drop(stream);
        inside.join();
        host.assert_nothing_left();
    }
}

#[test]
fn two_containers_talk_to_each_other() {
    let _watchdog = Watchdog::start();
    for (_, user) in kinds_of_containers() {
        let host = Host::new();
        let (mut server, _) = contained(&host, "server", user);
        assert_eq!(server.hear(), "listening");
        let (client, _) = contained(&host, "client", user);
        client.join();
        server.join();
        host.assert_nothing_left();
    }
}

/// Says how it ends for who waits for a message that does not come.
fn wait_for_the_end(mut stream: Stream, strategy: WaitStrategy) {
    stream.set_wait_strategy(strategy);
    stream.send(event(1), b"ready").unwrap();
    let kind = stream.receive().map(drop).unwrap_err().kind();
    say(&format!("{kind:?}"));
}

fn strategy() -> WaitStrategy {
    if told() == "spin" { WaitStrategy::SpinOnly } else { WaitStrategy::ParkAtOnce }
}

/// The process inside: connects, and waits.
pub(crate) fn patient_client() {
    arrive();
    let strategy = strategy();
    wait_for_the_end(Stream::connect(setting("SOCKET")).unwrap(), strategy);
}

/// The process inside: accepts, and waits.
pub(crate) fn patient_server() {
    arrive();
    let strategy = strategy();
    wait_for_the_end(bind().accept().unwrap(), strategy);
}

#[test]
fn a_death_in_a_container_is_seen_outside() {
    let _watchdog = Watchdog::start();
    for (kind, user) in kinds_of_containers() {
        for strategy in ["park", "spin"] {
            let host = Host::new();
            let mut listener = Listener::bind(host.socket()).unwrap();
            let (mut inside, pid) = contained(&host, "patient client", user);
            inside.tell(strategy);
            let mut stream = listener.accept().unwrap();
            assert_eq!(stream.receive().unwrap().payload().to_vec(), b"ready");
            let waiting = thread::spawn(move || stream.receive().map(drop).unwrap_err().kind());
            // On its lifeline by then.
            thread::sleep(Duration::from_millis(30));
            kill_inside(inside, pid);
            assert_eq!(waiting.join().unwrap(), ErrorKind::PeerDied, "{kind}, {strategy}");
        }
    }
}

#[test]
fn a_server_that_dies_with_its_container_is_seen_and_replaced() {
    let _watchdog = Watchdog::start();
    for (kind, user) in kinds_of_containers() {
        let host = Host::new();
        let (mut inside, pid) = contained(&host, "patient server", user);
        inside.tell("park");
        assert_eq!(inside.hear(), "listening");
        let mut stream = Stream::connect(host.socket()).unwrap();
        assert_eq!(stream.receive().unwrap().payload().to_vec(), b"ready");
        let refused = Listener::bind(host.socket()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddressInUse, "{kind}");
        kill_inside(inside, pid);
        assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerDied, "{kind}");
        // What it left in the shared directory is the next one's, in whatever namespace.
        drop(Listener::bind(host.socket()).unwrap());
        host.assert_nothing_left();
    }
}

/// A process outside: serves one client until it is killed.
pub(crate) fn victim() {
    let mut stream = bind().accept().unwrap();
    assert_eq!(stream.receive().unwrap().payload().to_vec(), b"ready");
    say("connected");
    told();
}

#[test]
fn a_death_outside_is_seen_in_a_container() {
    let _watchdog = Watchdog::start();
    for (kind, user) in kinds_of_containers() {
        for strategy in ["park", "spin"] {
            let host = Host::new();
            let mut server = outside(&host, "victim");
            assert_eq!(server.hear(), "listening");
            let (mut inside, _) = contained(&host, "patient client", user);
            inside.tell(strategy);
            assert_eq!(server.hear(), "connected");
            thread::sleep(Duration::from_millis(30));
            server.kill();
            assert_eq!(inside.hear(), "PeerDied", "{kind}, {strategy}");
            inside.join();
        }
    }
}
