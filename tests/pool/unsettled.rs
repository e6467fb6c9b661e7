//! What comes back in the middle of something, whoever drops it and how, is not lent again as if it were clean.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use ringwire::client::ECHO;
use ringwire::wire::Status;
use ringwire::{ClientPool, ErrorKind, PooledClient};

use super::common::Watchdog;
use super::rig::{Ends, Serving};

const SLOW: u16 = 7;
const ITEMS: u16 = 8;

fn serving() -> Serving {
    Serving::start(|builder| {
        builder
            .handle(SLOW, |request, reply| {
                thread::sleep(Duration::from_millis(50));
                reply.send_payload(request.payload())
            })
            .handle_streaming(ITEMS, |_, items| (0..1_000_u32).try_for_each(|n| items.send(&n.to_ne_bytes())))
    })
}

/// Lends one to `use_it`, and says how many were closed as unsettled, and as broken, in all.
fn after(pool: &ClientPool, use_it: impl FnOnce(&mut PooledClient)) -> (u64, u64) {
    let mut client = pool.acquire().unwrap();
    let caught = catch_unwind(AssertUnwindSafe(move || use_it(&mut client)));
    drop(caught);
    // Whatever it was: the next borrower has his own answer.
    let mut next = pool.acquire().unwrap();
    assert_eq!(next.call(ECHO, b"mine").unwrap().to_vec(), b"mine");
    assert_eq!(next.in_flight(), 0);
    drop(next);
    let closed = pool.metrics().closed;
    (closed.unsettled, closed.broken)
}

#[test]
fn what_is_under_way_is_closed_and_what_is_over_goes_back() {
    let _watchdog = Watchdog::start();
    let serving = serving();
    let pool = serving.pool(1, 1).build().unwrap();
    let clean = after(&pool, |client| assert_eq!(client.call(ECHO, b"a").unwrap().to_vec(), b"a"));
    assert_eq!(clean, (0, 0), "an answered call");
    let refused = |client: &mut PooledClient| {
        assert_eq!(client.call(99, b"").unwrap_err().status(), Some(Status::Unimplemented));
    };
    assert_eq!(after(&pool, refused), (0, 0), "a refused call");
    let read_up = |client: &mut PooledClient| {
        assert_eq!(client.call_streaming(ITEMS, b"").unwrap().count(), 1_000);
    };
    assert_eq!(after(&pool, read_up), (0, 0), "a stream to its end");
    assert_eq!(after(&pool, |client| _ = client.submit(SLOW, b"").unwrap()), (1, 0), "a ticket");
    let late = |client: &mut PooledClient| {
        let called = client.request(SLOW).deadline(Duration::from_millis(2)).call(b"").map(drop);
        assert_eq!(called.unwrap_err().kind(), ErrorKind::TimedOut);
    };
    assert_eq!(after(&pool, late), (2, 0), "a call that timed out");
    let forgotten = |client: &mut PooledClient| {
        std::mem::forget(client.call(ECHO, b"old").unwrap());
    };
    assert_eq!(
        after(&pool, forgotten).0 + pool.metrics().closed.broken,
        3,
        "an answer that stays in the ring"
    );
    assert_eq!(pool.metrics().size, 1);
}

#[test]
fn a_stream_that_is_left_is_closed_unless_it_has_ended_meanwhile() {
    let _watchdog = Watchdog::start();
    let serving = serving();
    let pool = serving.pool(1, 1).build().unwrap();
    let left =
        |client: &mut PooledClient| assert!(client.call_streaming(ITEMS, b"").unwrap().next().is_some());
    let leak = |client: &mut PooledClient| {
        let mut items = client.call_streaming(ITEMS, b"").unwrap();
        assert!(items.next().is_some());
        std::mem::forget(items);
    };
    for _ in 0..20 {
        // Either is good, and which, the server's speed decides: what matters is the next borrower's answer.
        after(&pool, left);
        after(&pool, leak);
    }
    assert_eq!(pool.metrics().in_use, 0);
}

#[test]
fn answers_that_have_come_and_events_are_left_out() {
    let _watchdog = Watchdog::start();
    let serving = serving();
    let pool = serving.pool(1, 1).build().unwrap();
    let answered = |client: &mut PooledClient| {
        let _uncollected = client.submit(ECHO, b"nobody asks for it").unwrap();
        // Behind it, in order.
        client.call(ECHO, b"second").unwrap();
    };
    assert_eq!(after(&pool, answered), (0, 0), "an answer that has come");
    // Events between the loans, events during one, and more than the queue takes.
    let ends = Ends::default();
    let pool = ends.pool(1, 1).build().unwrap();
    for count in [1, 100, 1_000] {
        ends.tell(0, count);
        let mut client = pool.acquire().unwrap();
        assert!(client.try_event().unwrap().is_none(), "of the time before");
        ends.tell(0, count);
        assert_eq!(client.try_event().unwrap().unwrap().message_type(), 3);
    }
    assert_eq!((pool.metrics().closed.total(), pool.metrics().created), (0, 1));
}

#[test]
fn a_panic_gives_back_what_is_clean_and_closes_what_is_not() {
    let _watchdog = Watchdog::start();
    let serving = serving();
    let pool = serving.pool(1, 1).build().unwrap();
    let between = |client: &mut PooledClient| {
        client.call(ECHO, b"").unwrap();
        panic!("on purpose: between two calls");
    };
    assert_eq!(after(&pool, between), (0, 0));
    let reading = |client: &mut PooledClient| {
        client.call_with(ECHO, 8, |slot| _ = slot.write(&[1; 8]), |_| panic!("on purpose: reading")).unwrap();
    };
    assert_eq!(after(&pool, reading), (0, 0), "its answer is read, or let go of");
    let writing = |client: &mut PooledClient| {
        client.call_with(ECHO, 8, |_| panic!("on purpose: writing"), |_| ()).unwrap();
    };
    assert_eq!(after(&pool, writing), (0, 0), "a request that was never sent");
    let asking = |client: &mut PooledClient| {
        let _ticket = client.submit(SLOW, b"").unwrap();
        panic!("on purpose: with a ticket");
    };
    assert_eq!(after(&pool, asking), (1, 0));
    let metrics = pool.metrics();
    assert_eq!((metrics.size, metrics.in_use), (1, 0));
}

#[test]
fn what_a_borrower_chose_is_undone() {
    let _watchdog = Watchdog::start();
    let serving = serving();
    let pool = serving.pool(1, 1).build().unwrap();
    pool.acquire().unwrap().set_call_timeout(Some(Duration::from_nanos(1)));
    assert_eq!(pool.acquire().unwrap().call(ECHO, b"no timeout").unwrap().len(), 10);
}

#[test]
fn what_is_taken_out_makes_place() {
    let _watchdog = Watchdog::start();
    let pool = Ends::default().pool(0, 1).acquire_timeout(None).build().unwrap();
    let own = pool.acquire().unwrap().detach();
    pool.acquire().unwrap().discard();
    drop(pool.acquire().unwrap());
    drop(own);
    let metrics = pool.metrics();
    assert_eq!((metrics.size, metrics.created, metrics.closed.taken_out), (1, 3, 2));
}
