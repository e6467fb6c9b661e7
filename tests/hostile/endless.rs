//! A peer that never comes to an end: no wait goes on beyond its deadline for that.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringwire::sync::{Area, Counter, Ordering::Relaxed, Word};
use ringwire::{ErrorKind, Header, Kind, Listener, Stream, WaitStrategy};

use super::common::raw::{ABANDONED, CONTINUED, MORE, RawPeer, RawWriter, raw_client};
use super::common::{Watchdog, wait_until};

const TIMEOUT: Duration = Duration::from_millis(50);

/// A peer that does something until it is told to stop.
struct Endless {
    stop: Arc<Counter>,
    thread: Option<JoinHandle<()>>,
}

impl Endless {
    fn start(mut again: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(Counter::new(0));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while stopped.get() == 0 {
                again();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.stop.add(1);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the endless peer came to an end");
        }
    }
}

fn connection() -> (Stream, RawPeer) {
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::bind(directory.path().join("s.sock")).unwrap();
    let (mut stream, peer) = raw_client(&mut listener, 4096);
    stream.set_receive_timeout(Some(TIMEOUT));
    stream.set_send_timeout(Some(TIMEOUT));
    (stream, peer)
}

/// Repeats `records` (flags, payload bytes) for as long as there is room.
fn repeat(mut writer: RawWriter, pause: Option<Duration>, records: &'static [(u8, usize)]) -> Endless {
    let mut next = records.iter().cycle();
    Endless::start(move || {
        if writer.has_room(64) {
            let (flags, bytes) = next.next().unwrap();
            writer.record(*flags, 1, &vec![0; *bytes]);
        }
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
    })
}

/// Pieces without content, as fast as they come and one now and then.
const PAUSES: [Option<Duration>; 2] = [None, Some(Duration::from_millis(5))];

