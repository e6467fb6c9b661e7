//! [`NamedMemory`]: the memory of a named ring: what stands in its object, and the mapping.
//!
//! ```text
//! 0     NamedHeader                    written by the creator before anybody else maps the object
//! 128   words of the reading half      head | reader_parked
//! 384   words of the writing half      writer_parked | bell
//! 640   word of the side that opens    taken
//! 1024  data area                      a power of two
//! ```

use core::mem::{align_of, offset_of, size_of};
use core::ptr::NonNull;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use zerocopy::IntoBytes;

use super::named_header::{CONTROL_BYTES, NamedError, NamedHeader};
use crate::sync::{NativeArea, NativeWord, Ordering, Word};

/// A signal ends an allocation and undoes it: so much at a time comes through between two ticks of a profiler.
const ALLOCATE_BYTES: usize = 16 << 20;

/// A word alone in its cache line.
#[repr(C, align(64))]
struct Line {
    word: NativeWord,
}

/// What stands in front of the data area.
#[repr(C, align(64))]
struct NamedControl {
    header: NamedHeader,
    _apart: [u8; 64],
    head: Line,
    reader_parked: Line,
    _apart_too: [u8; 128],
    writer_parked: Line,
    bell: Line,
    _apart_as_well: [u8; 128],
    taken: Line,
    _rest: [u8; 320],
}

const _: () = {
    assert!(size_of::<NativeWord>() == 4 && align_of::<NativeWord>() == 4);
    assert!(size_of::<NamedControl>() == CONTROL_BYTES && align_of::<NamedControl>() == 64);
    assert!(offset_of!(NamedControl, header) == 0);
    assert!(offset_of!(NamedControl, head) == 128);
    assert!(offset_of!(NamedControl, reader_parked) == 192);
    assert!(offset_of!(NamedControl, writer_parked) == 384);
    assert!(offset_of!(NamedControl, bell) == 448);
    assert!(offset_of!(NamedControl, taken) == 640);
};

/// A mapped named ring. Unmapped when the last handle on it is gone.
#[derive(Debug)]
pub struct NamedMemory {
    map: MmapRaw,
    ring_bytes: u32,
}

impl NamedMemory {
    /// Writes the header into the empty `object`, allocates all of its memory, and maps it.
    ///
    /// # Errors
    /// [`NamedError::System`], with `ENOSPC` where the file system of shared memory objects is full.
    pub fn create(object: &File, header: &NamedHeader) -> Result<Arc<Self>, NamedError> {
        // First, so that what a death leaves behind is known for a ring.
        object
            .write_all_at(header.as_bytes(), 0)
            .map_err(|source| NamedError::System { call: "writing the header", source })?;
        // A page that is missing later, on a full file system, would be SIGBUS and not an error.
        allocate(object, header.object_bytes())
            .map_err(|errno| NamedError::System { call: "allocating shared memory", source: errno.into() })?;
        Self::map(object, header)
    }

    /// Checks the size of `object` and maps it.
    ///
    /// # Errors
    /// [`NamedError::Size`], [`NamedError::System`].
    pub fn open(object: &File, header: &NamedHeader) -> Result<Arc<Self>, NamedError> {
        let found = object.metadata().map_err(|source| NamedError::System { call: "fstat", source })?.len();
        let expected = header.object_bytes();
        if found != expected as u64 {
            return Err(NamedError::Size { found, expected });
        }
        Self::map(object, header)
    }

    fn map(object: &File, header: &NamedHeader) -> Result<Arc<Self>, NamedError> {
        let failed = |source| NamedError::System { call: "mmap", source };
        let map =
            MmapOptions::new().len(header.object_bytes()).map_raw(object.as_raw_fd()).map_err(failed)?;
        // A child forked without exec would be a third party to the ring.
        map.advise(Advice::DontFork).map_err(failed)?;
        Ok(Arc::new(Self { map, ring_bytes: header.ring_bytes() }))
    }

    /// The ring memory.
    #[must_use]
    pub fn area(self: &Arc<Self>) -> NativeArea {
        let [head, reader_parked, writer_parked] = [
            offset_of!(NamedControl, head),
            offset_of!(NamedControl, reader_parked),
            offset_of!(NamedControl, writer_parked),
        ]
        .map(|offset| self.at(offset).cast::<NativeWord>());
        let base = self.at(CONTROL_BYTES);
        // SAFETY: the assertions above put the words, aligned, into the control bytes, and the area lies behind them,
        // inside the mapping, which is page-aligned, readable and writable, and lives as long as the Arc. No other code
        // of this process accesses it. Its memory is allocated and stays, unless a process of the same user cuts the
        // object short: then an access ends this process by SIGBUS, and touches nothing else.
        unsafe {
            NativeArea::new(base, self.ring_bytes, head, reader_parked, writer_parked, Arc::clone(self) as _)
        }
    }

