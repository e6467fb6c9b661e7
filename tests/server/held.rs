//! Clients that try to keep from others what the server has: its buffers, its threads, its end.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use ringwire::server::{ServerBuilder, WhenFull};
use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Area, Ordering, Word};
use ringwire::transport::Deadline;
use ringwire::wire::call::correlation;
use ringwire::wire::{Hello, Status};
use ringwire::{Header, Kind};
use zerocopy::IntoBytes;

use super::caller::{Caller, Serving};
use super::common::raw::{RawPeer, greet};
use super::common::{Watchdog, wait_until};

const COUNT: u16 = 8;

/// Says how long requests are.
fn counting(builder: ServerBuilder) -> ServerBuilder {
    builder.handle(COUNT, |request, reply| reply.send(&request.payload().len().to_ne_bytes()))
}

/// Begins a request in fragments, and neither goes on nor gives it up.
fn stall(caller: &mut Caller, header: Header, first: &[u8]) {
    let mut writer = caller.stream.write_message(header);
    writer.write_piece(first).unwrap();
    std::mem::forget(writer);
}

/// A client by hand, which sees the words of its connection.
pub(crate) fn raw_caller(serving: &Serving) -> RawPeer {
    let mut socket = UnixStream::connect(&serving.path).unwrap();
    let (answer, descriptors) = greet(&mut socket, Hello::new(65_536, 65_536, 10 << 20).as_bytes());
    let layout = Layout::new(answer.to_server_bytes, answer.to_client_bytes).unwrap();
    let segment = Segment::open(&descriptors[0], layout, SegmentOptions::default()).unwrap();
    RawPeer::new(socket, segment, Direction::ToServer)
}

/// Waits until the server's thread sleeps on the lifeline, and overwrites the mark that says so.
fn hide_mark(peer: &RawPeer) {
    let mark = peer.out.reader_parked();
    wait_until(|| mark.load(Ordering::Relaxed) & 2 != 0);
    // Its last look is behind it, and it waits for the lifeline alone.
    thread::sleep(Duration::from_millis(200));
    mark.store(0, Ordering::Relaxed);
}

#[test]
fn a_client_that_hides_the_servers_mark_is_disconnected_all_the_same() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let peer = raw_caller(&serving);
    hide_mark(&peer);
    serving.handle.connection(1).unwrap().disconnect();
    wait_until(|| serving.handle.connections().is_empty());
}

#[test]
fn a_client_that_hides_the_servers_mark_is_disconnected_by_a_full_queue_of_events() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.events(2, WhenFull::Disconnect));
    let peer = raw_caller(&serving);
    hide_mark(&peer);
    let connection = serving.handle.connection(1).unwrap();
    // The mark stays hidden, so nobody takes them out.
    wait_until(|| connection.send_event(1, b"news").is_err());
    wait_until(|| serving.handle.connections().is_empty());
}

#[test]
fn clients_that_stall_within_a_request_give_their_buffers_back() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| counting(builder).request_timeout(Duration::from_millis(500)));
    let header = Header::new(Kind::Request, COUNT, correlation(1, 0));
    let mut stalled: Vec<_> = (0..6).map(|_| serving.caller()).collect();
    for caller in &mut stalled {
        stall(caller, header, &[1; 1000]);
    }
    wait_until(|| serving.handle.stats().requests == 6);
    for caller in &mut stalled {
        let refused = caller.answer().unwrap().status();
        assert_eq!(refused.status, Status::DeadlineExceeded, "{}", refused.message);
    }
    wait_until(|| serving.handle.pool_stats().lent() == 0);
    let mut neighbour = serving.caller();
    assert_eq!(neighbour.call(COUNT, &[0; 60_000]), Ok(60_000usize.to_ne_bytes().to_vec()));
    // One that still stalls keeps nobody from the end.
    serving.shut_down();
}

#[test]
fn a_trickle_of_fragments_does_not_renew_a_requests_time() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| counting(builder).request_timeout(Duration::from_millis(300)));
    let mut caller = serving.caller();
    let number = correlation(1, 0);
    let mut writer = caller.stream.write_message(Header::new(Kind::Request, COUNT, number));
    while serving.handle.stats().failures == 0 {
        writer.write_piece(&[1; 10]).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(serving.handle.pool_stats().lent(), 0);
    // What comes of it afterwards is skipped, and the next request is answered.
    writer.write_piece(&[1; 10_000]).unwrap();
    writer.finish().unwrap();
    let came = caller.answer().unwrap();
    assert_eq!((came.header.correlation, came.status().status), (number, Status::DeadlineExceeded));
    assert_eq!(caller.call(COUNT, &[0; 100]), Ok(100usize.to_ne_bytes().to_vec()));
}

#[test]
fn a_request_that_stalls_ends_at_its_own_deadline() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        let builder = counting(builder).request_timeout(Duration::from_secs(3600));
        builder.handle_streaming(COUNT + 1, |mut request, _| {
            std::io::copy(&mut request, &mut std::io::sink())?;
            Ok(())
        })
    });
    for message_type in [COUNT, COUNT + 1] {
        let mut caller = serving.caller();
        let header = Header::new(Kind::Request, message_type, correlation(1, 0)).extended();
        let deadline = Deadline::after(Duration::from_millis(200));
        stall(&mut caller, header, &[&deadline.as_ns().to_ne_bytes()[..], &[0; 100]].concat());
        let came = caller.answer().unwrap();
        assert_eq!(came.status().status, Status::DeadlineExceeded, "{}", came.status().message);
    }
}

#[test]
fn a_request_that_stalls_within_its_deadline_word_is_ended_too() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| counting(builder).request_timeout(Duration::from_millis(200)));
    let mut caller = serving.caller();
    stall(&mut caller, Header::new(Kind::Request, COUNT, correlation(1, 0)).extended(), &[0; 3]);
    assert_eq!(caller.answer().unwrap().status().status, Status::DeadlineExceeded);
}

#[test]
fn a_shutdown_cuts_off_requests_that_stall_and_that_trickle() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| counting(builder).request_timeout(Duration::from_secs(3600)));
    let header = Header::new(Kind::Request, COUNT, correlation(1, 0));
    let (mut stalled, mut trickling) = (serving.caller(), serving.caller());
    stall(&mut stalled, header, &[1; 1000]);
    let (over, is_over) = std::sync::mpsc::channel::<()>();
    let trickle = thread::spawn(move || {
        let mut writer = trickling.stream.write_message(header);
        while is_over.try_recv().is_err() {
            // Fails once the ring is full, and nobody reads it.
            let _ = writer.write_piece(&[1; 10]);
            thread::sleep(Duration::from_millis(1));
        }
    });
    wait_until(|| serving.handle.stats().requests == 2);
    assert!(!serving.handle.shutdown(Duration::from_millis(200)), "they did not end by themselves");
    wait_until(|| serving.handle.pool_stats().lent() == 0);
    over.send(()).unwrap();
    trickle.join().unwrap();
    serving.join().unwrap();
}
