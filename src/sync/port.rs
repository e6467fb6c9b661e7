//! The port itself: [`Word`], [`Area`], [`Platform`], and [`Kernel`].

pub use core::sync::atomic::Ordering;

/// One raced 32-bit word. Every word has exactly one writer.
pub trait Word {
    /// Loads the value.
    fn load(&self, order: Ordering) -> u32;
    /// Stores `value`.
    fn store(&self, value: u32, order: Ordering);
}

/// The memory of one direction: a data area of a power-of-two size, and the three control words beside it.
///
/// The area is seen in granules of 8 bytes; the first four bytes of any granule may be a commit word. Offsets are in
/// bytes from the start of the area. An implementation never lets an access leave the area, whatever the offset.
pub trait Area {
    /// The type of its words.
    type Word: Word;

    /// Size of the data area in bytes, a power of two. Never changes.
    fn size(&self) -> u32;
    /// The word at `offset`, taken modulo the area's size and rounded down to 8.
    fn word(&self, offset: u32) -> &Self::Word;
    /// Bytes released by the reader (low 32 bits of its position; bit 0: the reader is gone). Written by the reader.
    fn head(&self) -> &Self::Word;
    /// Where the reader sleeps, or 0. Written by the reader.
    fn reader_parked(&self) -> &Self::Word;
    /// The `head` that the sleeping writer waits for, or 0. Written by the writer.
    fn writer_parked(&self) -> &Self::Word;

    /// Writes the 12 bytes behind the commit word of the record at `offset`: kind, flags and type, then correlation.
    fn put_header(&self, offset: u32, tag: u32, correlation: u64);
    /// Reads what [`Area::put_header`] wrote.
    fn header(&self, offset: u32) -> (u32, u64);
    /// Copies `source` to `offset`; never covers a commit word of a record in flight.
    ///
    /// # Panics
    /// If the range leaves the area: the caller has checked it.
    fn copy_in(&self, offset: u32, source: &[u8]);
    /// Copies from `offset` into `target`.
    ///
    /// # Panics
    /// If the range leaves the area: the caller has checked it.
    fn copy_out(&self, offset: u32, target: &mut [u8]);
    /// Writes `count` words of 8 bytes, made by `next`, to the 8-aligned `offset`.
    ///
    /// # Panics
    /// If the range leaves the area or is not aligned.
    fn put_words(&self, offset: u32, count: u32, next: impl FnMut() -> u64);
    /// Reads `count` words of 8 bytes from the 8-aligned `offset` and gives them to `take`.
    ///
    /// # Panics
    /// If the range leaves the area or is not aligned.
    fn take_words(&self, offset: u32, count: u32, take: impl FnMut(u64));
}

/// The steps of the hot path, for ranges that the ring has checked against its own private positions: by default the
/// checked ones.
pub trait RecordArea: Area {
    /// What travels between two cores at a time.
    const LINE_BYTES: u32 = 64;

    /// Copies in the payload of a record, to `offset`.
    ///
    /// # Safety
    /// `offset` is 8-aligned, and the payload lies inside the area.
    #[inline(always)]
    unsafe fn copy_record_in(&self, offset: u32, payload: &[u8]) {
        self.copy_in(offset, payload);
    }

    /// The header of the record at `offset`. Behind the payload: the header's line is the one that the reader polls, and takes
    /// from whoever has stored into it before the commit word is there as well.
    ///
    /// # Safety
    /// `offset` is 8-aligned, and the header's 16 bytes lie inside the area.
    #[inline(always)]
    unsafe fn put_record_header(&self, offset: u32, tag: u32, correlation: u64) {
        self.put_header(offset, tag, correlation);
    }

    /// Asks for the line of `offset` (modulo the area's size), to be read soon. An economy: may do nothing.
    #[inline(always)]
    fn expect_read(&self, offset: u32) {
        let _ = offset;
    }

