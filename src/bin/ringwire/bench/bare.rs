//! The limit beside the latency class: the same bytes handed over and back by two bare words of shared memory, between two
//! threads of the same class on the same core. No ring, no peer that may die, no time limit.

use std::error::Error;
use std::thread;

use ringwire::sync::{Area, Native, NativeArea, Ordering, Platform, Word};
use ringwire::sys::futex_wake;
use ringwire::transport::{DEFAULT_LATENCY_PRIORITY, enter_latency_class};

use super::arena::{Arena, sleep_until_one_of};

/// In each area: the number of the message; whether the other end sleeps; the message.
const SLEEPING_OFFSET: u32 = 64;
const MESSAGE_OFFSET: u32 = 128;
/// As [`ringwire::WaitStrategy::YieldThenPark`].
const YIELDS: u32 = 2;
/// The number of a message that ends the other end.
const END: u32 = u32::MAX;

/// What an arena for messages of `size` bytes takes.
pub fn arena_bytes(size: usize) -> usize {
    MESSAGE_OFFSET as usize + size.next_multiple_of(64)
}

/// The asking end.
pub struct Bare {
    arena: Arena,
    number: u32,
    answer: Vec<u8>,
}

impl Bare {
    pub fn new(arena: Arena, size: usize) -> Self {
        Self { arena, number: 0, answer: vec![0; size] }
    }

    /// One round trip.
    pub fn call(&mut self, request: &[u8]) {
        self.number = self.number.wrapping_add(1);
        hand_over(&self.arena.forth, request, self.number);
        wait_for(&self.arena.back, &[self.number], YIELDS);
        self.arena.back.copy_out(MESSAGE_OFFSET, &mut self.answer);
    }

    /// The other end's thread ends.
    pub fn end(self) {
        hand_over(&self.arena.forth, &[], END);
    }
}

/// The answering end, on a thread of its own, until it is told to end. While it waits it gives up its turn again and
/// again (`polls`), or [`YIELDS`] times before it sleeps.
pub fn answer(name: &str, core: u32, size: usize, polls: bool) -> Result<(), Box<dyn Error>> {
    let arena = Arena::open(name)?;
    let yields = if polls { u32::MAX } else { YIELDS };
    thread::Builder::new().spawn(move || {
        let Ok(_class) = enter_latency_class(core, DEFAULT_LATENCY_PRIORITY) else { return };
        let mut message = vec![0; size];
        let mut number = 0u32;
        loop {
            number = number.wrapping_add(1);
            if wait_for(&arena.forth, &[number, END], yields) == END {
                return;
            }
            arena.forth.copy_out(MESSAGE_OFFSET, &mut message);
            hand_over(&arena.back, &message, number);
        }
    })?;
    Ok(())
}

fn hand_over(area: &NativeArea, message: &[u8], number: u32) {
    area.copy_in(MESSAGE_OFFSET, message);
    let word = area.word(0);
    word.store(number, Ordering::Release);
    // Who yields need not be woken.
    Native::fence();
    if area.word(SLEEPING_OFFSET).load(Ordering::Relaxed) != 0 {
        futex_wake(word.as_ptr());
    }
}

/// Until one of the messages `numbers` is there; says which.
fn wait_for(area: &NativeArea, numbers: &[u32], yields: u32) -> u32 {
    let word = area.word(0);
    for _ in 0..yields {
        let number = word.load(Ordering::Acquire);
        if numbers.contains(&number) {
            return number;
        }
        thread::yield_now();
    }
    let sleeping = area.word(SLEEPING_OFFSET);
    sleeping.store(1, Ordering::Relaxed);
    Native::fence();
    let number = sleep_until_one_of(word, numbers);
    sleeping.store(0, Ordering::Relaxed);
    number
}
