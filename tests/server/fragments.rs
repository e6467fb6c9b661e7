//! Requests that travel in fragments: buffers that run out, senders that give up or stall.

use std::sync::Arc;
use std::time::Duration;

use ringwire::buffer::PoolConfig;
use ringwire::sync::Counter;
use ringwire::transport::Deadline;
use ringwire::wire::Status;
use ringwire::wire::call::ECHO;
use ringwire::{Header, Kind};

use super::caller::Serving;
use super::common::{Watchdog, wait_until};

const COUNT: u16 = 8;

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
