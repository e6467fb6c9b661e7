//! The message types that every server answers.

use std::fmt::Write;
use std::sync::{Arc, Weak};

use super::Failure;
use super::core::Core;
use super::registry::Handler;
use crate::error::Error;
use crate::wire::call::{ECHO, PING, SERVER_INFO, STATS};
use crate::wire::{VERSION, VERSION_OLDEST};

/// Adds them to the server's own registry.
pub(super) fn register(core: &Arc<Core>) -> Result<(), Error> {
    let registry = &core.registry;
    registry
        .add_any(ECHO, Handler::Plain(Arc::new(|request, reply| reply.send_payload(request.payload()))))?;
    registry.add_any(PING, Handler::Plain(Arc::new(|_, reply| reply.send(&[]))))?;
    add_text(core, STATS, |core| core.stats().to_string())?;
    add_text(core, SERVER_INFO, info)
}

fn add_text(core: &Arc<Core>, message_type: u16, text: fn(&Core) -> String) -> Result<(), Error> {
    // Weak: the registry belongs to the core.
    let weak: Weak<Core> = Arc::downgrade(core);
    let handler = Handler::Plain(Arc::new(move |_, reply| {
        let core = weak.upgrade().ok_or_else(|| Failure::unavailable("the server has ended"))?;
        reply.send(text(&core).as_bytes())
    }));
    core.registry.add_any(message_type, handler)
}

/// What the server is, one `name value` a line.
fn info(core: &Core) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "library {} {}\nprotocol {VERSION_OLDEST} to {VERSION}\nprocess {}\nuptime_ms {}\nmax_connections {}\n\
         max_message_bytes {}\n",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        core.started.elapsed().as_millis(),
        core.settings.max_connections,
        core.settings.max_message_bytes,
    );
    text
}
