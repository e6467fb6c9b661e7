//! The platform: words and areas whose every access loom sees.

use core::fmt;
use std::rc::Rc;

use loom::cell::Cell;
use loom::sync::atomic::{AtomicU32, fence};
use loom::sync::{Condvar, Mutex};
use ringwire::sync::{Area, Ordering, Platform, RecordArea, Word};

const WORD_BYTES: usize = 4;
const GRANULE_BYTES: usize = 8;
/// Commit word of an earlier lap, as every place of a used area may hold one.
const STALE_COMMIT: u32 = 16;
const STALE_BYTE: u8 = 0xDD;

/// The platform with the negative controls `WEAK`.
#[derive(Clone, Copy, Debug)]
pub struct Loom<const WEAK: u64>;

impl<const WEAK: u64> Platform for Loom<WEAK> {
    type Word = LoomWord;
    type Area = LoomArea;
    const WEAK: u64 = WEAK;

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

/// A control word, or a granule of an area: 8 bytes, of which the first four are a word in some laps and payload in
/// others.
///
/// loom's atomics cannot be read as bytes. So the bytes are kept beside the atomic, in a cell in which loom tracks who
/// reads and writes, and every store goes to both.
pub struct LoomWord {
    value: AtomicU32,
    bytes: Cell<[u8; GRANULE_BYTES]>,
    /// Read by each load of the word and written with each payload byte in its place: a word of one lap that is used as
    /// payload of another without synchronisation is a race between the two.
    polled: Cell<()>,
    /// The lock of the kernel's list of sleepers.
    bucket: Mutex<()>,
    sleepers: Condvar,
}

impl fmt::Debug for LoomWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoomWord").finish_non_exhaustive()
    }
}

impl Word for LoomWord {
    fn load(&self, order: Ordering) -> u32 {
        let value = self.value.load(order);
        self.polled.get();
        value
    }

    fn store(&self, value: u32, order: Ordering) {
        self.change_bytes(0, &value.to_ne_bytes());
        self.value.store(value, order);
    }
}

impl LoomWord {
    /// A word of its own.
    #[must_use]
    pub fn new(value: u32) -> Self {
        let mut bytes = [STALE_BYTE; GRANULE_BYTES];
        bytes[..WORD_BYTES].copy_from_slice(&value.to_ne_bytes());
        Self {
            value: AtomicU32::new(value),
            bytes: Cell::new(bytes),
            polled: Cell::new(()),
            bucket: Mutex::new(()),
            sleepers: Condvar::new(),
        }
    }

    /// What a futex does: the comparison and going to sleep are one step for whoever wakes. Both `lasts` and the
    /// comparison are looked at under the lock.
    pub(crate) fn sleep_while(&self, expected: u32, lasts: impl FnOnce() -> bool) {
        let bucket = self.bucket.lock().unwrap();
        if self.load(Ordering::Relaxed) == expected && lasts() {
            drop(self.sleepers.wait(bucket).unwrap());
        }
    }

    pub(crate) fn wake_one(&self) {
        let _bucket = self.bucket.lock().unwrap();
        self.sleepers.notify_one();
    }

    fn change_bytes(&self, from: usize, source: &[u8]) {
        let mut bytes = self.bytes.get();
        bytes[from..from + source.len()].copy_from_slice(source);
        self.bytes.set(bytes);
    }

    fn put_payload(&self, from: usize, source: &[u8]) {
        self.change_bytes(from, source);
        if from < WORD_BYTES {
            self.polled.set(());
            let [a, b, c, d, ..] = self.bytes.get();
            self.value.store(u32::from_ne_bytes([a, b, c, d]), Ordering::Relaxed);
        }
    }

    fn take_payload(&self, from: usize, target: &mut [u8]) {
        target.copy_from_slice(&self.bytes.get()[from..from + target.len()]);
    }
}

/// The memory of one direction, on the heap.
#[derive(Clone, Debug)]
pub struct LoomArea(Rc<Memory>);

