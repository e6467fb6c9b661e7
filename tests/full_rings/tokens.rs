//! A stream of small items to a client that keeps up.

use std::time::Instant;

use ringwire::Failure;
use ringwire::server::{Items, StreamingRequest};

use super::common::Watchdog;
use super::{Served, TOKENS};

const ITEM_BYTES: usize = 32;

/// So many: 100,000 unless the environment says otherwise.
fn count() -> u64 {
    std::env::var("RINGWIRE_TOKENS").map_or(100_000, |text| text.parse().unwrap())
}

pub(super) fn stream(request: StreamingRequest<'_>, items: &mut Items<'_>) -> Result<(), Failure> {
    let payload = request.payload().ok_or_else(|| Failure::invalid_argument("a number in one record"))?;
    let count: u64 = payload.read_at(0).ok_or_else(|| Failure::invalid_argument("expected 8 bytes"))?;
    let mut item = [7; ITEM_BYTES];
    for number in 0..count {
        item[..8].copy_from_slice(&number.to_ne_bytes());
        items.send(&item)?;
    }
    Ok(())
}

#[test]
fn tokens_arrive_one_by_one_in_order_and_complete() {
    let _watchdog = Watchdog::start();
    let served = Served::start(64 << 10);
    let (mut client, count) = (served.client(), count());
    for _ in 0..3 {
        let started = Instant::now();
        let mut tokens = client.call_streaming(TOKENS, &count.to_ne_bytes()).unwrap();
        let mut next = 0u64;
        while let Some(token) = tokens.next_item().unwrap() {
            let payload = token.payload();
            assert_eq!((payload.len(), payload.read_at(0)), (ITEM_BYTES, Some(next)));
            next += 1;
        }
        drop(tokens);
        assert_eq!(next, count);
        let seconds = started.elapsed().as_secs_f64();
        println!("{count} items of {ITEM_BYTES} B: {:.1} million/s", count as f64 / seconds / 1e6);
    }
    drop(client);
    served.end();
}