    /// Stores 0 into the first word of each of `lines` lines from `offset` on, which must be free: whoever stores into a
    /// line owns it.
    ///
    /// # Panics
    /// If the lines leave the area.
    #[inline(always)]
    fn own_lines(&self, offset: u32, lines: u32) {
        for line in 0..lines {
            self.word(offset + line * Self::LINE_BYTES).store(0, Ordering::Relaxed);
        }
    }

    /// As [`Area::header`].
    ///
    /// # Safety
    /// `offset` is 8-aligned, and 16 bytes from there lie inside the area.
    #[inline(always)]
    unsafe fn record_header(&self, offset: u32) -> (u32, u64) {
        self.header(offset)
    }

    /// As [`Area::copy_out`].
    ///
    /// # Safety
    /// `offset` is 8-aligned, and `target.len()` bytes from there lie inside the area.
    #[inline(always)]
    unsafe fn copy_record_out(&self, offset: u32, target: &mut [u8]) {
        self.copy_out(offset, target);
    }
}

/// What a sleeper on the lifeline was woken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The peer rang (or something else on the descriptor wants a look at the ring).
    Bell,
    /// The deadline came first.
    Nothing,
    /// The other end of the lifeline is closed.
    HungUp,
}

/// The kernel's part in waiting. Times are absolute, in nanoseconds of `CLOCK_MONOTONIC`; `u64::MAX` is never.
pub trait Kernel<W> {
    /// Sleeps while `word` holds `expected`, at most until `until_ns`. May return early for no reason.
    fn sleep(&self, word: &W, expected: u32, until_ns: u64);
    /// Wakes the thread that sleeps on `word`.
    fn wake(&self, word: &W);
    /// Whether a sleep that was to end at `until_ns` ended clearly later: the thread has waited for a core.
    fn overslept(&self, _until_ns: u64) -> bool {
        false
    }
    /// Sleeps on the lifeline and takes in what arrived there. Belongs to the reading half alone.
    fn listen(&self, until_ns: u64) -> Heard;
    /// Takes in what has arrived on the lifeline, without sleeping: everything, unless a peer rings without end. Belongs to
    /// the reading half alone.
    fn hear(&self) -> Heard {
        self.listen(0)
    }
    /// Wakes the peer's reading half on its lifeline.
    fn ring_bell(&self);
    /// Looks whether the peer is gone, taking nothing from the lifeline.
    fn peer_is_gone(&self) -> bool;
    /// Whether another thread of this process wants the reading half: see [`Kernel::interrupt`]. Polled while it spins.
    #[inline(always)]
    fn is_interrupted(&self) -> bool {
        false
    }
    /// Marks the reading half as wanted, behind everything that it is wanted for.
    fn interrupt(&self) {}
    /// Whether this side has woken the peer from a long sleep since it was last asked: what is waited for then is late.
    #[inline(always)]
    fn take_rousing(&self) -> bool {
        false
    }
    /// Before [`Kernel::listen`] and the mark in front of it: what [`Kernel::end_listening`] needs is there from now on.
    fn prepare_listening(&self) {}
    /// Wakes the thread of this process that is in [`Kernel::listen`], or is about to be.
    fn end_listening(&self) {}
    /// Gives the memory of the area's bytes `from..to` back; they read as zero afterwards. An economy: may do nothing.
    fn discard(&self, from: u32, to: u32);
}

/// The port as one type parameter.
pub trait Platform: 'static {
    /// Its words.
    type Word: Word;
    /// Its memory.
    type Area: RecordArea<Word = Self::Word>;
    /// The negative controls that this platform asks for: bits of [`weak`]. 0 in every shipped platform, so that the
    /// branches on it are compiled away.
    const WEAK: u64 = 0;

    /// A sequentially consistent fence.
    fn fence();

    /// `strong`, unless this platform is the control that weakens `site`.
    #[inline(always)]
    #[must_use]
    fn order(site: u64, strong: Ordering) -> Ordering {
        if Self::WEAK & site == 0 { strong } else { Ordering::Relaxed }
    }

    /// The fence at `site`, unless this platform is the control that leaves it out.
    #[inline(always)]
    fn fence_at(site: u64) {
        if Self::WEAK & site == 0 {
            Self::fence();
        }
    }

    /// Whether this platform is the control that breaks the protocol at `site`.
    #[inline(always)]
    #[must_use]
    fn breaks(site: u64) -> bool {
        Self::WEAK & site != 0
    }
}

