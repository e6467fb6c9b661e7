//! No heap allocation for a call, whatever its form, on either side.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ringwire::Client;
use ringwire::sync::Counter;

use super::common::{Watchdog, scene::STRATEGIES};
use super::scene::{ALLOCATIONS as ALLOCATIONS_TYPE, ECHO, Here, ITEMS, NOTE, connect, second_server};

struct Counting;

static COUNT: Counter = Counter::new(0);

thread_local! {
    /// Whether this thread's allocations count: those of the watchdog and of the test harness do not.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// Counts the calling thread from here on; says how many there have been.
pub(crate) fn begin() -> u64 {
    COUNTED.set(true);
    COUNT.get()
}

fn count() {
    COUNT.add(u64::from(COUNTED.get()));
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

const WARM_UP: u64 = 200;
const ROUNDS: u64 = 2_000;

/// Allocations of the server's process, as far as they are counted.
fn servers_count(client: &mut Client) -> u64 {
    client.call(ALLOCATIONS_TYPE, &[]).unwrap().read().unwrap()
}

/// A call in each of its forms.
fn round(client: &mut Client, number: u64, buffer: &mut Vec<u8>) {
    let (request, mut copy) = ([number as u8; 1024], [0; 1024]);
    let bytes = if number.is_multiple_of(2) { 64 } else { 1024 };
    assert_eq!(client.call(ECHO, &request[..bytes]).unwrap().payload().copy_to(&mut copy), bytes);
    assert_eq!(copy[..bytes], request[..bytes]);
    assert_eq!(client.call_into(ECHO, &request[..bytes], buffer).unwrap(), bytes);
    let write = |slot: &mut ringwire::Slot<'_>| {
        slot.write(&request[..bytes]);
    };
    assert_eq!(client.call_with(ECHO, bytes, write, |payload| payload.len()).unwrap(), bytes);
    let tickets = [(); 16].map(|()| client.submit(ECHO, &request[..bytes]).unwrap());
    // The last one first: the others wait in the client's own buffers.
    for ticket in tickets.into_iter().rev() {
        assert_eq!(client.collect(ticket).unwrap().len(), bytes);
    }
    client.notify(NOTE, &request[..bytes]).unwrap();
    let mut items = client.call_streaming(ITEMS, &20u64.to_ne_bytes()).unwrap();
    while let Some(item) = items.next_item().unwrap() {
        assert_eq!(item.len(), 32);
    }
}

/// Allocations of this process's calls, and of the server's answers to them.
fn allocations_of(client: &mut Client) -> (u64, u64) {
    begin();
    let mut buffer = Vec::with_capacity(1024);
    for number in 0..WARM_UP {
        round(client, number, &mut buffer);
    }
    servers_count(client);
    let (here, there) = (COUNT.get(), servers_count(client));
    for number in 0..ROUNDS {
        round(client, number, &mut buffer);
    }
    let found = (COUNT.get() - here, servers_count(client) - there);
    COUNTED.set(false);
    found
}

#[test]
fn no_call_costs_an_allocation_on_either_side() {
    let _watchdog = Watchdog::start();
    begin();
    let before = COUNT.get();
    drop(std::hint::black_box(vec![1]));
    assert_eq!(COUNT.get() - before, 1, "the count counts");
    for (waiting, _) in STRATEGIES {
        let here = Here::start(waiting);
        assert_eq!(allocations_of(&mut connect(&here.path, waiting)), (0, 0), "{waiting}, one process");
        drop(here);
        let (_directory, path) = super::common::scene::place();
        let second = second_server(&path, waiting);
        let mut client = connect(&path, waiting);
        let found = allocations_of(&mut client);
        println!("allocations in {ROUNDS} rounds of 22 calls, {waiting}: {found:?}");
        assert_eq!(found, (0, 0), "{waiting}, two processes");
        drop(client);
        second.join();
    }
}
