//! Instruction counts of the hot paths, with hard limits: a regression fails the run.
//!
//! `cargo bench --bench instructions` (needs valgrind and `iai-callgrind-runner` 0.16.1; `.ci/counts` installs both). Both
//! halves of a ring are driven from one thread, so a count is what send and receive cost together, without any waiting.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark: its setup either works or ends the run")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use iai_callgrind::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use ringwire::buffer::{Pool, PoolConfig};
use ringwire::ring::{Consumer, Producer, Tuning};
use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Heard, Kernel, Native, NativeWord};
use ringwire::wire::call;
use ringwire::{Client, ClientPool, Header, Kind, Server, Stream, WaitStrategy};

/// Nobody sleeps here, so nothing is asked of the kernel.
#[derive(Clone, Copy)]
struct NoKernel;

impl Kernel<NativeWord> for NoKernel {
    fn sleep(&self, _: &NativeWord, _: u32, _: u64) {}
    fn wake(&self, _: &NativeWord) {}
    fn listen(&self, _: u64) -> Heard {
        Heard::Nothing
    }
    fn ring_bell(&self) {}
    fn peer_is_gone(&self) -> bool {
        false
    }
    fn discard(&self, _: u32, _: u32) {}
}

struct Ring {
    producer: Producer<Native, NoKernel>,
    consumer: Consumer<Native, NoKernel>,
    header: Header,
    payload: Vec<u8>,
    received: Vec<u8>,
}

/// A ring of 64 KiB in use (pages touched, a few records sent and received), for payloads of `bytes`.
fn ring(bytes: usize) -> Box<Ring> {
    let layout = Layout::new(65_536, 65_536).unwrap();
    let (segment, _) = Segment::create(layout, SegmentOptions::default()).unwrap();
    let area = |segment: &Arc<Segment>| segment.area(Direction::ToServer);
    let tuning = Tuning::for_ring(65_536);
    let mut ring = Box::new(Ring {
        producer: Producer::new(area(&segment), NoKernel, tuning),
        consumer: Consumer::new(area(&segment), NoKernel, tuning),
        header: Header::new(Kind::Request, 1, 42),
        payload: vec![7; bytes],
        received: vec![0; bytes],
    });
    for _ in 0..3 {
        send(&mut ring);
        receive(&mut ring);
    }
    ring
}

fn full_of_one() -> Box<Ring> {
    let mut ring = ring(64);
    send(&mut ring);
    ring
}

#[inline(always)]
fn send(ring: &mut Ring) {
    ring.producer.push(&ring.header, &ring.payload).unwrap();
}

#[inline(always)]
fn receive(ring: &mut Ring) {
    let record = ring.consumer.peek().unwrap().unwrap();
    ring.consumer.payload(&record).copy_to(&mut ring.received);
    ring.consumer.release(record);
}

fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions)]));
    config
}

#[library_benchmark]
#[bench::bytes_16(args = (ring(16),), config = at_most(155))]
#[bench::bytes_64(args = (ring(64),), config = at_most(145))]
#[bench::bytes_1024(args = (ring(1024),), config = at_most(700))]
fn send_and_receive(mut ring: Box<Ring>) -> Box<Ring> {
    send(&mut ring);
    receive(&mut ring);
    ring
}

#[library_benchmark(config = at_most(115))]
#[bench::bytes_64(ring(64))]
fn reserve_write_commit(mut ring: Box<Ring>) -> Box<Ring> {
    let mut slot = ring.producer.reserve(ring.header, black_box(64)).unwrap();
    slot.write(&ring.payload);
    slot.commit();
    ring
}

#[library_benchmark(config = at_most(2_330))]
#[bench::bytes_64(ring(64))]
fn batch_of_16(mut ring: Box<Ring>) -> Box<Ring> {
    for _ in 0..16 {
        ring.producer.append(&ring.header, &ring.payload).unwrap();
    }
    ring.producer.flush();
    for _ in 0..16 {
        receive(&mut ring);
    }
    ring
}

#[library_benchmark(config = at_most(12))]
#[bench::empty(ring(64))]
fn poll_of_an_empty_ring(ring: Box<Ring>) -> Box<Ring> {
    black_box(ring.consumer.poll().is_none());
    ring
}

#[library_benchmark(config = at_most(60))]
#[bench::bytes_64(full_of_one())]
fn check_of_a_record(mut ring: Box<Ring>) -> Box<Ring> {
    black_box(ring.consumer.peek().unwrap());
    ring
}

#[library_benchmark(config = at_most(30))]
#[bench::request(args = (Header::new(Kind::Request, 7, 42).tag(), 42))]
fn check_of_a_header(tag: u32, correlation: u64) -> bool {
    black_box(Header::parse(black_box(tag), black_box(correlation))).is_ok()
}

struct Ends {
    client: Stream,
    server: Stream,
    payload: Vec<u8>,
    received: Vec<u8>,
}

