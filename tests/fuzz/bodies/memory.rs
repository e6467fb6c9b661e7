//! A ring's memory on the heap, and a kernel whose sleeper finds other things when it is back.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use ringwire::ring::PADDING;
use ringwire::sync::{Area, Heard, Kernel, NativeArea, NativeWord, Ordering::Relaxed, Word};

/// The smallest area that a connection has.
pub const RING: u32 = 4096;

/// Exactly the data area, so that a sanitizer sees the first byte beyond it; the words lie in a block of their own.
struct Memory {
    area: NonNull<u8>,
    words: NonNull<u8>,
}

// SAFETY: the memory is only reached through `NativeArea`, whose accesses are atomic.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

const AREA: Layout = match Layout::from_size_align(RING as usize, 8) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};
const WORDS: Layout = Layout::new::<[u32; 3]>();

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in area() with this layout, and nobody else has it any more.
        unsafe { dealloc(self.area.as_ptr(), AREA) };
        // SAFETY: as above.
        unsafe { dealloc(self.words.as_ptr(), WORDS) };
    }
}

/// A ring's memory, all zeros.
pub fn area() -> NativeArea {
    // SAFETY: the layout is not empty.
    let base = NonNull::new(unsafe { alloc_zeroed(AREA) }).expect("memory");
    // SAFETY: the layout is not empty.
    let words = NonNull::new(unsafe { alloc_zeroed(WORDS) }).expect("memory");
    let memory = Arc::new(Memory { area: base, words });
    let word = words.cast::<NativeWord>();
    // SAFETY: `words` has room for three.
    let second = unsafe { word.add(1) };
    // SAFETY: as above.
    let third = unsafe { word.add(2) };
    // SAFETY: zeroed, 8-aligned by its layout and RING bytes long, the words beside it 4-aligned; all of it lives as long
    // as `memory`; accessed by nobody else.
    unsafe { NativeArea::new(base, RING, word, second, third, memory) }
}

/// What the fuzzer still has to say.
#[derive(Debug)]
pub struct Script {
    bytes: Vec<u8>,
    at: usize,
}

impl Script {
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), at: 0 }
    }

    pub fn is_over(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Zero behind the end.
    pub fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes.get(self.at - 1).copied().unwrap_or(0)
    }

    pub fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Up to `most` bytes as they stand.
    pub fn take(&mut self, most: usize) -> Vec<u8> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let taken = rest[..rest.len().min(most)].to_vec();
        self.at += taken.len();
        taken
    }

    /// Something that the peer does to `area`.
    pub fn poke(&mut self, area: &NativeArea) {
        match self.byte() % 8 {
            0 => area.head().store(self.word(), Relaxed),
            1 => area.head().store(area.head().load(Relaxed).wrapping_add(u32::from(self.number())), Relaxed),
            2 => area.reader_parked().store(self.word(), Relaxed),
            3 => area.writer_parked().store(self.word(), Relaxed),
            4 => area.word(u32::from(self.number())).store(self.word(), Relaxed),
            // A record or a mark as the protocol has them: length, then kind, flags and type.
            5 => {
                let at = u32::from(self.number()) & (RING - 1) & !15;
                let tag = self.word() & 0xFFFF_070F;
                area.put_header(at, tag, 1);
                let length = u32::from(self.number());
                area.word(at).store(length & 0x0FFF | (length & 0xC000) << 16, Relaxed);
            }
            // Padding, exactly to the end or nearly so: no fuzzer would guess the length.
            6 => {
                let at = u32::from(self.number()) & (RING - 8);
                let wrong = u32::from(self.byte()) / 128;
                area.word(at).store(PADDING | (RING - at + wrong), Relaxed);
            }
            _ => {
                let at = u32::from(self.number()) & (RING - 1);
                let length = usize::from(self.byte()).min((RING - at) as usize);
                area.copy_in(at, &self.take(length));
            }
        }
    }
}

/// Sleeps no time; while "asleep" the script goes on.
#[derive(Clone, Debug)]
pub struct FuzzKernel {
    pub area: NativeArea,
    pub script: Rc<RefCell<Script>>,
    pub calls: Rc<Cell<u64>>,
}

impl FuzzKernel {
    fn peer_acts(&self) {
        let mut script = self.script.borrow_mut();
        if !script.is_over() && script.byte() & 1 != 0 {
            script.poke(&self.area);
        }
    }

    fn count(&self) {
        self.calls.set(self.calls.get() + 1);
    }
}

impl Kernel<NativeWord> for FuzzKernel {
    fn sleep(&self, _word: &NativeWord, _expected: u32, _until_ns: u64) {
        self.peer_acts();
    }

    fn wake(&self, _word: &NativeWord) {
        self.count();
    }

    fn listen(&self, _until_ns: u64) -> Heard {
        self.peer_acts();
        match self.script.borrow_mut().byte() % 4 {
            0 => Heard::HungUp,
            1 => Heard::Nothing,
            _ => Heard::Bell,
        }
    }

    fn ring_bell(&self) {
        self.count();
    }

    fn peer_is_gone(&self) -> bool {
        self.script.borrow_mut().byte() == 1
    }

    /// Must name memory of the area: `Segment::discard` would cut it off, and hide a mistake.
    fn discard(&self, from: u32, to: u32) {
        assert!(from <= RING && to <= RING, "discards {from}..{to} of {RING}");
        self.count();
        for at in (from..to.max(from)).step_by(8) {
            self.area.word(at).store(0, Relaxed);
        }
    }
}
