//! What the machine itself can do, and the building blocks that the other measurements set beside theirs.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;
use ringwire::sync::{Area, NativeArea, Ordering, Word};
use serde_json::json;

use super::arena::{Arena, PAIRS, sleep_until_value, store_and_wake};
use super::machine::{busy_wait, pin, steal_ticks};
use super::report::{Samples, median, print, rounded};
use crate::child::spawn;

/// Round trips of one block.
pub const BLOCK_ROUND_TRIPS: u32 = 1_000;
/// A quick run does this much less.
pub const QUICK: u32 = 100;
/// Buffers that are handed across in turn.
const BUFFERS: u32 = 4;
const LARGEST_BULK_BYTES: u32 = 1 << 20;
const BULK_SIZES: [u32; 3] = [4 << 10, 64 << 10, LARGEST_BULK_BYTES];
/// About this many bytes go into one block of whole buffers.
const BULK_BLOCK_BYTES: u32 = 64 << 20;
const BULK_BLOCKS: u32 = 5;
/// Where the buffers begin, behind the flags.
const BULK_OFFSET_BYTES: u32 = 4096;

/// `bench limits`
#[derive(Args, Debug)]
pub struct Arguments {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    /// Busy pause before each futex round trip, in microseconds
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
    /// A hundredth of the work: to try it out, not to quote
    #[arg(long)]
    quick: bool,
}

/// The second process of `bench limits`
#[derive(Args, Debug)]
pub struct PeerArguments {
    arena: String,
    futex_round_trips: u32,
    #[arg(action = clap::ArgAction::Set)]
    quick: bool,
}

/// One block of `count` round trips between two words, which count on from `from`; this side begins.
#[inline(never)]
pub fn line_block(mine: &impl Word, theirs: &impl Word, from: u32, count: u32, samples: &mut Samples) {
    let mut before = Instant::now();
    for value in from..from + count {
        mine.store(value, Ordering::Release);
        while theirs.load(Ordering::Acquire) != value {}
        let now = Instant::now();
        samples.push((now - before).as_nanos() as u64);
        before = now;
    }
}

/// The other side of [`line_block`].
#[inline(never)]
pub fn line_block_peer(mine: &impl Word, theirs: &impl Word, from: u32, count: u32) {
    for value in from..from + count {
        while theirs.load(Ordering::Acquire) != value {}
        mine.store(value, Ordering::Release);
    }
}

/// One block of round trips in which both sides sleep by futex, with a busy pause before each.
pub fn futex_block(arena: &Arena, from: u32, count: u32, pause: Duration, samples: &mut Samples) {
    let (mine, theirs) = arena.pair(0);
    for value in from..from + count {
        busy_wait(pause);
        let started = Instant::now();
        store_and_wake(mine, value);
        sleep_until_value(theirs, value);
        samples.push(started.elapsed().as_nanos() as u64);
    }
}

/// The other side of [`futex_block`].
pub fn futex_block_peer(arena: &Arena, from: u32, count: u32) {
    let (theirs, mine) = arena.pair(0);
    for value in from..from + count {
        sleep_until_value(theirs, value);
        store_and_wake(mine, value);
    }
}

/// One block in which the other side sleeps by futex and this one polls for its word, with a busy pause before each: what a
/// call takes that wakes its server, and nothing else.
pub fn wake_block(arena: &Arena, from: u32, count: u32, pause: Duration, samples: &mut Samples) {
    let (mine, theirs) = arena.pair(0);
    for value in from..from + count {
        busy_wait(pause);
        let started = Instant::now();
        store_and_wake(mine, value);
        while theirs.load(Ordering::Acquire) != value {}
        samples.push(started.elapsed().as_nanos() as u64);
    }
}

/// The other side of [`wake_block`], for as long as the process lives.
pub fn wake_peer(arena: &Arena) {
    let (theirs, mine) = arena.pair(0);
    for value in 1.. {
        sleep_until_value(theirs, value);
        mine.store(value, Ordering::Release);
    }
}

/// Whole buffers handed across by a flag each: a way of moving `bytes` at a time that needs no ring.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// Bytes of a buffer.
    pub bytes: u32,
    /// Copy in from, and out to, private memory; else write and read in place.
    pub copy: bool,
    /// Buffers handed across in a block.
    pub count: u32,
}

