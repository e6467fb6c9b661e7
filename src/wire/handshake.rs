//! The handshake: one [`Hello`] from the client, one [`Answer`] from the server, over the Unix socket.
//!
//! Both are versioned by size: a struct only ever grows at its end, says its size in its second field, and is read by
//! filling what the sender did not know with zeros and leaving out what the reader does not know. So an old client can
//! talk to a new server. `tests/handshake_versions.rs` keeps a stored `Hello` of every released version.

use core::mem::size_of;

use thiserror::Error;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::Status;

/// The first eight bytes of both messages.
pub const MAGIC: [u8; 8] = *b"ringwire";
/// The protocol version that this build speaks best.
pub const VERSION: u16 = 1;
/// The oldest protocol version that this build still speaks.
pub const VERSION_OLDEST: u16 = 1;
/// A handshake message is never longer, in any version.
pub const MAX_HANDSHAKE_BYTES: usize = 4096;
/// Bytes of a [`Hello`] of version 1: what every later one has at least.
pub const HELLO_MIN_BYTES: usize = 48;
/// Room for a refusal's reason in an [`Answer`], in bytes of UTF-8.
pub const REASON_BYTES: usize = 200;
/// Magic and size: what must be there before the rest can be judged.
const PREFIX_BYTES: usize = 12;

/// Optional abilities, one bit each; a connection uses those that both sides have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// Connections whose threads share a core in real time: see [`Hello::latency_core`]. Said by a client that asks for it.
    pub const LATENCY_CLASS: Self = Self(1);
    /// The first of several fragments may say how long the message is: see [`Flags::of_size`](super::Flags::of_size).
    pub const SIZE_CLASS: Self = Self(2);
    /// What this build can do.
    pub const SUPPORTED: Self = Self(Self::LATENCY_CLASS.0 | Self::SIZE_CLASS.0);

    /// Whether all of `other` are among them.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that both sides have.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// What the client says first.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq, Eq)]
#[repr(C)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Bytes of this message, whatever its version.
    pub struct_bytes: u32,
    /// The oldest protocol version that the client speaks.
    pub version_oldest: u16,
    /// The newest protocol version that the client speaks.
    pub version: u16,
    /// [`Features`] that the client has.
    pub features: u64,
    /// Size of the client's sending ring that it would like, in bytes; 0 leaves it to the server.
    pub to_server_bytes: u32,
    /// Size of the server's sending ring that it would like, in bytes; 0 leaves it to the server.
    pub to_client_bytes: u32,
    /// The longest message that the client takes in whole, in bytes.
    pub max_message_bytes: u64,
    /// 1 + the core that the client's thread of this connection runs on, and the server's should; 0: no latency class. Only
    /// with [`Features::LATENCY_CLASS`].
    pub latency_core: u32,
    /// Not used; zero.
    pub reserved: u32,
}

/// What the server answers: a welcome (with the segment's descriptor) or a refusal.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Answer {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Bytes of this message, whatever its version.
    pub struct_bytes: u32,
    /// A [`Status`]: 0 is a welcome.
    pub status: u32,
    /// The protocol version of this connection; in a refusal the newest that the server speaks.
    pub version: u16,
    /// The oldest protocol version that the server speaks.
    pub version_oldest: u16,
    /// Bytes of `reason` that are used.
    pub reason_bytes: u32,
    /// [`Features`] that both sides have.
    pub features: u64,
    /// Size of the client's sending ring in bytes.
    pub to_server_bytes: u32,
    /// Size of the server's sending ring in bytes.
    pub to_client_bytes: u32,
    /// The longest message that the server takes in whole, in bytes.
    pub max_message_bytes: u64,
    /// Why the connection was refused.
    pub reason: [u8; REASON_BYTES],
}

const _: () = {
    assert!(size_of::<Hello>() == HELLO_MIN_BYTES);
    assert!(core::mem::offset_of!(Hello, struct_bytes) == 8);
    assert!(core::mem::offset_of!(Hello, features) == 16);
    assert!(size_of::<Answer>() == ANSWER_MIN_BYTES);
    assert!(core::mem::offset_of!(Answer, struct_bytes) == 8);
    assert!(core::mem::offset_of!(Answer, status) == 12);
    assert!(core::mem::offset_of!(Answer, reason) == 48);
    assert!(size_of::<Answer>() <= MAX_HANDSHAKE_BYTES);
};

