//! The native form of the port beside its plain steps.

use core::sync::atomic::AtomicU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

const BYTES: u32 = 4096;

#[repr(C)]
struct Memory {
    area: [AtomicU64; BYTES as usize / 8],
    control: [NativeWord; 3],
}

/// On the heap, each byte 0xFF.
fn area() -> NativeArea {
    let memory = Arc::new(Memory {
        area: [const { AtomicU64::new(u64::MAX) }; BYTES as usize / 8],
        control: [const { NativeWord(AtomicU32::new(0)) }; 3],
    });
    let [head, reader, writer] = memory.control.each_ref().map(NonNull::from);
    let base = NonNull::from(&memory.area).cast();
    // SAFETY: all of it lies in `memory`, which the area keeps, and is only accessed through it; atomics of 8 bytes
    // are 8-aligned.
    unsafe { NativeArea::new(base, BYTES, head, reader, writer, memory) }
}

/// The same memory with the port's own steps.
struct Plain(NativeArea);

impl Area for Plain {
    type Word = NativeWord;

    fn size(&self) -> u32 {
        self.0.size()
    }
    fn word(&self, offset: u32) -> &NativeWord {
        self.0.word(offset)
    }
    fn head(&self) -> &NativeWord {
        self.0.head()
    }
    fn reader_parked(&self) -> &NativeWord {
        self.0.reader_parked()
    }
    fn writer_parked(&self) -> &NativeWord {
        self.0.writer_parked()
    }
    fn put_header(&self, offset: u32, tag: u32, correlation: u64) {
        self.0.put_header(offset, tag, correlation);
    }
    fn header(&self, offset: u32) -> (u32, u64) {
        self.0.header(offset)
    }
    fn copy_in(&self, offset: u32, source: &[u8]) {
        self.0.copy_in(offset, source);
    }
    fn copy_out(&self, offset: u32, target: &mut [u8]) {
        self.0.copy_out(offset, target);
    }
    fn put_words(&self, offset: u32, count: u32, next: impl FnMut() -> u64) {
        self.0.put_words(offset, count, next);
    }
    fn take_words(&self, offset: u32, count: u32, take: impl FnMut(u64)) {
        self.0.take_words(offset, count, take);
    }
}

impl RecordArea for Plain {}

fn words(area: &impl Area) -> Vec<u64> {
    let mut words = Vec::new();
    area.take_words(0, BYTES / 8, |word| words.push(word));
    words
}

/// Writes a record of `length` bytes, and reads it again.
fn pass(area: &impl RecordArea, length: usize) -> (Vec<u8>, (u32, u64), Vec<u64>) {
    let payload: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
    // SAFETY: 64 + 16 + length is inside the 4096 bytes.
    unsafe { area.copy_record_in(80, &payload) };
    // SAFETY: as above.
    unsafe { area.put_record_header(64, 0x0102_0304, 5 << 40 | 6) };
    area.expect_read(64);
    let mut found = vec![0; length];
    // SAFETY: as above.
    unsafe { area.copy_record_out(80, &mut found) };
    assert_eq!(found, payload);
    // SAFETY: as above.
    (found, unsafe { area.record_header(64) }, words(area))
}

#[test]
fn the_steps_of_the_hot_path_leave_what_the_plain_ones_leave() {
    for length in [0, 1, 7, 8, 9, 31, 32, 64, 100, 511, 1000, 4016] {
        let (native, plain) = (area(), Plain(area()));
        let (found, header, after) = pass(&native, length);
        assert_eq!((&found, header), (&pass(&plain, length).0, (0x0102_0304, 5 << 40 | 6)));
        assert_eq!(native.header(64), header, "{length}");
        // Whole words behind the record, and all in front of it: nobody else's.
        let behind = (80 + length).div_ceil(8);
        assert_eq!(
            (&after[..8], &after[behind..]),
            (&[u64::MAX; 8][..], &words(&plain)[behind..]),
            "{length}"
        );
    }
}

#[test]
fn a_line_is_owned_by_its_first_word_alone() {
    for lines in 0..12 {
        let (native, plain) = (area(), Plain(area()));
        native.own_lines(128, lines);
        plain.own_lines(128, lines);
        let found = words(&native);
        assert_eq!(found, words(&plain), "{lines}");
        let owned = found.iter().filter(|word| **word == u64::MAX << 32).count();
        assert_eq!(
            (owned, found.iter().filter(|word| **word == u64::MAX).count()),
            (lines as usize, 512 - owned)
        );
    }
}

#[test]
fn no_access_leaves_the_area() {
    let area = area();
    let accesses: [(&str, &dyn Fn()); 7] = [
        ("copy in", &|| area.copy_in(BYTES - 7, &[0; 8])),
        ("copy out", &|| area.copy_out(u32::MAX, &mut [0])),
        ("more than all", &|| area.copy_out(0, &mut [0; BYTES as usize + 1])),
        ("header", &|| area.put_header(BYTES - 8, 0, 0)),
        ("words", &|| area.put_words(8, BYTES / 8, || 0)),
        ("words out", &|| area.take_words(BYTES, 1, |_| ())),
        ("lines", &|| area.own_lines(BYTES - 64, 2)),
    ];
    for (what, access) in accesses {
        let panic = catch_unwind(AssertUnwindSafe(access)).expect_err(what);
        let said = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(said.ends_with("leave a ring's area of 4096 bytes"), "{what}: {said}");
    }
    assert_eq!(words(&area), [u64::MAX; BYTES as usize / 8]);
    // The ends themselves are inside, and a word's offset wraps.
    area.copy_in(BYTES - 8, &[0; 8]);
    assert_eq!(area.word(2 * BYTES - 8).load(Ordering::Relaxed), 0);
    assert_eq!(format!("{area:?}"), "NativeArea { size: 4096, .. }");
}
