//! Models of the shipped ring, parker and close protocol.
//!
//! [loom] runs a model under every interleaving (up to a number of preemptions) and with every value that the C11
//! memory model lets a load return. What it runs here is the code of `ringwire::ring` and `ringwire::wait` itself: this
//! crate only implements the platform port ([`Loom`], [`LoomArea`], [`LoomKernel`]). No `cfg`, no `RUSTFLAGS`.
//!
//! Every ordering, fence and step of the protocol that the shipped code marks with a bit of `ringwire::sync::weak` has
//! a *negative control*: a model that runs with that bit and [`must_fail`]. The tests are in `tests/`, one file for each
//! theme; a test's name is the property, and controls are named after what they leave out.
//!
//! `LOOM_MAX_PREEMPTIONS` sets another bound on preemptions than 3.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a model fails by panicking")]

mod check;
mod flag;
mod kernel;
mod memory;
mod ring;
mod script;

pub use check::{Failure, check, must_fail};
pub use flag::Flag;
pub use kernel::{LoomKernel, PAST, Slices, Trigger, lifeline};
pub use memory::{Loom, LoomArea, LoomWord};
pub use ring::{Ends, Receiver, Sender, Shape};
pub use script::{Script, run};
