//! A peer that closes, or dies, while it is waited for in an event loop.

use ringwire::{Error, ErrorKind, Listener, Readiness, Stream};

use super::common::{Second, Watchdog, say, second, setting, told, wait_until};
use super::{EventLoop, TRIGGERS, event, listen};

/// The second process: sends as many messages as it is told, until it is told nothing more.
pub(super) fn sender() {
    let mut stream = Stream::connect(setting("SOCKET")).unwrap();
    while let Ok(count) = told().parse() {
        for number in 0..count {
            stream.send(event(number), b"sent").unwrap();
        }
        say("sent");
    }
}

fn accept_sender(listener: &mut Listener) -> (Stream, Second) {
    let child = second("sender", &[("SOCKET", listener.path().to_str().unwrap())]);
    (listener.accept().unwrap(), child)
}

impl Second {
    fn send(&mut self, count: u64) {
        self.tell(&count.to_string());
        assert_eq!(self.hear(), "sent");
    }
}

/// Waits, and takes `count` messages and then the end, however many turns that takes.
fn messages_then_end(events: &mut EventLoop, count: u64) -> Error {
    let mut next = 0;
    loop {
        assert_eq!(events.wait(None), [0]);
        let turned = events.turn(0, |_, header, _| {
            assert_eq!(header.correlation, next);
            next += 1;
        });
        if let Err(error) = turned {
            assert_eq!(next, count);
            return error;
        }
    }
}

fn armed(trigger: nix::sys::epoll::EpollFlags, stream: Stream) -> EventLoop {
    let mut events = EventLoop::with(trigger, stream);
    events.turn(0, |_, _, _| panic!("nothing was sent")).unwrap();
    events
}

#[test]
fn a_close_comes_behind_the_last_message() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (_, trigger) in TRIGGERS {
        for count in [0, 1, 100] {
            let (stream, mut child) = accept_sender(&mut listener);
            let mut events = armed(trigger, stream);
            child.send(count);
            child.join();
            let error = messages_then_end(&mut events, count);
            assert_eq!(error.kind(), ErrorKind::PeerClosed, "{error}");
            assert_eq!(events.stream(0).arm(), Readiness::Ready);
        }
    }
}

/// The bell and the hang-up may be told at once: edge-triggered, there is no second time.
#[test]
fn a_death_comes_behind_the_last_message() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (_, trigger) in TRIGGERS {
        for count in [0, 1, 100] {
            let (stream, mut child) = accept_sender(&mut listener);
            let mut events = armed(trigger, stream);
            child.send(count);
            child.kill();
            let error = messages_then_end(&mut events, count);
            assert_eq!(error.kind(), ErrorKind::PeerDied, "{error}");
            assert_eq!(events.stream(0).arm(), Readiness::Ready, "nobody waits for the dead");
            assert_eq!(events.stream(0).try_receive().unwrap_err().kind(), ErrorKind::PeerDied);
        }
    }
}

/// The same between the first message and the others.
#[test]
fn a_death_behind_a_turn_is_told_in_the_next() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (_, trigger) in TRIGGERS {
        let (stream, mut child) = accept_sender(&mut listener);
        let mut events = armed(trigger, stream);
        child.send(1);
        assert_eq!(events.wait(None), [0]);
        let mut received = 0;
        events.turn(0, |_, _, _| received += 1).unwrap();
        assert_eq!(received, 1);
        child.kill();
        assert_eq!(messages_then_end(&mut events, 0).kind(), ErrorKind::PeerDied);
    }
}

/// Before the connection is in the event loop at all.
#[test]
fn a_death_before_the_first_turn_is_told() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    for (_, trigger) in TRIGGERS {
        let (mut stream, mut child) = accept_sender(&mut listener);
        child.send(1);
        child.kill();
        assert_eq!(stream.arm(), Readiness::Ready);
        assert_eq!(messages_then_end(&mut EventLoop::with(trigger, stream), 1).kind(), ErrorKind::PeerDied);
    }
}

/// Who only polls, and never waits nor arms, is told too.
#[test]
fn a_death_is_told_to_who_never_waits() {
    let _watchdog = Watchdog::start();
    let (_directory, mut listener) = listen();
    let (mut stream, mut child) = accept_sender(&mut listener);
    assert!(stream.try_receive().unwrap().is_none());
    child.send(3);
    child.kill();
    let mut received = 0;
    wait_until(|| match stream.try_receive() {
        Ok(message) => {
            received += u64::from(message.is_some());
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PeerDied, "{error}");
            true
        }
    });
    assert_eq!(received, 3);
}

/// An interruption is for who waits in a receive: an event loop hears of its descriptor alone.
#[test]
fn an_interruption_does_not_keep_a_loop_from_waiting() {
    let (_peer, mut stream) = Stream::pair().unwrap();
    let interrupter = stream.halves().1.interrupter();
    interrupter.interrupt();
    assert!(stream.try_receive().unwrap().is_none());
    assert_eq!(stream.arm(), Readiness::Armed);
}