const ANSWER_MIN_BYTES: usize = 48 + REASON_BYTES;

/// A handshake message that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// The first bytes are not [`MAGIC`].
    #[error(
        "expected a ringwire handshake, found bytes {found:02x?} (is something else listening or calling here?)"
    )]
    Magic {
        /// What came instead.
        found: [u8; 8],
    },
    /// The size field is out of range.
    #[error("handshake message of {found} bytes, expected {least} to {MAX_HANDSHAKE_BYTES}")]
    Size {
        /// What the size field says.
        found: u32,
        /// The size in the oldest version.
        least: usize,
    },
    /// The version range is empty.
    #[error("handshake with an empty version range: {oldest} to {newest}")]
    Versions {
        /// Lower end.
        oldest: u16,
        /// Upper end.
        newest: u16,
    },
}

/// How many bytes the message that begins with `start` has in all; `None` until enough of it is there to tell.
fn announced_bytes(start: &[u8], least: usize) -> Result<Option<usize>, HandshakeError> {
    let known = start.len().min(MAGIC.len());
    if start[..known] != MAGIC[..known] {
        let mut found = [0; 8];
        found[..known].copy_from_slice(&start[..known]);
        return Err(HandshakeError::Magic { found });
    }
    let Some(size) = start.get(8..PREFIX_BYTES) else { return Ok(None) };
    let found = u32::from_ne_bytes([size[0], size[1], size[2], size[3]]);
    let bytes = found as usize;
    if !(least..=MAX_HANDSHAKE_BYTES).contains(&bytes) {
        return Err(HandshakeError::Size { found, least });
    }
    Ok(Some(bytes))
}

/// Reads the part of `bytes` that this version knows; what a shorter sender left out is zero.
fn read_known<T: FromZeros + IntoBytes + FromBytes>(bytes: &[u8]) -> T {
    let mut value = T::new_zeroed();
    let known = bytes.len().min(size_of::<T>());
    value.as_mut_bytes()[..known].copy_from_slice(&bytes[..known]);
    value
}

impl Hello {
    /// A `Hello` of this build.
    #[must_use]
    pub fn new(to_server_bytes: u32, to_client_bytes: u32, max_message_bytes: u64) -> Self {
        Self {
            magic: MAGIC,
            struct_bytes: size_of::<Self>() as u32,
            version_oldest: VERSION_OLDEST,
            version: VERSION,
            features: Features::SUPPORTED.without(Features::LATENCY_CLASS).0,
            to_server_bytes,
            to_client_bytes,
            max_message_bytes,
            latency_core: 0,
            reserved: 0,
        }
    }

    /// The same, asking for the latency class on `core`.
    #[must_use]
    pub const fn with_latency_core(self, core: u32) -> Self {
        let features = self.features | Features::LATENCY_CLASS.0;
        Self { features, latency_core: core.saturating_add(1), ..self }
    }

    /// The core on which both sides' threads are to share the latency class, if the client asks for it.
    #[must_use]
    pub fn wanted_latency_core(&self) -> Option<u32> {
        let can = Features(self.features).contains(Features::LATENCY_CLASS);
        self.latency_core.checked_sub(1).filter(|_| can)
    }

    /// Reads a message that may not have come whole yet: `None` until it has. What lies behind it is left alone.
    ///
    /// # Errors
    /// [`HandshakeError`] as soon as the bytes cannot become a valid message any more.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HandshakeError> {
        let whole = match announced_bytes(bytes, HELLO_MIN_BYTES)? {
            Some(size) if size <= bytes.len() => &bytes[..size],
            _ => return Ok(None),
        };
        let hello: Self = read_known(whole);
        if hello.version_oldest > hello.version || hello.version == 0 {
            return Err(HandshakeError::Versions { oldest: hello.version_oldest, newest: hello.version });
        }
        Ok(Some(hello))
    }

    /// The newest version that both the sender and this build speak.
    #[must_use]
    pub fn common_version(&self) -> Option<u16> {
        let newest = self.version.min(VERSION);
        (newest >= self.version_oldest.max(VERSION_OLDEST)).then_some(newest)
    }
}

impl Answer {
    /// A welcome.
    #[must_use]
    pub fn welcome(version: u16, features: Features, rings: [u32; 2], max_message_bytes: u64) -> Self {
        let mut answer = Self::with_status(Status::Ok);
        answer.version = version;
        answer.features = features.0;
        [answer.to_server_bytes, answer.to_client_bytes] = rings;
        answer.max_message_bytes = max_message_bytes;
        answer
    }

