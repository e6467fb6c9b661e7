//! [`Segment`]: one connection's memory, made and sealed by the server, verified by the client, mapped by both.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::{SysconfVar, ftruncate, sysconf};
use thiserror::Error;

use super::layout::{Control, Direction, Layout};
use crate::sync::{NativeArea, NativeWord};

/// What the segment is sealed against, by its maker, before anybody else sees it.
fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// Some 50 us of work.
const ALLOCATE_STEP_BYTES: i64 = 256 << 10;

/// Choices for a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Allocate all pages now: a shortage is an error here instead of a kill later. Only where the segment is made.
    pub reserve: bool,
    /// Leave the memory out of core dumps.
    pub exclude_from_core_dumps: bool,
}

/// Why a segment could not be made or mapped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShmError {
    /// A system call failed.
    #[error("{call} failed")]
    System {
        /// Which one.
        call: &'static str,
        /// With what.
        source: Errno,
    },
    /// The mapping failed.
    #[error("mmap of {bytes} bytes failed")]
    Map {
        /// Size of the segment.
        bytes: usize,
        /// With what.
        source: std::io::Error,
    },
    /// The segment received is not sealed: its maker could shrink it under the reader.
    #[error("segment with seals {found:?}, expected at least {expected:?}")]
    Seals {
        /// The seals found.
        found: SealFlag,
        /// The seals needed.
        expected: SealFlag,
    },
    /// The segment received does not have the size that was announced.
    #[error("segment of {found} bytes, expected {expected}")]
    Size {
        /// The size found.
        found: i64,
        /// The size of the layout.
        expected: usize,
    },
}

impl ShmError {
    fn system(call: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::System { call, source }
    }
}

/// A mapped segment. Unmapped when the last ring half over it is gone.
///
/// A child forked without exec inherits the value and not the mapping: see [`Segment::is_mapped_here`].
#[derive(Debug)]
pub struct Segment {
    map: ManuallyDrop<MmapRaw>,
    layout: Layout,
    mapped_by_pid: u32,
}

impl Segment {
    /// Makes, seals and maps a segment; the descriptor is for the peer, and can be closed once it is sent.
    ///
    /// # Errors
    /// [`ShmError::System`], [`ShmError::Map`]: no descriptor, or no memory.
    pub fn create(layout: Layout, options: SegmentOptions) -> Result<(Arc<Self>, OwnedFd), ShmError> {
        let descriptor = make_memfd()?;
        let bytes = file_size(layout);
        ftruncate(&descriptor, bytes).map_err(ShmError::system("ftruncate"))?;
        if options.reserve {
            allocate_pages(&descriptor, bytes).map_err(ShmError::system("fallocate"))?;
        }
        fcntl(&descriptor, FcntlArg::F_ADD_SEALS(seals())).map_err(ShmError::system("F_ADD_SEALS"))?;
        let segment = Self::map(&descriptor, layout, options)?;
        Ok((Arc::new(segment), descriptor))
    }

    /// Verifies and maps a segment that the peer made.
    ///
    /// # Errors
    /// [`ShmError::Seals`] and [`ShmError::Size`] if the peer could take the memory away, or it is not what was announced.
    pub fn open(
        descriptor: impl AsFd,
        layout: Layout,
        options: SegmentOptions,
    ) -> Result<Arc<Self>, ShmError> {
        let descriptor = descriptor.as_fd();
        let raw = fcntl(descriptor, FcntlArg::F_GET_SEALS).map_err(ShmError::system("F_GET_SEALS"))?;
        let (found, expected) = (SealFlag::from_bits_truncate(raw), seals());
        if !found.contains(expected) {
            return Err(ShmError::Seals { found, expected });
        }
        // After the seals: from here on the size cannot change.
        let found = fstat(descriptor).map_err(ShmError::system("fstat"))?.st_size;
        if found != file_size(layout) {
            return Err(ShmError::Size { found, expected: layout.segment_bytes() });
        }
        Self::map(&descriptor, layout, options).map(Arc::new)
    }

