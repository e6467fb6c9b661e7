//! The thread of a connection at its beginning: where it runs, and how it waits.

use super::core::Core;
use super::peer::Peer;
use super::placement::set_time_slice;
use crate::transport::{DEFAULT_LATENCY_PRIORITY, LatencyGuard, Stream, WaitStrategy, enter_latency_class};

/// Puts the calling thread where the connection wants it, in the latency class until what this returns is dropped.
/// Boxed: few connections have one, and the frame of every thread would have room for it.
pub(super) fn enter(core: &Core, peer: &Peer, stream: &mut Stream) -> Option<Box<LatencyGuard>> {
    let Some(wanted) = peer.info.latency_core else {
        core.settings.placement.apply(peer.info.id);
        set_time_slice(core.settings.time_slice);
        return None;
    };
    let entered = enter_latency_class(wanted, DEFAULT_LATENCY_PRIORITY);
    // Also without the priority: two that share a core and spin would take turns by the clock.
    let strategy = entered.as_ref().map_or(WaitStrategy::ParkAtOnce, LatencyGuard::wait_strategy);
    stream.set_wait_strategy(strategy);
    if entered.as_ref().is_ok_and(LatencyGuard::is_realtime) {
        stream.wait_steadily();
    }
    entered
        .inspect_err(|error| log::warn!("connection {} goes on without its core: {error}", peer.info.id))
        .ok()
        .map(Box::new)
}