    /// A refusal; the reason is cut at [`REASON_BYTES`].
    #[must_use]
    pub fn refusal(status: Status, reason: &str) -> Self {
        let mut answer = Self::with_status(status);
        let end =
            (0..=REASON_BYTES.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        answer.reason[..end].copy_from_slice(&reason.as_bytes()[..end]);
        answer.reason_bytes = end as u32;
        answer
    }

    fn with_status(status: Status) -> Self {
        Self {
            magic: MAGIC,
            struct_bytes: size_of::<Self>() as u32,
            status: status.code(),
            version: VERSION,
            version_oldest: VERSION_OLDEST,
            ..Self::new_zeroed()
        }
    }

    /// As [`Hello::parse`].
    ///
    /// # Errors
    /// [`HandshakeError`] as soon as the bytes cannot become a valid message any more.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, HandshakeError> {
        Ok(match announced_bytes(bytes, ANSWER_MIN_BYTES)? {
            Some(size) if size <= bytes.len() => Some(read_known(&bytes[..size])),
            _ => None,
        })
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::from_code(self.status)
    }

    /// The reason of a refusal, without control characters: it ends up in a log.
    #[must_use]
    pub fn reason(&self) -> String {
        let used = (self.reason_bytes as usize).min(REASON_BYTES);
        String::from_utf8_lossy(&self.reason[..used]).replace(char::is_control, " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_when_it_is_whole_and_not_before() {
        let hello = Hello::new(65536, 4096, 10 << 20);
        let bytes = hello.as_bytes();
        for end in 0..bytes.len() {
            assert_eq!(Hello::parse(&bytes[..end]), Ok(None), "{end} bytes");
        }
        assert_eq!(Hello::parse(bytes), Ok(Some(hello)));
    }

    #[test]
    fn a_longer_hello_of_a_later_version_is_read_and_a_version_is_agreed_on() {
        let mut hello = Hello::new(0, 0, 1);
        hello.version = 9;
        hello.struct_bytes = 64;
        let mut bytes = hello.as_bytes().to_vec();
        bytes.extend([7; 16]);
        assert_eq!(Hello::parse(&bytes[..60]), Ok(None));
        let read = Hello::parse(&bytes).unwrap().unwrap();
        assert_eq!(read.common_version(), Some(VERSION));
        hello.version_oldest = 9;
        assert_eq!(hello.common_version(), None);
    }

    #[test]
    fn nonsense_is_named() {
        assert!(
            matches!(Hello::parse(b"GET / HT"), Err(HandshakeError::Magic { found }) if found == *b"GET / HT")
        );
        assert!(matches!(Hello::parse(b"G"), Err(HandshakeError::Magic { .. })));
        let mut hello = Hello::new(0, 0, 0);
        for size in [0, 47, 4097, u32::MAX] {
            hello.struct_bytes = size;
            assert_eq!(Hello::parse(hello.as_bytes()), Err(HandshakeError::Size { found: size, least: 48 }));
        }
        let mut hello = Hello::new(0, 0, 0);
        hello.version_oldest = 2;
        assert_eq!(Hello::parse(hello.as_bytes()), Err(HandshakeError::Versions { oldest: 2, newest: 1 }));
    }

    #[test]
    fn a_refusal_carries_its_reason_cut_between_characters() {
        let answer = Answer::refusal(Status::TooManyConnections, &"ä".repeat(150));
        let read = Answer::parse(answer.as_bytes()).unwrap().unwrap();
        assert_eq!(read.status(), Status::TooManyConnections);
        assert_eq!(read.reason(), "ä".repeat(100));
        let mut answer = Answer::refusal(Status::Internal, "a\u{1b}[31m\nb");
        assert_eq!(answer.reason(), "a [31m b");
        answer.reason_bytes = u32::MAX;
        assert_eq!(answer.reason().len(), 200);
    }

    #[test]
    fn a_welcome_carries_the_sizes() {
        let answer = Answer::welcome(1, Features::SUPPORTED, [4096, 8192], 77);
        let read = Answer::parse(answer.as_bytes()).unwrap().unwrap();
        assert_eq!(read.status(), Status::Ok);
        assert_eq!((read.to_server_bytes, read.to_client_bytes, read.max_message_bytes), (4096, 8192, 77));
        assert_eq!(Features(3).common(Features(6)), Features(2));
    }
}
