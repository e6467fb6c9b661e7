//! Buffers to put messages together in, lent from a pool with a hard budget.
//!
//! A [`Pool`] has three tiers, by default 32 buffers of 4 KiB and 6 of 64 KiB (512 KiB, the budget) and one of 1 MiB.
//! [`Pool::acquire`] lends the smallest buffer that is large enough; dropping the [`Buffer`] gives it back.
//!
//! # What it promises
//! - **Bounded memory.** A tier never has more buffers than its count, and the small and the medium tier together never
//!   more bytes than the budget: [`PoolConfig::validate`] sees to that, once. A buffer takes memory when it is lent
//!   for the first time, and only as many are ever taken as were lent at once. The small and the medium tier keep them;
//!   the large tier maps a buffer when it lends it and unmaps it when it comes back.
//! - **No lock, allocation or system call** to acquire and release a kept buffer while one is free: one exchange on a
//!   queue each way. Only who finds its tier exhausted sleeps, until a buffer comes back or its deadline. (A thread
//!   preempted for the few instructions between its two steps in the queue holds up those that come right after it.)
//! - **A leak shows.** A buffer that is never given back ([`std::mem::forget`], a handler that hangs) stays in
//!   [`TierStats::lent`] for ever; the others go on being lent.
//!
//! # Each tier for itself
//! A request whose tier is exhausted waits; it does not fall over to a larger one. Otherwise a crowd of small messages
//! would take the few large buffers (of 1 MiB there is one), requests that fit nowhere else would fail for it, and
//! a gauge at its limit would not tell which count is too low. Who prefers a larger buffer to waiting asks for it:
//! [`Pool::try_acquire`], then [`Pool::acquire`] with more bytes. A tier with a count of 0 is left out: its requests go to
//! the next larger one.
//!
//! # Order
//! A thread that holds a buffer may wait for one of a larger tier, as who finds a message longer than expected does. To wait
//! for one of the same or a smaller tier can deadlock with a thread that does the same, until the deadline of one of them.
//!
//! There is no order among the waiters of a tier.

mod config;
mod error;
mod pool;
mod tier;

pub use config::{PoolConfig, TierConfig};
pub use error::PoolError;
pub use pool::{Pool, PoolStats};
pub use tier::{Buffer, TierStats};
