//! Parking by position: the sleeper says *where* it waits, the waker wakes the word at that place.
//!
//! | word | written by | read by |
//! |---|---|---|
//! | `reader_parked`, `writer_parked` | the sleeper: its [`Mark`] before the last look, 0 when it is back | the waker |
//! | the word slept on (a commit word, or `head`) | the waker, before it looks at the mark | the sleeper |
//!
//! Sleeper: store the mark, fence, look at the word once more, sleep, store 0. Waker: store the word, fence, look at the
//! mark. The two fences exclude that both see the old value. A sleeper that dies leaves a mark behind: the waker then
//! makes one useless call and remembers the mark. A waker that dies is reported by the lifeline.

use thiserror::Error;

use crate::sync::failpoint::{Failpoint, failpoint};
use crate::sync::{Heard, Kernel, Ordering::Relaxed, Platform, Word, weak};

/// Every wait looks at the lifeline at least this often; a reader of the latency class, or one whose recent waits were long
/// or ended in a queue for the cores, once in its futex stage ([`Patience`](super::Patience)).
pub const LOOK_EVERY_NS: u64 = 5_000_000;

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WaitError {
    /// The deadline came first.
    #[error("timed out")]
    TimedOut,
    /// The peer's process is gone, and nothing that it committed is left.
    #[error("the peer died")]
    PeerDied,
}

/// What a sleeper stores into its `parked` word: the low half of a position, which is 8-aligned, and two flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u32);

impl Mark {
    /// Never zero, whatever the position.
    const SET: u32 = 1;
    /// The sleeper listens on the lifeline; otherwise it sleeps on the word at the position.
    const LIFELINE: u32 = 2;

    /// Sleeps on a word until the byte at `position` is published (reader) or released (writer).
    #[must_use]
    pub const fn on_word(position: u32) -> Self {
        Self(position & !7 | Self::SET)
    }

    /// Sleeps on the lifeline until the byte at `position` is published.
    #[must_use]
    pub const fn on_lifeline(position: u32) -> Self {
        Self(position & !7 | Self::SET | Self::LIFELINE)
    }

    /// What a waker has loaded; `None` while nobody sleeps.
    #[must_use]
    pub const fn from_word(value: u32) -> Option<Self> {
        if value == 0 { None } else { Some(Self(value)) }
    }

    /// Low half of the position.
    #[must_use]
    pub const fn position(self) -> u32 {
        self.0 & !7
    }

    /// Whether the sleeper listens on the lifeline.
    #[must_use]
    pub const fn is_on_lifeline(self) -> bool {
        self.0 & Self::LIFELINE != 0
    }

    const fn value(self) -> u32 {
        self.0
    }
}

/// One sleep about to begin.
#[derive(Debug)]
pub struct Park<'a, W, K> {
    /// Puts to sleep.
    pub kernel: &'a K,
    /// Where the mark goes; written by the sleeper alone.
    pub parked: &'a W,
    /// Says where it sleeps, and for what.
    pub mark: Mark,
    /// The word that will change.
    pub word: &'a W,
}

