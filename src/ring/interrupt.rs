//! [`Interrupter`]: other threads of the reading process get the reader's attention.
//!
//! | word | written by | read by |
//! |---|---|---|
//! | what the reader is wanted for (a channel) | any thread, before it interrupts | the reader, behind the take of the signal |
//! | the signal, [`Kernel::interrupt`] | raised by any thread, taken by the reader | the reader: while it spins, behind its mark, behind its sleep |
//! | `reader_parked` | the reader: its mark, 0 when it is back | the interrupter, behind the signal and a fence |
//!
//! No interruption of a reader on the lifeline is lost: it looks at the signal behind its mark and the fence, so either
//! it sees the signal, or the interrupter sees the mark and ends its listening. On the commit word the wake-up is a hint:
//! a reader that is just about to sleep misses it, and looks at the signal when its slice ends (5 ms, 10 where recent waits
//! were long, 100 where threads queue for the cores, and in the latency class).
//!
//! `reader_parked` lies in memory that the peer can write. By that it delays what its own connection is wanted for, and
//! nothing else: the address is taken modulo the area, and each interruption costs one system call at the most. An end of
//! the waits it cannot even delay: a kernel that has been told to end them ends the listening behind the signal, unasked.

use super::Consumer;
use crate::sync::{Area, Kernel, Ordering::Relaxed, Platform, Word, weak};
use crate::wait::Mark;

/// Gets a reading half's attention, wherever it waits: see [`Consumer::interrupter`].
#[derive(Clone, Debug)]
pub struct Interrupter<A, K> {
    area: A,
    kernel: K,
}

impl<P: Platform, K: Kernel<P::Word> + Clone> Consumer<P, K> {
    /// For other threads of this process.
    #[must_use]
    pub fn interrupter(&self) -> Interrupter<P::Area, K>
    where
        P::Area: Clone,
    {
        Interrupter { area: self.area.clone(), kernel: self.kernel.clone() }
    }
}

impl<A, K> Interrupter<A, K> {
    /// What the reading half asks of the kernel.
    #[must_use]
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Ends the reader's wait, or its next one.
    pub fn interrupt<P: Platform<Area = A>>(&self)
    where
        A: Area<Word = P::Word>,
        K: Kernel<P::Word>,
    {
        self.kernel.interrupt();
        // ORDER interrupt: the signal before the look at the mark (control: interrupted_without_fence). The other end is
        // `ORDER park` of the reader.
        P::fence_at(weak::FENCE_INTERRUPT_LOOK);
        match Mark::from_word(self.area.reader_parked().load(Relaxed)) {
            None => {}
            Some(mark) if mark.is_on_lifeline() => self.kernel.end_listening(),
            Some(mark) => self.kernel.wake(self.area.word(mark.position())),
        }
    }
}
