//! No heap allocation per message, in the threads that send and receive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{IoSlice, Read, Write};
use std::thread;
use std::time::Duration;

use common::Watchdog;
use ringwire::buffer::{Pool, PoolConfig};
use ringwire::sync::Counter;
use ringwire::{
    ByteStream, Client, ClientPool, Header, Kind, NamedReceiver, NamedSender, Stream, WaitStrategy,
};

struct Counting;

static ALLOCATIONS: Counter = Counter::new(0);

thread_local! {
    /// Whether this thread's allocations count: those of the watchdog and of the test harness do not.
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

const WARM_UP: u64 = 500;

fn event(number: u64) -> Header {
    Header::new(Kind::Request, 1, number)
}

/// One round trip, with each of the ways to send and to receive in its turn.
fn round_trip(stream: &mut Stream, number: u64, buffer: &mut Vec<u8>) {
    match number % 4 {
        0 => stream.send(event(number), &[7; 64]).unwrap(),
        1 => stream.try_send(event(number), &[7; 64]).unwrap(),
        2 => {
            let mut slot = stream.reserve(event(number), 100).unwrap();
            slot.write(&[7; 64]);
            slot.commit();
        }
        _ => stream.batch().send(event(number), &[7; 64]).unwrap(),
    }
    let mut copy = [0; 64];
    match number % 3 {
        0 => assert_eq!(stream.receive().unwrap().payload().copy_to(&mut copy), 64),
        1 => assert_eq!(stream.receive_into(buffer).unwrap(), event(number)),
        _ => {
            let mut reader = stream.read_message().unwrap();
            assert_eq!(reader.next_piece().unwrap().unwrap().copy_to(&mut copy), 64);
        }
    }
}

fn allocations_of(strategy: WaitStrategy, rounds: u64) -> u64 {
    let (mut one, mut two) = Stream::pair_with(4096, strategy).unwrap();
    let echo = thread::spawn(move || {
        COUNTED.set(true);
        for _ in 0..WARM_UP + rounds {
            let message = two.receive().unwrap();
            let (header, mut copy) = (message.header(), [0; 64]);
            assert_eq!(message.payload().copy_to(&mut copy), 64);
            drop(message);
            two.send(header, &copy).unwrap();
        }
        COUNTED.set(false);
        two
    });
    let mut buffer = Vec::with_capacity(64);
    for number in 0..WARM_UP {
        round_trip(&mut one, number, &mut buffer);
    }
    let before = ALLOCATIONS.get();
    for number in 0..rounds {
        round_trip(&mut one, number, &mut buffer);
    }
    let allocations = ALLOCATIONS.get() - before;
    drop(echo.join().unwrap());
    allocations
}

/// A full ring under each backpressure costs none either.
fn allocations_when_full() -> u64 {
    let (mut one, mut two) = Stream::pair_with(4096, WaitStrategy::ParkAtOnce).unwrap();
    while one.try_send(event(0), &[0; 64]).is_ok() {}
    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        assert!(one.try_send(event(0), &[0; 64]).is_err());
    }
    one.set_backpressure(ringwire::Backpressure::Drop);
    for _ in 0..1000 {
        one.send(event(0), &[0; 64]).unwrap();
    }
    while two.try_receive().unwrap().is_some() {}
    ALLOCATIONS.get() - before
}

/// The same through two named rings, one in each direction.
fn allocations_of_named_rings(strategy: WaitStrategy, rounds: u64) -> u64 {
    let name = |way: &str| format!("/ringwire-test-{}-{way}", std::process::id());
    let mut there = NamedSender::create(&name("there"), 4096).unwrap();
    let mut back = NamedReceiver::create(&name("back"), 4096).unwrap();
    let mut far_end = NamedReceiver::open(&name("there")).unwrap();
    let mut far_start = NamedSender::open(&name("back")).unwrap();
    let echo = thread::spawn(move || {
        COUNTED.set(true);
        far_end.set_wait_strategy(strategy);
        for _ in 0..WARM_UP + rounds {
            let message = far_end.receive().unwrap();
            let (header, mut copy) = (message.header(), [0; 64]);
            assert_eq!(message.payload().copy_to(&mut copy), 64);
            drop(message);
            far_start.send(header, &copy).unwrap();
        }
        COUNTED.set(false);
        (far_end, far_start)
    });
    back.set_wait_strategy(strategy);
    let mut before = 0;
    for number in 0..WARM_UP + rounds {
        if number == WARM_UP {
            before = ALLOCATIONS.get();
        }
        there.send(event(number), &[7; 64]).unwrap();
        assert_eq!(back.receive().unwrap().header(), event(number));
    }
    let allocations = ALLOCATIONS.get() - before;
    drop(echo.join().unwrap());
    allocations
}

/// Bytes there and back, in one record and in many, and calls that have nothing to do.
fn allocations_of_bytes() -> u64 {
    let (mut one, mut two) = ByteStream::pair().unwrap();
    let (large, mut found) = (vec![7; 100_000], vec![0; 100_000]);
    one.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    two.set_nonblocking(true).unwrap();
    let before = ALLOCATIONS.get();
    for length in [1, 64, 5_000, 100_000] {
        assert!(one.read(&mut found).is_err() && two.read(&mut found).is_err());
        one.write_all(&large[..length]).unwrap();
        two.read_exact(&mut found[..length]).unwrap();
        let parts = [IoSlice::new(&large[..length / 2]), IoSlice::new(&large[length / 2..length])];
        assert_eq!(two.write_vectored(&parts).unwrap(), length);
        one.read_exact(&mut found[..length]).unwrap();
    }
    while two.write(&large).is_ok() {}
    ALLOCATIONS.get() - before
}

