//! Requests that travel in fragments: buffers that run out, senders that give up or stall.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use ringwire::buffer::PoolConfig;
use ringwire::server::{Failure, Reply, Request};
use ringwire::sync::Counter;
use ringwire::transport::Deadline;
use ringwire::wire::Status;
use ringwire::wire::call::ECHO;
use ringwire::{Header, Kind};

use super::caller::Serving;
use super::common::raw::{CONTINUED, MORE, tag};
use super::common::{Watchdog, wait_until};
use super::held::raw_caller;

const COUNT: u16 = 8;
/// What a client by hand asks for.
const RAW: u16 = 1;

#[test]
fn a_request_in_fragments_waits_for_a_buffer_and_then_is_refused() {
    let _watchdog = Watchdog::start();
    let release = Arc::new(Counter::new(0));
    let serving = Serving::start(|builder| {
        let mut pool = PoolConfig::default();
        pool.medium.count = 1;
        let release = Arc::clone(&release);
        builder.pool(pool).handle(COUNT, move |request, reply| {
            while release.get() == 0 && request.payload().read_at::<u8>(0) == Some(1) {
                std::thread::yield_now();
            }
            reply.send(&request.payload().len().to_ne_bytes())
        })
    });
    let (mut one, mut two) = (serving.caller(), serving.caller());
    one.ask(COUNT, &[1; 40_000]);
    wait_until(|| serving.handle.stats().requests == 1 && serving.handle.pool_stats().lent() == 1);
    two.ask_until(COUNT, &[2; 40_000], Deadline::after(Duration::from_millis(50)));
    let refused = two.answer().unwrap().status();
    assert_eq!(refused.status, Status::ResourceExhausted);
    assert!(refused.message.contains("65536"), "{}", refused.message);
    // Without a deadline it waits for a second: long enough for this.
    two.ask(COUNT, &[2; 40_000]);
    wait_until(|| serving.handle.stats().requests == 3);
    release.set(1);
    for caller in [&mut one, &mut two] {
        assert_eq!(caller.answer().unwrap().payload, 40_000usize.to_ne_bytes());
    }
    wait_until(|| serving.handle.pool_stats().lent() == 0);
}

#[test]
fn a_request_has_a_buffer_of_its_size_from_the_start() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder.ring_bytes(4096));
    let (handle, (say, said)) = (serving.handle.clone(), channel());
    // Which buffers are lent meanwhile.
    let lent = move |request: &Request<'_>, reply: Reply<'_>| {
        let lent = handle.pool_stats().tiers().map(|tier| tier.lent);
        say.send((request.payload().len(), lent)).map_err(|_| Failure::internal("nobody asks"))?;
        reply.send(b"")
    };
    serving.handle.add_handler(RAW, lent).unwrap();
    let mut caller = serving.caller();
    // Also with its deadline in front.
    let until = [Deadline::NEVER, Deadline::after(Duration::from_secs(60))];
    for (bytes, lent) in [(4_096, [1, 0, 0]), (1 << 20, [0, 0, 1]), (5_000, [0, 1, 0])] {
        for until in until {
            caller.ask_until(RAW, &vec![1; bytes], until);
            assert_eq!(caller.answer().unwrap().header.kind, Kind::Response);
            assert_eq!(said.recv().unwrap(), (bytes, lent));
        }
        if bytes > 5_000 {
            assert_eq!(serving.handle.pool_stats().medium.resident_bytes, 0, "on the way to the large one");
        }
    }
    // Whoever writes it piece by piece does not know.
    let mut writer = caller.stream.write_message(Header::new(Kind::Request, RAW, 99 << 6));
    writer.write_piece(&[1; 3000]).unwrap();
    writer.finish().unwrap();
    assert_eq!(caller.answer().unwrap().header.kind, Kind::Response);
    assert_eq!(said.recv().unwrap(), (3000, [0, 1, 0]));
    // The other thread gives its buffer back behind the answer.
    wait_until(|| serving.handle.pool_stats().lent() == 0);
    // Nobody has to tell the truth.
    let raw = raw_caller(&serving);
    let mut writer = raw.writer();
    for (class, pieces, lent) in
        [(1, 100, [0, 0, 1]), (1, 3, [0, 1, 0]), (15, 2, [0, 0, 1]), (5, 2, [0, 1, 0])]
    {
        for piece in 0..pieces {
            let more = if piece + 1 < pieces { MORE } else { 0 };
            let flags = if piece == 0 { class << 4 | more } else { CONTINUED | more };
            wait_until(|| writer.has_room(2016));
            writer.tagged(tag(Kind::Request as u8, flags), 0, &[1; 2000]);
            raw.ring_the_bell();
        }
        assert_eq!(said.recv().unwrap(), (pieces * 2000, lent));
    }
    wait_until(|| serving.handle.pool_stats().lent() == 0);
}

#[test]
fn a_request_that_is_given_up_half_way_is_answered_and_one_that_stalls_can_be_ended() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| {
        builder.handle_streaming(COUNT, |mut request, _| {
            std::io::copy(&mut request, &mut std::io::sink())?;
            Ok(())
        })
    });
    let mut caller = serving.caller();
    for (number, message_type) in [(1, ECHO), (2, COUNT)] {
        let header = Header::new(Kind::Request, message_type, number << 6);
        let mut writer = caller.stream.write_message(header);
        writer.write_piece(&[7; 5000]).unwrap();
        drop(writer);
        // A message that is given up while there is no room to say so is told of in front of the next one.
        caller.notify(12_345, b"");
        let answer = caller.answer().unwrap();
        assert_eq!((answer.header.kind, answer.header.correlation), (Kind::Error, number << 6));
        assert_eq!(answer.status().status, Status::Cancelled);
    }
    let mut writer = caller.stream.write_message(Header::new(Kind::Request, ECHO, 3 << 6));
    writer.write_piece(&[7; 5000]).unwrap();
    wait_until(|| serving.handle.stats().requests == 5);
    serving.handle.connection(1).unwrap().disconnect();
    wait_until(|| serving.handle.connections().is_empty());
}