impl Bulk {
    /// Blocks of about 64 MiB, or a hundredth of that.
    const fn new(bytes: u32, copy: bool, quick: bool) -> Self {
        let block_bytes = if quick { BULK_BLOCK_BYTES / QUICK } else { BULK_BLOCK_BYTES };
        let count = block_bytes / bytes;
        Self { bytes, copy, count: if count == 0 { 1 } else { count } }
    }

    /// The speed of one block in GB/s.
    pub fn timed_block(&self, arena: &Arena, from: u32, private: &[u8]) -> f64 {
        let started = Instant::now();
        self.send_block(arena, from, private);
        gb_per_s(u64::from(self.bytes) * u64::from(self.count), started.elapsed())
    }

    /// Memory that it needs in the arena.
    pub const fn arena_bytes(bytes: u32) -> usize {
        (BULK_OFFSET_BYTES + BUFFERS * bytes) as usize
    }

    fn flag(area: &NativeArea, message: u32) -> &impl Word {
        area.word(message % BUFFERS * 256)
    }

    fn offset(&self, message: u32) -> u32 {
        BULK_OFFSET_BYTES + message % BUFFERS * self.bytes
    }

    /// Hands `count` buffers across, from message `from` on; returns when the reader has all.
    #[inline(never)]
    pub fn send_block(&self, arena: &Arena, from: u32, private: &[u8]) {
        for message in from..from + self.count {
            // The block before has ended with all buffers free.
            if message >= from + BUFFERS {
                wait_for(Self::flag(&arena.back, message), message - BUFFERS);
            }
            if self.copy {
                arena.forth.copy_in(self.offset(message), private);
            } else {
                let mut value = u64::from(message);
                arena.forth.put_words(self.offset(message), self.bytes / 8, || {
                    value += 1;
                    value
                });
            }
            Self::flag(&arena.forth, message).store(message, Ordering::Release);
        }
        let last = from + self.count - 1;
        wait_for(Self::flag(&arena.back, last), last);
    }

    /// The other side of [`Bulk::send_block`]; returns a sum over everything read.
    #[inline(never)]
    pub fn receive_block(&self, arena: &Arena, from: u32, private: &mut [u8]) -> u64 {
        let mut sum = 0u64;
        for message in from..from + self.count {
            wait_for(Self::flag(&arena.forth, message), message);
            if self.copy {
                arena.forth.copy_out(self.offset(message), private);
                sum = sum.wrapping_add(u64::from(private[private.len() - 1]));
            } else {
                arena
                    .forth
                    .take_words(self.offset(message), self.bytes / 8, |word| sum = sum.wrapping_add(word));
            }
            Self::flag(&arena.back, message).store(message, Ordering::Release);
        }
        sum
    }
}

/// Polls until a flag has reached `value`.
fn wait_for(flag: &impl Word, value: u32) {
    while flag.load(Ordering::Acquire).wrapping_sub(value) > u32::MAX / 2 {}
}

/// Gigabytes per second (1e9).
pub fn gb_per_s(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / elapsed.as_secs_f64() / 1e9
}

const FUTEX_ROUND_TRIPS: u32 = 10_000;
const FUTEX_SLOW_ROUND_TRIPS: u32 = 200;

fn futex_round_trips(pause_us: u64, quick: bool) -> u32 {
    let all = if pause_us >= 1_000 { FUTEX_SLOW_ROUND_TRIPS } else { FUTEX_ROUND_TRIPS };
    if quick { all / QUICK } else { all }
}

fn line_round_trips(quick: bool) -> u32 {
    if quick { BLOCK_ROUND_TRIPS / QUICK } else { BLOCK_ROUND_TRIPS }
}