    /// Counts the wake-ups of a reader that has slept for long. Written by the writing half.
    #[must_use]
    pub fn bell(&self) -> &NativeWord {
        self.word(offset_of!(NamedControl, bell))
    }

    /// Whether a second side has ever come.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.word(offset_of!(NamedControl, taken)).load(Ordering::Acquire) != 0
    }

    /// Says that the second side is there. By that side alone.
    pub fn take(&self) {
        self.word(offset_of!(NamedControl, taken)).store(1, Ordering::Release);
    }

    fn word(&self, offset: usize) -> &NativeWord {
        // SAFETY: a word of NamedControl, aligned and inside the mapping, which lives as long as `self`; every access to
        // it, in any process, is atomic.
        unsafe { self.at(offset).cast::<NativeWord>().as_ref() }
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.map.len());
        // SAFETY: every caller's offset is one of the control bytes or their end, inside the mapping.
        let address = unsafe { self.map.as_mut_ptr().add(offset) };
        // SAFETY: a mapping does not begin at address zero, and the sum does not wrap.
        unsafe { NonNull::new_unchecked(address) }
    }
}

fn allocate(object: &File, bytes: usize) -> nix::Result<()> {
    let offset = |bytes: usize| libc::off_t::try_from(bytes).map_err(|_| Errno::EFBIG);
    let mut done = 0;
    while done < bytes {
        let step = (bytes - done).min(ALLOCATE_BYTES);
        match posix_fallocate(object, offset(done)?, offset(step)?) {
            Err(Errno::EINTR) => {}
            other => {
                other?;
                done += step;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::Half;
    use crate::sync::{Area, Ordering::Relaxed};

    const RING: u32 = 8192;

    fn object() -> File {
        tempfile::tempfile().unwrap()
    }

    fn header() -> NamedHeader {
        NamedHeader::new(Half::Reading, RING).unwrap()
    }

    fn words<'a>(memory: &'a NamedMemory, area: &'a NativeArea) -> [&'a NativeWord; 7] {
        let taken = memory.word(offset_of!(NamedControl, taken));
        let ends = [area.word(0), area.word(RING - 8)];
        [memory.bell(), taken, area.head(), area.reader_parked(), area.writer_parked(), ends[0], ends[1]]
    }

    #[test]
    fn two_mappings_show_the_same_bytes_and_every_word_has_a_place_of_its_own() {
        let object = object();
        assert!(NamedHeader::read(&object).unwrap().is_none());
        let one = NamedMemory::create(&object, &header()).unwrap();
        let found = NamedHeader::read(&object).unwrap().unwrap();
        assert_eq!((found.owner(), found.ring_bytes()), (Half::Reading, RING));
        let two = NamedMemory::open(&object, &found).unwrap();
        let (mine, theirs) = (one.area(), two.area());
        for (value, word) in (1..).zip(words(&one, &mine)) {
            assert_eq!(word.load(Relaxed), 0, "two words in one place");
            word.store(value, Relaxed);
        }
        let found: Vec<u32> = words(&two, &theirs).iter().map(|word| word.load(Relaxed)).collect();
        assert_eq!(found, [1, 2, 3, 4, 5, 6, 7]);
        assert!(two.is_taken());
        assert!(NamedHeader::read(&object).is_ok_and(|header| header.is_some()), "the header is untouched");
    }

    #[test]
    fn an_object_of_another_size_is_not_mapped() {
        let object = object();
        let header = header();
        drop(NamedMemory::create(&object, &header).unwrap());
        for bytes in [0, 4096, header.object_bytes() as u64 - 1, header.object_bytes() as u64 + 1] {
            object.set_len(bytes).unwrap();
            let error = NamedMemory::open(&object, &header).unwrap_err();
            assert_eq!(error.to_string(), format!("the object has {bytes} bytes, its header says 12288"));
        }
    }

    #[test]
    fn memory_is_allocated_in_whole() {
        let object = object();
        allocate(&object, 2 * ALLOCATE_BYTES + 4096).unwrap();
        assert_eq!(object.metadata().unwrap().len() as usize, 2 * ALLOCATE_BYTES + 4096);
        let read_only = File::open("/dev/null").unwrap();
        assert!(allocate(&read_only, 1).is_err());
    }
}