/// Both ends of a connection in this process, in use.
fn ends() -> Box<Ends> {
    let (client, server) = Stream::pair_with(65_536, WaitStrategy::SpinOnly).unwrap();
    let mut ends = Box::new(Ends { client, server, payload: vec![7; 64], received: vec![0; 64] });
    for _ in 0..3 {
        pass(&mut ends);
    }
    ends
}

#[inline(always)]
fn pass(ends: &mut Ends) {
    ends.client.send(Header::new(Kind::Request, 1, 42), &ends.payload).unwrap();
    ends.server.receive().unwrap().payload().copy_to(&mut ends.received);
}

#[library_benchmark(config = at_most(180))]
#[bench::bytes_64(ends())]
fn stream_send_and_receive(mut ends: Box<Ends>) -> Box<Ends> {
    pass(&mut ends);
    ends
}

/// A client in use, and a server that has answered before it was asked: nobody waits for anybody.
struct Calls {
    client: Client,
    server: Stream,
    asked: u64,
    payload: Vec<u8>,
    received: Vec<u8>,
}

const WORK: u16 = 7;
const ITEMS: u64 = 100;
const WINDOW: usize = 16;

fn calls() -> Box<Calls> {
    let (stream, server) = Stream::pair_with(65_536, WaitStrategy::SpinOnly).unwrap();
    let client = Client::builder("").over(stream);
    let mut calls = Box::new(Calls { client, server, asked: 0, payload: vec![7; 64], received: vec![0; 64] });
    for _ in 0..3 {
        answer(&mut calls, &[Kind::Response]);
        ask(&mut calls);
        calls.server.receive().unwrap();
    }
    calls
}

fn answer(calls: &mut Calls, kinds: &[Kind]) {
    calls.asked += 1;
    for kind in kinds {
        let header = Header::new(*kind, WORK, call::correlation(calls.asked, 0));
        calls.server.send(header, if *kind == Kind::StreamEnd { &[0; 8] } else { &calls.payload }).unwrap();
    }
}

fn answered() -> Box<Calls> {
    let mut calls = calls();
    answer(&mut calls, &[Kind::Response]);
    calls
}

fn streamed() -> Box<Calls> {
    let mut calls = calls();
    let mut kinds = vec![Kind::StreamItem; ITEMS as usize];
    kinds.push(Kind::StreamEnd);
    calls.payload.truncate(32);
    answer(&mut calls, &kinds);
    calls
}

#[inline(always)]
fn ask(calls: &mut Calls) {
    calls.client.call(WORK, &calls.payload).unwrap().payload().copy_to(&mut calls.received);
}

#[library_benchmark(config = at_most(270))]
#[bench::bytes_64(answered())]
fn client_call(mut calls: Box<Calls>) -> Box<Calls> {
    ask(&mut calls);
    calls
}

#[library_benchmark(config = at_most(340))]
#[bench::bytes_64(answered())]
fn client_call_with(mut calls: Box<Calls>) -> Box<Calls> {
    let Calls { client, payload, received, .. } = &mut *calls;
    let called = client.call_with(
        WORK,
        64,
        |slot| {
            slot.write(payload);
        },
        |payload| payload.copy_to(received),
    );
    called.unwrap();
    calls
}

#[library_benchmark(config = at_most(330))]
#[bench::bytes_64(answered())]
fn client_submit_and_collect(mut calls: Box<Calls>) -> Box<Calls> {
    let ticket = calls.client.submit(WORK, &calls.payload).unwrap();
    calls.client.collect(ticket).unwrap().payload().copy_to(&mut calls.received);
    calls
}

fn window_answered() -> Box<Calls> {
    let mut calls = calls();
    calls.payload.resize(1024, 7);
    calls.received.resize(1024, 0);
    for slot in 0..WINDOW {
        calls.asked += 1;
        let header = Header::new(Kind::Response, WORK, call::correlation(calls.asked, slot));
        calls.server.send(header, &calls.payload).unwrap();
    }
    calls
}

#[library_benchmark(config = at_most(15_600))]
#[bench::kib_1(window_answered())]
fn client_window_of_16(mut calls: Box<Calls>) -> Box<Calls> {
    let Calls { client, payload, received, .. } = &mut *calls;
    let mut batch = client.batch();
    for _ in 0..WINDOW {
        let _ = batch.submit(WORK, payload).unwrap();
    }
    batch.finish();
    let (_, reply) = client.collect_any().unwrap().unwrap();
    reply.unwrap().payload().copy_to(received);
    while let Some((_, reply)) = client.try_collect_any().unwrap() {
        reply.unwrap().payload().copy_to(received);
    }
    assert_eq!(client.in_flight(), 0);
    calls
}

#[library_benchmark(config = at_most(14_500))]
#[bench::items_100(streamed())]
fn client_stream(mut calls: Box<Calls>) -> Box<Calls> {
    let mut items = calls.client.call_streaming(WORK, &calls.payload).unwrap();
    while let Some(item) = items.next_item().unwrap() {
        item.payload().copy_to(&mut calls.received);
    }
    drop(items);
    calls
}

/// A server with 64 handlers, and a client's end with a request on its way.
struct Serving {
    client: Stream,
    turn: Box<dyn FnMut() -> bool>,
}

