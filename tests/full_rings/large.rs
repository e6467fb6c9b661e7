//! Long messages both ways at once.

use std::collections::VecDeque;
use std::io::Read;

use ringwire::server::{Items, Replied, Reply, Request, StreamingRequest};
use ringwire::{Client, ErrorKind, Failure, Ticket};

use super::common::{Watchdog, assert_bytes, bytes};
use super::{MIRROR, Served, TALK_FIRST, TURN};

const REQUEST_BYTES: usize = 32 << 10;
const WINDOW: usize = 16;
const REQUESTS: usize = 400;
const LONG_BYTES: usize = 1 << 20;

pub(super) fn turn(request: &Request<'_>, reply: Reply<'_>) -> Result<Replied, Failure> {
    let mut bytes = request.payload().to_vec();
    for byte in &mut bytes {
        *byte = !*byte;
    }
    reply.send(&bytes)
}

pub(super) fn mirror(mut request: StreamingRequest<'_>, items: &mut Items<'_>) -> Result<(), Failure> {
    let mut piece = [0; 3_000];
    loop {
        match request.read(&mut piece)? {
            0 => return Ok(()),
            count => items.send(&piece[..count])?,
        }
    }
}

pub(super) fn talk_first(mut request: StreamingRequest<'_>, items: &mut Items<'_>) -> Result<(), Failure> {
    for at in (0..LONG_BYTES).step_by(4096) {
        items.send(&bytes(at as u64, 4096))?;
    }
    let read = request.read_all(2 * LONG_BYTES)?;
    items.send(&read.len().to_ne_bytes())
}

fn request(number: usize) -> Vec<u8> {
    bytes(number as u64 * 911, REQUEST_BYTES)
}

fn collect(client: &mut Client, (number, ticket): (usize, Ticket)) {
    let found = client.collect(ticket).unwrap().to_vec();
    let expected: Vec<u8> = request(number).iter().map(|byte| !byte).collect();
    assert_bytes(&found, &expected, &format!("reply {number}"));
}

#[test]
fn a_window_of_long_requests_and_replies_goes_through_full_rings() {
    let _watchdog = Watchdog::start();
    // In fragments by far, in fragments just so, whole.
    for ring_bytes in [16 << 10, 64 << 10, 128 << 10] {
        let served = Served::start(ring_bytes);
        let mut client = served.client();
        let mut window = VecDeque::new();
        for number in 0..REQUESTS {
            if window.len() == WINDOW {
                collect(&mut client, window.pop_front().unwrap());
            }
            window.push_back((number, client.submit(TURN, &request(number)).unwrap()));
        }
        for asked in window {
            collect(&mut client, asked);
        }
        drop(client);
        served.end();
    }
}

#[test]
fn replies_that_nobody_collects_for_long_are_collected_in_any_order() {
    let _watchdog = Watchdog::start();
    let served = Served::start(64 << 10);
    let mut client = served.client();
    for round in 0..10 {
        let mut asked: Vec<_> = (0..64)
            .map(|number| (number + round, client.submit(TURN, &request(number + round)).unwrap()))
            .collect();
        assert_eq!(client.submit(TURN, b"").unwrap_err().kind(), ErrorKind::ResourceExhausted);
        asked.reverse();
        for asked in asked {
            collect(&mut client, asked);
        }
    }
    drop(client);
    served.end();
}

#[test]
fn a_long_streamed_reply_passes_a_long_request_that_is_still_being_sent() {
    let _watchdog = Watchdog::start();
    for ring_bytes in [8 << 10, 64 << 10] {
        let served = Served::start(ring_bytes);
        let mut client = served.client();
        for round in 0..5 {
            let sent = bytes(round * 77, LONG_BYTES);
            let mut came = Vec::new();
            let mut items = client.call_streaming(MIRROR, &sent).unwrap();
            while let Some(item) = items.next_item().unwrap() {
                item.payload().append_to(&mut came);
            }
            drop(items);
            assert_bytes(&came, &sent, "what was mirrored");

            let mut items: Vec<Vec<u8>> =
                client.call_streaming(TALK_FIRST, &sent).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(items.pop().unwrap(), LONG_BYTES.to_ne_bytes(), "the handler read all of it");
            for (at, item) in items.iter().enumerate() {
                assert_bytes(item, &bytes(at as u64 * 4096, 4096), "what was said first");
            }
        }
        assert_eq!(client.call(TURN, b"\x00").unwrap().to_vec(), b"\xff", "the connection is as good as new");
        drop(client);
        served.end();
    }
}