#[test]
fn empty_fragments_without_end_do_not_hold_back_a_receive_into() {
    let _watchdog = Watchdog::start();
    for pause in PAUSES {
        let (mut stream, peer) = connection();
        peer.writer().record(MORE, 1, b"start");
        let mut writer = peer.writer();
        writer.position = 24;
        let _endless = repeat(writer, pause, &[(CONTINUED | MORE, 0)]);
        let mut buffer = Vec::new();
        for _ in 0..3 {
            assert_eq!(stream.receive_into(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(buffer, b"start");
        }
    }
}

#[test]
fn fragments_that_nobody_has_to_write_again_do_not_hold_back_a_receive_into() {
    let _watchdog = Watchdog::start();
    let (mut stream, peer) = connection();
    let mut writer = peer.writer();
    writer.record(MORE, 1, b"123456789");
    stream.set_receive_timeout(Some(Duration::ZERO));
    let mut buffer = Vec::new();
    assert_eq!(stream.receive_into(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
    // The reader zeroes nothing: a ring full of fragments goes round and round, and comes to no end but the limit's.
    for _ in 0..4096 / 32 {
        writer.record(CONTINUED | MORE, 1, b"123456789");
    }
    writer.commit(25);
    for _ in 0..3 {
        assert_eq!(stream.receive_into(&mut buffer).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(buffer.len() < 9 * 1000, "{} bytes taken in", buffer.len());
    }
}

#[test]
fn abandoned_messages_without_end_do_not_hold_back_a_receive_into() {
    let _watchdog = Watchdog::start();
    for pause in PAUSES {
        let (mut stream, peer) = connection();
        let _endless = repeat(peer.writer(), pause, &[(MORE, 8), (CONTINUED | ABANDONED, 0)]);
        assert_eq!(stream.receive_into(&mut Vec::new()).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn a_message_left_half_way_that_never_ends_does_not_hold_back_a_receive() {
    let _watchdog = Watchdog::start();
    for pause in PAUSES {
        let (mut stream, peer) = connection();
        peer.writer().record(MORE, 1, b"start");
        let mut writer = peer.writer();
        writer.position = 24;
        let _endless = repeat(writer, pause, &[(CONTINUED | MORE, 8)]);
        drop(stream.read_message().unwrap());
        for _ in 0..3 {
            assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        assert!(stream.try_receive().unwrap().is_none());
        assert_eq!(stream.read_message().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn empty_fragments_without_end_do_not_hold_back_a_read() {
    let _watchdog = Watchdog::start();
    for pause in PAUSES {
        let (mut stream, peer) = connection();
        peer.writer().record(MORE, 1, b"start");
        let mut writer = peer.writer();
        writer.position = 24;
        let _endless = repeat(writer, pause, &[(CONTINUED | MORE, 0)]);
        let mut reader = stream.read_message().unwrap();
        let mut bytes = [0; 100];
        assert_eq!(reader.read(&mut bytes).unwrap(), 5);
        let error = reader.read(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }
}

#[test]
fn a_bell_without_end_does_not_hold_back_a_receive() {
    let _watchdog = Watchdog::start();
    for strategy in [WaitStrategy::SpinOnly, WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce] {
        let (mut stream, peer) = connection();
        stream.set_wait_strategy(strategy);
        let mut lifeline = peer.lifeline.try_clone().unwrap();
        lifeline.set_nonblocking(true).unwrap();
        let endless = Endless::start(move || drop(lifeline.write(&[1; 100])));
        for _ in 0..3 {
            assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        drop(endless);
        peer.writer().record(0, 3, b"after all");
        assert_eq!(stream.receive().unwrap().payload().to_vec(), b"after all");
    }
}

#[test]
fn wakes_and_flickering_words_do_not_hold_back_a_wait() {
    let _watchdog = Watchdog::start();
    for strategy in [WaitStrategy::SpinOnly, WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce] {
        let (mut stream, peer) = connection();
        stream.set_wait_strategy(strategy);
        while stream.try_send(Header::new(Kind::Event, 1, 1), &[0; 1000]).is_ok() {}
        let (out, back) = (peer.out.clone(), peer.back.clone());
        let _endless = Endless::start(move || {
            ringwire::sys::futex_wake(out.word(0).as_ptr());
            ringwire::sys::futex_wake(back.head().as_ptr());
            out.writer_parked().store(out.writer_parked().load(Relaxed).wrapping_add(9), Relaxed);
            back.reader_parked().store(back.reader_parked().load(Relaxed).wrapping_add(9), Relaxed);
        });
        assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
        let error = stream.send(Header::new(Kind::Event, 1, 1), &[0; 1000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn a_peer_that_reads_a_little_now_and_then_does_not_hold_back_a_large_send() {
    let _watchdog = Watchdog::start();
    let (mut stream, peer) = connection();
    let endless = slow_reader(&peer);
    let error = stream.send(Header::new(Kind::Event, 1, 1), &[0; 1 << 20]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(endless);
}

#[test]
fn a_peer_that_reads_a_little_now_and_then_does_not_hold_back_a_large_piece() {
    let _watchdog = Watchdog::start();
    let (mut stream, peer) = connection();
    let endless = slow_reader(&peer);
    let mut writer = stream.write_message(Header::new(Kind::Event, 1, 1));
    assert_eq!(writer.write_piece(&[0; 1 << 20]).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(writer);
    drop(endless);
}

/// Reads one record of a kilobyte each 20 ms: never as much as a large message within its deadline.
fn slow_reader(peer: &RawPeer) -> Endless {
    let back = peer.back.clone();
    Endless::start(move || {
        let head = back.head().load(Relaxed);
        if back.word(head).load(Relaxed) != 0 {
            back.head().store(head.wrapping_add(1024), Relaxed);
        }
        thread::sleep(Duration::from_millis(20));
    })
}

#[test]
fn a_half_closed_lifeline_is_a_death() {
    let _watchdog = Watchdog::start();
    let (mut stream, peer) = connection();
    stream.set_receive_timeout(None);
    peer.writer().record(0, 1, b"last");
    peer.lifeline.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.receive().unwrap().payload().to_vec(), b"last");
    assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerDied);
    wait_until(|| stream.receive().is_err());
}