impl<W: Word, K: Kernel<W>> Park<'_, W, K> {
    /// Sleeps while the word holds `expected`, until `until_ns`.
    ///
    /// `between` runs after the mark is stored and the fence has passed: what the caller stored before the call can be
    /// announced there with the same fence.
    pub fn on_word<P: Platform>(self, expected: u32, until_ns: u64, fence_site: u64, between: impl FnOnce()) {
        self.parked.store(self.mark.value(), Relaxed);
        failpoint(Failpoint::WordMarked);
        // ORDER park: the mark before the last look at the word (controls: reader_park_without_fence,
        // writer_park_without_fence). The other end is `ORDER look` of whoever writes the word. The last look is the
        // futex's own comparison.
        P::fence_at(fence_site);
        between();
        failpoint(Failpoint::WordFenced);
        // An interruption between this look and the sleep is found at the slice's end.
        if !self.kernel.is_interrupted() {
            self.kernel.sleep(self.word, expected, until_ns);
        }
        failpoint(Failpoint::WordSlept);
        self.parked.store(0, Relaxed);
        failpoint(Failpoint::WordBack);
    }

    /// Sleeps on the lifeline while the word is 0, until `until_ns`; `between` as in [`Park::on_word`].
    pub fn on_lifeline<P: Platform>(self, until_ns: u64, between: impl FnOnce()) -> Heard {
        let (kernel, parked) = (self.kernel, self.parked);
        let heard = if self.arm::<P>(between) { kernel.listen(until_ns) } else { Heard::Bell };
        failpoint(Failpoint::LifelineSlept);
        parked.store(0, Relaxed);
        failpoint(Failpoint::LifelineBack);
        heard
    }

    /// The first half of a sleep on the lifeline, which the caller goes on with itself, in `poll` or `epoll`: says whether
    /// to, which is while the word is 0. The mark stays until [`disarm`]. `between` as in [`Park::on_word`].
    pub fn arm<P: Platform>(self, between: impl FnOnce()) -> bool {
        self.parked.store(self.mark.value(), Relaxed);
        failpoint(Failpoint::LifelineMarked);
        // ORDER park: as above (controls: reader_park_on_lifeline_without_fence, arm_without_fence). Unlike a futex, `poll`
        // does not compare: the last look is ours (controls: lifeline_without_a_last_look, arm_without_a_last_look).
        P::fence_at(weak::FENCE_READER_PARK);
        between();
        failpoint(Failpoint::LifelineFenced);
        let wanted = self.kernel.is_interrupted() && !P::breaks(weak::NO_LAST_LOOK_AT_INTERRUPTION);
        !wanted && (P::breaks(weak::NO_LAST_LOOK) || self.word.load(Relaxed) == 0)
    }
}

/// Takes back the mark of [`Park::arm`]. Relaxed: a waker that still sees it rings once in vain.
pub fn disarm<W: Word>(parked: &W) {
    parked.store(0, Relaxed);
}

/// The waker's memory of one sleeper: the mark that it has already answered.
#[derive(Debug, Default)]
pub struct Waker {
    woken: u32,
    woken_at: u64,
}

impl Waker {
    /// A waker that remembers having answered the mark `woken`, for models of the remembered value's wrap.
    #[must_use]
    pub fn remembering(woken: u32, woken_at: u64) -> Self {
        Self { woken, woken_at }
    }

    /// The mark to answer, if the sleeper waits for something below `published` (the waker's own position: everything
    /// before it is visible) that has not been answered yet.
    ///
    /// Called after the store that published and the fence behind it.
    #[inline]
    pub fn look<P: Platform>(
        &mut self,
        parked: &P::Word,
        published: u64,
        area_bytes: u32,
        early: bool,
    ) -> Option<Mark> {
        let value = parked.load(Relaxed);
        if value == 0 {
            return None;
        }
        self.answer::<P>(Mark::from_word(value)?, published, area_bytes, early)
    }

    #[cold]
    fn answer<P: Platform>(
        &mut self,
        mark: Mark,
        published: u64,
        area_bytes: u32,
        early: bool,
    ) -> Option<Mark> {
        // An equal mark is the same sleep only while it can be: beyond an area's length the positions have moved on, and
        // 4 GiB later the same value comes again.
        // (Closing announces a position beyond the last that is published.)
        let moved = published.saturating_sub(self.woken_at);
        let fresh = moved <= u64::from(area_bytes) || P::breaks(weak::NO_FORGET);
        if mark.value() == self.woken && fresh {
            return None;
        }
        // Low halves differ by less than 2^31, since an area has at most 2^30 bytes.
        let beyond = (published as u32).wrapping_sub(mark.position());
        if !early && !(1..1 << 31).contains(&beyond) {
            return None;
        }
        self.woken = mark.value();
        self.woken_at = published;
        Some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_never_zero_and_keeps_its_position() {
        for position in [0, 8, u32::MAX - 7] {
            for mark in [Mark::on_word(position), Mark::on_lifeline(position)] {
                assert_ne!(mark.value(), 0);
                assert_eq!(mark.position(), position);
                assert_eq!(Mark::from_word(mark.value()), Some(mark));
            }
        }
        assert!(Mark::on_lifeline(0).is_on_lifeline() && !Mark::on_word(0).is_on_lifeline());
        assert_eq!(Mark::from_word(0), None);
    }
}