fn serving() -> Box<Serving> {
    let directory = tempfile::tempdir().unwrap();
    let (mut client, stream) = Stream::pair_with(65_536, WaitStrategy::SpinOnly).unwrap();
    let mut server = Server::builder(directory.path().join("s.sock"));
    for message_type in 0..64 {
        server = server.handle(message_type, |request, reply| reply.send_payload(request.payload()));
    }
    let mut turn = server.build().unwrap().into_turns(stream);
    for sequence in 1..4 {
        request(&mut client, sequence);
        assert!(turn());
        client.receive().unwrap();
    }
    request(&mut client, 4);
    Box::new(Serving { client, turn: Box::new(turn) })
}

fn request(client: &mut Stream, sequence: u64) {
    let header = Header::new(Kind::Request, 40, call::correlation(sequence, 0));
    client.send(header, &[7; 64]).unwrap();
}

#[library_benchmark(config = at_most(450))]
#[bench::bytes_64(serving())]
fn server_turn_among_64_handlers(mut serving: Box<Serving>) -> Box<Serving> {
    assert!((serving.turn)());
    serving
}

/// As above, with a window of requests on its way.
fn serving_window() -> Box<Serving> {
    let mut serving = serving();
    assert!((serving.turn)());
    for sequence in 5..5 + WINDOW {
        let header = Header::new(Kind::Request, 40, call::correlation(sequence as u64, 0));
        serving.client.send(header, &[7; 1024]).unwrap();
    }
    serving
}

#[library_benchmark(config = at_most(15_800))]
#[bench::kib_1(serving_window())]
fn server_window_of_16(mut serving: Box<Serving>) -> Box<Serving> {
    for _ in 0..WINDOW {
        assert!((serving.turn)());
    }
    serving
}

/// A streaming handler's side of a stream.
fn streaming() -> Box<Serving> {
    let directory = tempfile::tempdir().unwrap();
    let (mut client, stream) = Stream::pair_with(65_536, WaitStrategy::SpinOnly).unwrap();
    let server = Server::builder(directory.path().join("s.sock"));
    let server = server.handle_streaming(40, |_, items| (0..ITEMS).try_for_each(|_| items.send(&[7; 32])));
    let turn = server.build().unwrap().into_turns(stream);
    request(&mut client, 1);
    Box::new(Serving { client, turn: Box::new(turn) })
}

#[library_benchmark(config = at_most(8_500))]
#[bench::items_100(streaming())]
fn server_stream(mut serving: Box<Serving>) -> Box<Serving> {
    assert!((serving.turn)());
    serving
}

library_benchmark_group!(
    name = server_paths;
    benchmarks = server_turn_among_64_handlers, server_window_of_16, server_stream
);
library_benchmark_group!(
    name = client_paths;
    benchmarks = client_call, client_call_with, client_submit_and_collect, client_window_of_16, client_stream
);

/// A pool whose first buffers have memory.
fn pool() -> Pool {
    let pool = Pool::new(PoolConfig::default()).unwrap();
    for bytes in [4096, 65_536] {
        let _both = (pool.try_acquire(bytes).unwrap(), pool.try_acquire(bytes).unwrap());
    }
    pool
}

#[library_benchmark(config = at_most(265))]
#[bench::small(pool(), 64)]
#[bench::medium(pool(), 50_000)]
fn acquire_and_release(pool: Pool, bytes: usize) -> Pool {
    drop(black_box(pool.acquire(black_box(bytes), None).unwrap()));
    pool
}

/// A pool of eight clients that has been used before.
fn client_pool() -> (ClientPool, Vec<Stream>) {
    let (connected, others) = std::sync::mpsc::channel();
    let connect = move |_| {
        let (stream, server) = Stream::pair_with(65_536, WaitStrategy::SpinOnly)?;
        connected.send(server).unwrap();
        Ok(Client::builder("").over(stream))
    };
    let pool = ClientPool::over(connect).min_connections(8).max_connections(8).check_after(Duration::MAX);
    let pool = pool.build().unwrap();
    drop((pool.acquire().unwrap(), pool.acquire().unwrap()));
    (pool, others.try_iter().collect())
}

#[library_benchmark(config = at_most(490))]
#[bench::idle(client_pool())]
fn client_lent_and_given_back(pool: (ClientPool, Vec<Stream>)) -> (ClientPool, Vec<Stream>) {
    drop(black_box(pool.0.acquire().unwrap()));
    pool
}

library_benchmark_group!(
    name = pool_paths;
    benchmarks = acquire_and_release, client_lent_and_given_back
);
library_benchmark_group!(
    name = stream_paths;
    benchmarks = stream_send_and_receive
);
library_benchmark_group!(
    name = ring_paths;
    benchmarks = send_and_receive, reserve_write_commit, batch_of_16, poll_of_an_empty_ring, check_of_a_record,
        check_of_a_header
);
main!(library_benchmark_groups = ring_paths, stream_paths, client_paths, server_paths, pool_paths);
