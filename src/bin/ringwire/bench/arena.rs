//! Raw memory that both processes of a measurement share, for the limits and for keeping step.

use std::error::Error;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Area, NativeArea, NativeWord, Ordering, Word};
use ringwire::sys::{futex_wait, futex_wake};

/// Words that are used as flags lie this far apart: every pair in lines of its own, spread over the pages.
const PAIR_STRIDE_BYTES: u32 = 1088;
/// Pairs of lines: one alone varies from 320 to 485 ns with its address.
pub const PAIRS: u32 = 64;

/// Two areas of shared memory, one for each process to write.
pub struct Arena {
    /// Written by the first process.
    pub forth: NativeArea,
    /// Written by the second process.
    pub back: NativeArea,
    /// Keeps the descriptor open while the second process opens it.
    _descriptor: Option<OwnedFd>,
}

impl Arena {
    /// Makes an arena whose areas hold at least `bytes`; the text names it to the second process.
    pub fn create(bytes: usize) -> Result<(Self, String), Box<dyn Error>> {
        let area_bytes = u32::try_from(bytes.max((PAIRS * PAIR_STRIDE_BYTES) as usize))?.next_power_of_two();
        let options = SegmentOptions { reserve: true, ..SegmentOptions::default() };
        let (segment, descriptor) = Segment::create(Layout::new(area_bytes, area_bytes)?, options)?;
        let name = format!("{}:{}:{area_bytes}", std::process::id(), descriptor.as_raw_fd());
        Ok((Self::over(&segment, Some(descriptor)), name))
    }

    /// Opens the arena that the first process has named.
    pub fn open(name: &str) -> Result<Self, Box<dyn Error>> {
        let parts: Vec<&str> = name.split(':').collect();
        let [process, descriptor, area_bytes] = parts[..] else {
            return Err(format!("no arena: {name:?}").into());
        };
        let file = File::options().read(true).write(true).open(format!("/proc/{process}/fd/{descriptor}"))?;
        let area_bytes = area_bytes.parse()?;
        let segment = Segment::open(&file, Layout::new(area_bytes, area_bytes)?, SegmentOptions::default())?;
        Ok(Self::over(&segment, None))
    }

    fn over(segment: &Arc<Segment>, descriptor: Option<OwnedFd>) -> Self {
        Self {
            forth: segment.area(Direction::ToServer),
            back: segment.area(Direction::ToClient),
            _descriptor: descriptor,
        }
    }

    /// The words of one pair: the first process's, the second's.
    pub fn pair(&self, index: u32) -> (&NativeWord, &NativeWord) {
        let offset = index % PAIRS * PAIR_STRIDE_BYTES;
        (self.forth.word(offset), self.back.word(offset))
    }

    /// Two words in one line.
    pub fn one_line(&self) -> (&NativeWord, &NativeWord) {
        (self.forth.word(0), self.forth.word(8))
    }
}

/// Sleeps by futex until `word` holds `value`.
pub fn sleep_until_value(word: &NativeWord, value: u32) {
    sleep_until_one_of(word, &[value]);
}

/// Sleeps until the word holds one of `values`; says which.
pub fn sleep_until_one_of(word: &NativeWord, values: &[u32]) -> u32 {
    loop {
        let seen = word.load(Ordering::Acquire);
        if values.contains(&seen) {
            return seen;
        }
        futex_wait(word.as_ptr(), seen, u64::MAX);
    }
}

/// Stores `value` and wakes whoever sleeps on the word.
pub fn store_and_wake(word: &NativeWord, value: u32) {
    word.store(value, Ordering::Release);
    futex_wake(word.as_ptr());
}