    fn map(descriptor: &impl AsRawFd, layout: Layout, options: SegmentOptions) -> Result<Self, ShmError> {
        let bytes = layout.segment_bytes();
        let failed = |source| ShmError::Map { bytes, source };
        let map = MmapOptions::new().len(bytes).map_raw(descriptor.as_raw_fd()).map_err(failed)?;
        // A child forked without exec would be a third party to the rings.
        map.advise(Advice::DontFork).map_err(failed)?;
        if options.exclude_from_core_dumps {
            map.advise(Advice::DontDump).map_err(failed)?;
        }
        Ok(Self { map: ManuallyDrop::new(map), layout, mapped_by_pid: std::process::id() })
    }

    /// Whether this is the process that mapped it. In a forked child there is nothing at these addresses, or something
    /// else of the child's own.
    #[must_use]
    pub fn is_mapped_here(&self) -> bool {
        std::process::id() == self.mapped_by_pid
    }

    /// The sizes of its areas.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The ring memory of one direction.
    #[must_use]
    pub fn area(self: &Arc<Self>, direction: Direction) -> NativeArea {
        let [head, reader_parked, writer_parked] =
            direction.words().map(|offset| self.at(offset).cast::<NativeWord>());
        let base = self.at(self.layout.area_offset(direction));
        // SAFETY: layout.rs asserts that the words lie in the control bytes and are aligned, and puts the areas behind
        // them, inside the mapping; the mapping is page-aligned, readable and writable, and lives as long as the Arc; the
        // seals keep the memory behind it; and no other code of this process accesses it.
        unsafe {
            NativeArea::new(
                base,
                self.layout.ring_bytes(direction),
                head,
                reader_parked,
                writer_parked,
                Arc::clone(self) as _,
            )
        }
    }

    /// The word by which the client cancels what is in `slot`, taken modulo [`CANCEL_SLOTS`](super::CANCEL_SLOTS). Written by the client alone.
    #[inline]
    #[must_use]
    pub fn cancel_word(&self, slot: usize) -> &NativeWord {
        let word = self.at(super::layout::cancel_word_offset(slot)).cast::<NativeWord>();
        // SAFETY: layout.rs puts all of these words into the control bytes, 4-aligned; the mapping lives as long as
        // `self`; and they are only ever accessed atomically.
        unsafe { word.as_ref() }
    }