/// What the server of `allocations_of_calls` does with a request, by its type.
const ECHO: u16 = 1;
const WITH_EVENT: u16 = 2;
const STREAM: u16 = 3;

fn serve(mut server: Stream) {
    COUNTED.set(true);
    loop {
        let Ok(message) = server.receive() else { break };
        let (asked, mut copy) = (message.header(), [0; 72]);
        let count = message.payload().copy_to(&mut copy);
        drop(message);
        let answer = |kind| Header::new(kind, asked.message_type, asked.correlation);
        if asked.message_type == STREAM {
            for _ in 0..5 {
                server.send(answer(Kind::StreamItem), &copy[..count]).unwrap();
            }
            server.send(answer(Kind::StreamEnd), &[0; 8]).unwrap();
            continue;
        }
        if asked.message_type == WITH_EVENT {
            server.send(Header::new(Kind::Event, 9, 0), &copy[..count]).unwrap();
        }
        server.send(answer(Kind::Response), &copy[..count]).unwrap();
    }
    COUNTED.set(false);
}

/// Each form of a call in its turn.
fn call(client: &mut Client, number: u64, buffer: &mut Vec<u8>) {
    let mut copy = [0; 64];
    match number % 8 {
        0 => assert_eq!(client.call(ECHO, &[7; 64]).unwrap().payload().copy_to(&mut copy), 64),
        1 => assert_eq!(client.call_into(ECHO, &[7; 64], buffer).unwrap(), 64),
        2 => {
            let call = client.request(ECHO).deadline(Duration::from_secs(50));
            let write = |slot: &mut ringwire::Slot<'_>| assert_eq!(slot.write(&[7; 64]), 64);
            assert_eq!(call.call_with(64, write, |payload| payload.copy_to(&mut copy)).unwrap(), 64);
        }
        3 => {
            let tickets = [0; 8].map(|_| client.submit(ECHO, &[7; 64]).unwrap());
            for ticket in tickets.iter().rev() {
                assert_eq!(client.collect(*ticket).unwrap().len(), 64);
            }
        }
        4 => {
            let _ = client.submit(ECHO, &[7; 64]).unwrap();
            assert!(client.collect_any().unwrap().unwrap().1.is_ok());
        }
        5 => {
            client.call(WITH_EVENT, &[7; 64]).unwrap();
            assert_eq!(client.try_event().unwrap().unwrap().payload().copy_to(&mut copy), 64);
        }
        6 => {
            let mut items = client.call_streaming(STREAM, &[7; 64]).unwrap();
            let mut count = 0;
            while let Some(item) = items.next_item().unwrap() {
                count += item.len();
            }
            assert_eq!(count, 5 * 64);
        }
        _ => assert_eq!(client.call_typed::<_, [u64; 8]>(ECHO, &[7_u64; 8]).unwrap(), [7; 8]),
    }
}

/// The client's thread and the server's, in all forms of a call.
fn allocations_of_calls(strategy: WaitStrategy, rounds: u64) -> u64 {
    let (stream, server) = Stream::pair_with(64 << 10, strategy).unwrap();
    let serving = thread::spawn(|| serve(server));
    let mut client = Client::builder("").over(stream);
    let mut buffer = Vec::with_capacity(64);
    for number in 0..WARM_UP {
        call(&mut client, number, &mut buffer);
    }
    let before = ALLOCATIONS.get();
    for number in 0..rounds {
        call(&mut client, number, &mut buffer);
    }
    let allocations = ALLOCATIONS.get() - before;
    drop(client);
    serving.join().unwrap();
    allocations
}

/// Buffers that have their memory, and the large one, which is mapped.
fn allocations_of_the_pool() -> u64 {
    let pool = Pool::new(PoolConfig::default()).unwrap();
    let mut before = 0;
    for number in 0..1000 {
        if number == 1 {
            before = ALLOCATIONS.get();
        }
        for bytes in [64, 50_000, 1 << 20] {
            drop(pool.acquire(bytes, None).unwrap());
        }
    }
    ALLOCATIONS.get() - before
}

/// A client on loan.
fn allocations_of_loans() -> u64 {
    let (stream, _server) = Stream::pair().unwrap();
    let only = std::sync::Mutex::new(Some(Client::builder("").over(stream)));
    let pool = ClientPool::over(move |_| Ok(only.lock().unwrap().take().unwrap()));
    let pool = pool.min_connections(1).max_connections(1).build().unwrap();
    let before = ALLOCATIONS.get();
    for _ in 0..1_000 {
        drop(pool.acquire().unwrap());
    }
    ALLOCATIONS.get() - before
}

#[test]
fn no_message_costs_an_allocation() {
    let _watchdog = Watchdog::start();
    COUNTED.set(true);
    drop(std::hint::black_box(vec![1]));
    assert_eq!(ALLOCATIONS.get(), 1, "the count counts");
    for (strategy, rounds) in [
        (WaitStrategy::SpinOnly, 2_000),
        (WaitStrategy::SpinThenPark, 10_000),
        (WaitStrategy::ParkAtOnce, 10_000),
    ] {
        assert_eq!(allocations_of(strategy, rounds), 0, "{strategy:?}");
        assert_eq!(allocations_of_calls(strategy, rounds), 0, "{strategy:?}");
        assert_eq!(allocations_of_named_rings(strategy, rounds / 2), 0, "{strategy:?}");
    }
    assert_eq!(allocations_when_full(), 0);
    assert_eq!(allocations_of_bytes(), 0);
    assert_eq!(allocations_of_the_pool(), 0);
    assert_eq!(allocations_of_loans(), 0);
}
