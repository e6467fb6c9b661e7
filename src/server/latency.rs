//! The thread of a connection at its beginning: where it runs, and how it waits.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::peer::Peer;
use super::placement::set_time_slice;
use super::rehearsal::Rehearsal;
use crate::transport::{
    CorePoller, DEFAULT_LATENCY_PRIORITY, LatencyGuard, Stream, WaitStrategy, enter_latency_class,
};

/// A core that is offered to the latency class.
#[derive(Debug)]
pub(super) struct LatencyCore {
    pub(super) number: u32,
    poller: CorePoller,
}

impl LatencyCore {
    pub(super) fn new(number: u32) -> Self {
        Self { number, poller: CorePoller::new() }
    }
}

/// Puts the calling thread where the connection wants it, in the latency class until what this returns is dropped.
/// Boxed: few connections have one, and the frame of every thread would have room for it.
pub(super) fn enter(core: &Arc<Core>, peer: &Peer, stream: &mut Stream) -> Option<Box<LatencyGuard>> {
    let Some(wanted) = peer.info.latency_core else {
        core.settings.placement.apply(peer.info.id);
        set_time_slice(core.settings.time_slice);
        stream.halves().1.wait_for_requests();
        return None;
    };
    let entered = enter_latency_class(wanted, DEFAULT_LATENCY_PRIORITY);
    // Also without the priority: two that share a core and spin would take turns by the clock.
    let strategy = entered.as_ref().map_or(WaitStrategy::ParkAtOnce, LatencyGuard::wait_strategy);
    stream.set_wait_strategy(strategy);
    if entered.as_ref().is_ok_and(LatencyGuard::is_realtime) {
        stream.halves().1.wait_steadily();
        keep_core(core, wanted, stream);
    }
    entered
        .inspect_err(|error| log::warn!("connection {} goes on without its core: {error}", peer.info.id))
        .ok()
        .map(Box::new)
}

/// Has the thread poll behind each request, if the server is to. Out of the frame of every thread: two streams pass here.
#[cold]
#[inline(never)]
fn keep_core(core: &Arc<Core>, wanted: u32, stream: &mut Stream) {
    let window = core.settings.latency_busy_poll;
    let Some(offered) = core.settings.latency_core(wanted).filter(|_| window > Duration::ZERO) else {
        return;
    };
    let mut rehearsal = Rehearsal::new(core)
        .inspect_err(|error| log::debug!("a connection polls, but does not rehearse: {error}"))
        .ok();
    let between_polls = move || rehearsal.iter_mut().for_each(Rehearsal::run);
    stream.halves().1.keep_core(window, &offered.poller, Box::new(between_polls));
}