#[derive(Debug)]
struct Memory {
    granules: Box<[LoomWord]>,
    head: LoomWord,
    reader_parked: LoomWord,
    writer_parked: LoomWord,
}

impl LoomArea {
    /// An area of `size` bytes whose first record will be at `start`. But for the commit word there, it holds what
    /// earlier laps left.
    #[must_use]
    pub fn new(size: u32, start: u64) -> Self {
        let start = start as u32;
        let first = (start & (size - 1)) as usize / GRANULE_BYTES;
        let granule = |index| LoomWord::new(if index == first { 0 } else { STALE_COMMIT });
        Self(Rc::new(Memory {
            granules: (0..size as usize / GRANULE_BYTES).map(granule).collect(),
            head: LoomWord::new(start),
            reader_parked: LoomWord::new(0),
            writer_parked: LoomWord::new(0),
        }))
    }

    /// The granules that `bytes` bytes from `offset` on lie in, with the first byte in each and how many there are.
    fn granules(&self, offset: u32, bytes: usize) -> impl Iterator<Item = (&LoomWord, usize, usize)> {
        let (mut at, end) = (offset as usize, offset as usize + bytes);
        assert!(end <= self.size() as usize, "range leaves the area");
        core::iter::from_fn(move || {
            let from = at % GRANULE_BYTES;
            let count = (GRANULE_BYTES - from).min(end - at);
            let granule = (count > 0).then(|| (&self.0.granules[at / GRANULE_BYTES], from, count));
            at += count;
            granule
        })
    }
}

impl Area for LoomArea {
    type Word = LoomWord;

    fn size(&self) -> u32 {
        (self.0.granules.len() * GRANULE_BYTES) as u32
    }
    fn word(&self, offset: u32) -> &LoomWord {
        &self.0.granules[(offset & (self.size() - 1)) as usize / GRANULE_BYTES]
    }
    fn head(&self) -> &LoomWord {
        &self.0.head
    }
    fn reader_parked(&self) -> &LoomWord {
        &self.0.reader_parked
    }
    fn writer_parked(&self) -> &LoomWord {
        &self.0.writer_parked
    }

    fn put_header(&self, offset: u32, tag: u32, correlation: u64) {
        self.copy_in(offset + 4, &tag.to_ne_bytes());
        self.copy_in(offset + 8, &correlation.to_ne_bytes());
    }

    fn header(&self, offset: u32) -> (u32, u64) {
        let (mut tag, mut correlation) = ([0; 4], [0; 8]);
        self.copy_out(offset + 4, &mut tag);
        self.copy_out(offset + 8, &mut correlation);
        (u32::from_ne_bytes(tag), u64::from_ne_bytes(correlation))
    }

    fn copy_in(&self, offset: u32, mut source: &[u8]) {
        for (granule, from, count) in self.granules(offset, source.len()) {
            let (part, rest) = source.split_at(count);
            granule.put_payload(from, part);
            source = rest;
        }
    }

    fn copy_out(&self, offset: u32, mut target: &mut [u8]) {
        for (granule, from, count) in self.granules(offset, target.len()) {
            let (part, rest) = target.split_at_mut(count);
            granule.take_payload(from, part);
            target = rest;
        }
    }

    fn put_words(&self, offset: u32, count: u32, mut next: impl FnMut() -> u64) {
        for index in 0..count {
            self.copy_in(offset + 8 * index, &next().to_ne_bytes());
        }
    }

    fn take_words(&self, offset: u32, count: u32, mut take: impl FnMut(u64)) {
        for index in 0..count {
            let mut word = [0; 8];
            self.copy_out(offset + 8 * index, &mut word);
            take(u64::from_ne_bytes(word));
        }
    }
}

// The checked steps serve the hot path too.
impl RecordArea for LoomArea {
    const LINE_BYTES: u32 = GRANULE_BYTES as u32;
}