/// Everything in a fixed order that the second process knows.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let (json, quick) = (arguments.json, arguments.quick);
    let (arena, name) = Arena::create(Bulk::arena_bytes(LARGEST_BULK_BYTES))?;
    let futex_count = futex_round_trips(arguments.pause_us, quick);
    let peer = spawn(["peer", "bench", "limits", &name, &futex_count.to_string(), &quick.to_string()])?;
    pin(0)?;
    let stolen_before = steal_ticks();
    let (two_lines, next) = line_limits(1, line_round_trips(quick), |index| arena.pair(index));
    print(json, &json!({"bench": "limits", "what": "two lines", "p50_ns": two_lines, "pairs": PAIRS}))?;
    let (one_line, next) = line_limits(next, line_round_trips(quick), |_| arena.one_line());
    print(json, &json!({"bench": "limits", "what": "one line", "p50_ns": one_line}))?;
    let mut from = next;
    for what in ["futex, two cores", "futex, one core"] {
        let mut samples = Samples::with_capacity(futex_count as usize);
        futex_block(&arena, from, futex_count, Duration::from_micros(arguments.pause_us), &mut samples);
        let (p50_ns, p99_ns) = (samples.quantile(500), samples.quantile(990));
        let pause_us = arguments.pause_us;
        print(
            json,
            &json!({"bench": "limits", "what": what, "pause_us": pause_us, "p50_ns": p50_ns, "p99_ns": p99_ns}),
        )?;
        from += futex_count;
    }
    for (bulk, from) in bulk_schedule(quick) {
        let private = vec![7; bulk.bytes as usize];
        let speeds =
            (0..BULK_BLOCKS).map(|block| bulk.timed_block(&arena, from + block * bulk.count, &private));
        let speed = median(&speeds.collect::<Vec<_>>());
        let how = if bulk.copy { "copied in and out" } else { "in place" };
        let what = format!("buffers by a flag, {how}");
        print(
            json,
            &json!({"bench": "limits", "what": what, "size": bulk.bytes, "gb_per_s": rounded(speed)}),
        )?;
    }
    peer.join()?;
    let stolen = steal_ticks() - stolen_before;
    print(json, &json!({"bench": "limits", "what": "steal time", "ticks": stolen}))?;
    Ok(())
}

/// The second process.
pub fn run_peer(arguments: &PeerArguments) -> Result<(), Box<dyn Error>> {
    let (futex_count, line_count) = (arguments.futex_round_trips, line_round_trips(arguments.quick));
    let arena = Arena::open(&arguments.arena)?;
    pin(1)?;
    let mut from = 1;
    for index in 0..PAIRS {
        let (theirs, mine) = arena.pair(index);
        line_block_peer(mine, theirs, from, line_count);
        from += line_count;
    }
    for _ in 0..PAIRS {
        let (theirs, mine) = arena.one_line();
        line_block_peer(mine, theirs, from, line_count);
        from += line_count;
    }
    futex_block_peer(&arena, from, futex_count);
    pin(0)?;
    futex_block_peer(&arena, from + futex_count, futex_count);
    pin(1)?;
    let mut sum = 0u64;
    for (bulk, from) in bulk_schedule(arguments.quick) {
        let mut private = vec![0; bulk.bytes as usize];
        for block in 0..BULK_BLOCKS {
            sum = sum.wrapping_add(bulk.receive_block(&arena, from + block * bulk.count, &mut private));
        }
    }
    std::hint::black_box(sum);
    Ok(())
}

/// The median over all blocks of their p50, and the next value to count from.
fn line_limits<'a, W: Word + 'a>(
    mut from: u32,
    count: u32,
    words: impl Fn(u32) -> (&'a W, &'a W),
) -> (f64, u32) {
    let mut medians = Vec::new();
    let mut samples = Samples::with_capacity(count as usize);
    for index in 0..PAIRS {
        let (mine, theirs) = words(index);
        samples.clear();
        line_block(mine, theirs, from, count, &mut samples);
        medians.push(samples.quantile(500) as f64);
        from += count;
    }
    (median(&medians), from)
}

/// Each way of handing buffers across, and its first message: above all that the lines and futexes count.
fn bulk_schedule(quick: bool) -> impl Iterator<Item = (Bulk, u32)> {
    let mut next = 1 << 24;
    let ways =
        BULK_SIZES.into_iter().flat_map(move |bytes| [false, true].map(|copy| Bulk::new(bytes, copy, quick)));
    ways.map(move |bulk| {
        let from = next;
        next += BULK_BLOCKS * bulk.count;
        (bulk, from)
    })
}
