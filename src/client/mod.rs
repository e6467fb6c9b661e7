//! The client.
mod builder;
mod calls;
mod connection;
mod events;
mod intake;
mod items;
mod pipeline;
pub mod pool;
mod queue;
mod reply;
mod request;
mod server_info;
mod tickets;
mod typed;

pub use builder::ClientBuilder;
pub use connection::Client;
pub use events::{Event, Events};
pub use items::Items;
pub use pool::{ClientPool, ClientPoolBuilder, ClientPoolMetrics, PooledClient};
pub use queue::EventPolicy;
pub use reply::Reply;
pub use request::Call;
pub use server_info::ServerInfo;
pub use tickets::Ticket;

pub use crate::wire::call::{BUILT_IN_FIRST, ECHO, PING, SERVER_INFO, STATS};