/// The sites that a negative control can weaken; each has a model in `loom-tests` that must fail.
pub mod weak {
    macro_rules! sites {
        ($($(#[doc = $doc:literal])+ $name:ident = $bit:literal;)*) => {
            $($(#[doc = $doc])+ pub const $name: u64 = 1 << $bit;)*
        };
    }
    sites! {
        /// The commit word is stored Relaxed.
        COMMIT_STORE = 0;
        /// The commit word is polled Relaxed.
        COMMIT_LOAD = 1;
        /// `head` is stored Relaxed.
        HEAD_STORE = 2;
        /// `head` is loaded Relaxed.
        HEAD_LOAD = 3;
        /// No fence between a commit and the look at the parked reader.
        FENCE_COMMIT_LOOK = 4;
        /// No fence between the reader's mark and its last look at the commit word.
        FENCE_READER_PARK = 5;
        /// No fence between `head` and the look at the parked writer.
        FENCE_HEAD_LOOK = 6;
        /// No fence between the writer's mark and its last look at `head`.
        FENCE_WRITER_PARK = 7;
        /// The next commit word is not zeroed.
        NO_ZERO = 8;
        /// The next commit word is zeroed after the commit.
        ZERO_LATE = 9;
        /// No room is kept for the trailing zero.
        NO_RESERVE = 10;
        /// The reader parks under a generation number and the waker wakes the record just committed.
        GENERATION = 11;
        /// Padding is published without a look at the parked reader, also before a wait for room.
        PAD_NO_LOOK = 12;
        /// A batch waits for room without publishing what is pending.
        BATCH_UNPUBLISHED = 13;
        /// The waker does not compare the parked position with what it has published.
        NO_POSITION_CHECK = 14;
        /// The reader goes to sleep without a last look at the commit word.
        NO_LAST_LOOK = 15;
        /// The reader wakes the writer before `head` has got there.
        WRITER_WOKEN_EARLY = 16;
        /// The waker never forgets the value that it woke.
        NO_FORGET = 17;
        /// The reader parks without publishing what it consumed.
        NO_HEAD_BEFORE_PARK = 18;
        /// Close does not look at the parked reader.
        CLOSE_NO_LOOK = 19;
        /// Padding waits for the room of the record too.
        PAD_AND_RECORD_ROOM = 20;
        /// The reader goes away without looking at the parked writer.
        READER_CLOSE_NO_LOOK = 21;
        /// The first commit word of a batch is stored first.
        FIRST_FIRST = 22;
        /// A reader that finds the peer gone does not look once more for what it left.
        NO_LOOK_AFTER_DEATH = 23;
        /// A reader that hears the peer hang up does not look once more for what it left.
        NO_LOOK_AFTER_HANG_UP = 24;
        /// A writer that finds the peer gone does not look once more for room.
        NO_LOOK_FOR_ROOM_AFTER_DEATH = 25;
        /// The writer stores into lines beyond what is free.
        LINES_BEYOND_ROOM = 26;
        /// The reader takes in bells between its last look and its sleep in the event loop.
        BELLS_HEARD_LATE = 28;
        /// The reader leaves the bells where they are.
        BELLS_NOT_HEARD = 29;
        /// A reader that hears the peer hang up between two turns does not look once more for what it left.
        NO_LOOK_AFTER_HEARD_HANG_UP = 30;
        /// The reader's look each KiB that publishes nothing does not look at the waiting writer either.
        SAY_NO_LOOK = 31;
        /// No fence between an interruption and the look at the parked reader.
        FENCE_INTERRUPT_LOOK = 32;
        /// The reader goes to sleep on the lifeline without a last look at whether it is wanted.
        NO_LAST_LOOK_AT_INTERRUPTION = 33;
    }
}