    /// Gives back the memory of the whole pages in the bytes `from..to` of an area: they read as zero afterwards.
    ///
    /// An economy: a failure is left alone.
    pub fn discard(&self, direction: Direction, from: u32, to: u32) {
        let to = to.min(self.layout.ring_bytes(direction));
        let (start, end) = self.layout.whole_pages(direction, from, to, page_bytes());
        if end > start {
            // SAFETY: MADV_REMOVE makes these bytes zero, as a peer's store could: all access to them is atomic.
            let result =
                unsafe { self.map.unchecked_advise_range(UncheckedAdvice::Remove, start, end - start) };
            if let Err(error) = result {
                log::debug!("giving back {} bytes of a ring: {error}", end - start);
            }
        }
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(
            offset < self.layout.segment_bytes() && size_of::<Control>() <= self.layout.segment_bytes()
        );
        // SAFETY: every caller's offset comes from the layout, which lies inside the mapping.
        let address = unsafe { self.map.as_mut_ptr().add(offset) };
        // SAFETY: a mapping does not begin at address zero, and the sum does not wrap.
        unsafe { NonNull::new_unchecked(address) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.is_mapped_here() {
            // SAFETY: nothing uses it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}

/// The machine's page size in bytes.
fn page_bytes() -> usize {
    static PAGE_BYTES: OnceLock<usize> = OnceLock::new();
    *PAGE_BYTES.get_or_init(|| {
        let found = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        // Unknown: as large as any, so that nothing but whole pages is ever given back.
        found.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(1 << 16)
    })
}

/// Allocates `bytes` of memory in steps: some kernels end the call at any signal and undo what it had done, so that a
/// frequent timer would never let a long one finish.
fn allocate_pages(descriptor: &OwnedFd, bytes: i64) -> nix::Result<()> {
    let mut from = 0;
    while from < bytes {
        let step = ALLOCATE_STEP_BYTES.min(bytes - from);
        match fallocate(descriptor, FallocateFlags::empty(), from, step) {
            Err(Errno::EINTR) => {}
            other => {
                other?;
                from += step;
            }
        }
    }
    Ok(())
}

fn file_size(layout: Layout) -> i64 {
    // At most 2 GiB and two pages.
    i64::try_from(layout.segment_bytes()).unwrap_or(i64::MAX)
}

/// `MFD_NOEXEC_SEAL` where the kernel knows it (6.3), always sealable.
fn make_memfd() -> Result<OwnedFd, ShmError> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    match memfd_create("ringwire", flags | no_exec) {
        Err(Errno::EINVAL) => memfd_create("ringwire", flags),
        other => other,
    }
    .map_err(ShmError::system("memfd_create"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Area, Ordering::Relaxed, Word};

    fn layout() -> Layout {
        Layout::new(8192, 16384).unwrap()
    }

    #[test]
    fn two_mappings_show_the_same_bytes_and_every_word_has_a_place_of_its_own() {
        let options = SegmentOptions { reserve: true, exclude_from_core_dumps: true };
        let (one, descriptor) = Segment::create(layout(), options).unwrap();
        let two = Segment::open(&descriptor, layout(), options).unwrap();
        let mut value = 1;
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (mine, theirs) = (one.area(direction), two.area(direction));
            assert_eq!(mine.size(), layout().ring_bytes(direction));
            for word in [
                mine.head(),
                mine.reader_parked(),
                mine.writer_parked(),
                mine.word(0),
                mine.word(mine.size() - 8),
            ] {
                assert_eq!(word.load(Relaxed), 0, "two words in one place");
                word.store(value, Relaxed);
                value += 1;
            }
            assert_eq!(theirs.head().load(Relaxed), value - 5);
            assert_eq!(theirs.word(theirs.size() - 8).load(Relaxed), value - 1);
            theirs.copy_in(100, b"bytes");
            let mut bytes = [0; 5];
            mine.copy_out(100, &mut bytes);
            assert_eq!(&bytes, b"bytes");
        }
    }

    #[test]
    fn an_unsealed_or_wrong_sized_segment_is_refused() {
        let options = SegmentOptions::default();
        let plain = memfd_create("plain", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        ftruncate(&plain, file_size(layout())).unwrap();
        assert!(matches!(Segment::open(&plain, layout(), options), Err(ShmError::Seals { .. })));
        let (_segment, descriptor) = Segment::create(layout(), options).unwrap();
        let larger = Layout::new(16384, 16384).unwrap();
        let error = Segment::open(&descriptor, larger, options).unwrap_err();
        assert_eq!(error.to_string(), "segment of 28672 bytes, expected 36864");
        assert!(ftruncate(&descriptor, 0).is_err(), "sealed");
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(matches!(Segment::open(&socket, layout(), options), Err(ShmError::System { .. })));
    }

    #[test]
    fn discarded_pages_read_as_zero_and_their_neighbours_stay() {
        let (segment, _descriptor) = Segment::create(layout(), SegmentOptions::default()).unwrap();
        let area = segment.area(Direction::ToServer);
        let other = segment.area(Direction::ToClient);
        area.copy_in(0, &[7; 8192]);
        other.copy_in(0, &[8; 16384]);
        segment.discard(Direction::ToServer, 0, u32::MAX);
        let mut bytes = [0; 8192];
        area.copy_out(0, &mut bytes);
        assert!(bytes[..3072].iter().all(|byte| *byte == 7), "the control words' page stays");
        assert!(bytes[3072..7168].iter().all(|byte| *byte == 0));
        assert!(bytes[7168..].iter().all(|byte| *byte == 7), "the neighbour's page stays");
        let mut bytes = [0; 16384];
        other.copy_out(0, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 8));
    }
}
