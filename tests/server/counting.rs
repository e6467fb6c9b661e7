//! What a request costs the server's thread: no allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ringwire::WaitStrategy;
use ringwire::sync::Counter;

use super::caller::Serving;
use super::common::Watchdog;

struct Counting;

static ALLOCATIONS: Counter = Counter::new(0);

thread_local! {
    /// Whether this thread's allocations count.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    ALLOCATIONS.add(u64::from(COUNTED.get()));
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ON: u16 = 1;
const OFF: u16 = 2;
const FIRST: u16 = 100;

#[test]
fn a_request_costs_the_server_no_allocation() {
    let _watchdog = Watchdog::start();
    for strategy in [WaitStrategy::SpinThenPark, WaitStrategy::ParkAtOnce] {
        let serving = Serving::start(|builder| {
            let mut builder = builder.wait_strategy(strategy);
            for number in 0..60 {
                builder = builder.handle(FIRST + number, |request, reply| match request.message_type() % 3 {
                    0 => reply.send_payload(request.payload()),
                    1 => reply.send(&[7; 64]),
                    _ => reply.send_with(64, |slot| {
                        slot.write(&[7; 64]);
                    }),
                });
            }
            builder
                .handle_streaming(FIRST + 60, |_, items| (0..20).try_for_each(|_| items.send(&[7; 32])))
                // On the connection's own thread.
                .handle(ON, |_, reply| {
                    COUNTED.set(true);
                    reply.send(b"")
                })
                .handle(OFF, |_, reply| {
                    COUNTED.set(false);
                    reply.send(&ALLOCATIONS.get().to_ne_bytes())
                })
        });
        let mut caller = serving.caller();
        for number in 0..60 {
            caller.call(FIRST + number, &[1; 64]).unwrap();
        }
        let before = ALLOCATIONS.get();
        caller.call(ON, b"").unwrap();
        for round in 0..2_000u16 {
            caller.call(FIRST + round % 60, &[1; 64]).unwrap();
            caller.notify(FIRST + round % 60, &[1; 64]);
            if round.is_multiple_of(100) {
                caller.ask(FIRST + 60, b"");
                while caller.answer().unwrap().header.kind == ringwire::Kind::StreamItem {}
            }
        }
        assert_eq!(caller.call(OFF, b""), Ok(before.to_ne_bytes().to_vec()), "{strategy:?}");
    }
}
