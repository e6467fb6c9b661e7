//! The thread of a connection at its beginning: where it runs, and how it waits.

use super::core::Core;
use super::peer::Peer;
use crate::transport::Stream;

/// Puts the calling thread where the connection wants it, until what this returns is dropped.
pub(super) fn enter(core: &Core, peer: &Peer, stream: &mut Stream) {
    let _ = stream;
    core.settings.placement.apply(peer.info.id);
}
