//! The server: one blocking thread per connection, handlers by message type.

mod assemble;
mod builder;
mod built_in;
mod connection;
mod context;
mod core;
mod deferred;
mod dispatch;
mod errors;
mod failure;
mod handle;
mod items;
mod latency;
mod metadata;
mod middleware;
mod peer;
mod placement;
mod registry;
mod reply;
mod serve;
mod stats;
mod threads;

pub use builder::ServerBuilder;
pub use context::{ConnectionInfo, Context, Request};
pub use deferred::DeferredReply;
pub use errors::{Action, DefaultErrorPolicy, ErrorClass, ErrorEvent, ErrorPolicy};
pub use failure::Failure;
pub use handle::{ConnectionHandle, ServerHandle};
pub use items::{Items, StreamingRequest};
pub use metadata::Metadata;
pub use middleware::{Flow, Logging, Middleware, Outcome, Timing, TypeTiming};
pub use peer::WhenFull;
pub use placement::Placement;
pub use reply::{Replied, Reply};
pub use serve::Server;
pub use stats::{ConnectionSummary, ServerStats};
