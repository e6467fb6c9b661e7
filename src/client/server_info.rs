//! [`ServerInfo`]: what the handshake said.

use crate::transport::{Credentials, Stream};

/// The server as the handshake showed it, and what the two sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its process, as the kernel vouches for it.
    pub credentials: Credentials,
    /// Version of the protocol that both sides speak.
    pub version: u16,
    /// Size of the ring that carries requests, in bytes.
    pub to_server_bytes: u32,
    /// Size of the ring that carries answers and events, in bytes.
    pub to_client_bytes: u32,
    /// The longest message that the server puts together whole, in bytes.
    pub max_message_bytes: u64,
    /// The core that the server's thread shares with this side, if it has granted the latency class.
    pub latency_core: Option<u32>,
}

impl ServerInfo {
    pub(super) fn of(stream: &Stream) -> Self {
        let negotiated = stream.negotiated();
        Self {
            credentials: stream.peer(),
            version: negotiated.version,
            to_server_bytes: negotiated.to_server_bytes,
            to_client_bytes: negotiated.to_client_bytes,
            max_message_bytes: negotiated.peer_max_message_bytes,
            latency_core: negotiated.latency_core,
        }
    }
}
