//! Calls: how a request and its answers find each other, and how a status travels.
//!
//! | kind | who sends it | correlation | payload |
//! |---|---|---|---|
//! | request | client | its own | the request, behind its deadline if the header says so ([`Header::extended`]) |
//! | response | server, once | the request's | the response |
//! | error | server, instead of the response | the request's | a [`StatusPayload`] |
//! | stream item | server, any number | the request's | an item |
//! | stream end | server, once behind the items | the request's | a [`StatusPayload`]: `Ok` for a stream in good order |
//! | event | server: unsolicited; client: a request that nobody answers | 0 | the event |
//! | ping, pong | client, then server | the ping's | the same bytes |
//! | goodbye | server: it takes no new requests | 0 | a [`StatusPayload`] |
//!
//! Every request is answered exactly once, also one that was cancelled or came too late; until then its slot is taken.
//!
//! [`Header::extended`]: super::Header::extended

use core::time::Duration;

use super::Status;

/// Requests of one connection that may be in flight at once: one slot each, which their cancellation uses too.
pub const SLOTS: usize = 64;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();

/// The first message type that the library keeps for itself; below it they are the program's.
pub const BUILT_IN_FIRST: u16 = 0xFFF0;
/// Built in: answers with the request's payload.
pub const ECHO: u16 = 0xFFF0;
/// Built in: answers with nothing.
pub const PING: u16 = 0xFFF1;
/// Built in: answers with the server's counters as text.
pub const STATS: u16 = 0xFFF2;
/// Built in: answers with what the server is, as text.
pub const SERVER_INFO: u16 = 0xFFF3;
/// Built in where the server asks for a token: the token, answered with nothing.
pub const AUTHENTICATE: u16 = 0xFFF4;

/// The correlation of the `sequence`-th request, which takes `slot`.
///
/// ```
/// use ringwire::wire::call;
/// let correlation = call::correlation(7, 63);
/// assert_eq!(call::slot_of(correlation), 63);
/// ```
#[inline]
#[must_use]
pub const fn correlation(sequence: u64, slot: usize) -> u64 {
    (sequence << SLOT_BITS) | (slot as u64 % SLOTS as u64)
}

/// The slot of a request: below [`SLOTS`] whatever the peer wrote.
#[inline]
#[must_use]
pub const fn slot_of(correlation: u64) -> usize {
    correlation as usize % SLOTS
}

/// Longest text of a status, in bytes of UTF-8; more is cut off.
pub const MAX_STATUS_TEXT_BYTES: usize = 1_000;
/// Code and retry hint in front of the text.
const PREFIX_BYTES: usize = 8;
/// Longest payload that carries a status, in bytes.
pub const MAX_STATUS_BYTES: usize = PREFIX_BYTES + MAX_STATUS_TEXT_BYTES;

/// A status with its text, as an error record or the end of a stream carries it: `u32` code, `u32` milliseconds until a
/// retry makes sense (0: no hint), text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPayload {
    /// What happened.
    pub status: Status,
    /// When to try again, where the sender knows.
    pub retry_after: Option<Duration>,
    /// In words.
    pub message: String,
}

impl StatusPayload {
    /// A status as it travels, in at most [`MAX_STATUS_BYTES`].
    #[must_use]
    pub fn encode(status: Status, retry_after: Option<Duration>, text: &str) -> Vec<u8> {
        let hint_ms =
            retry_after.map_or(0, |after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX).max(1));
        let text = &text.as_bytes()[..text.floor_char_boundary(MAX_STATUS_TEXT_BYTES)];
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + text.len());
        bytes.extend(status.code().to_ne_bytes());
        bytes.extend(hint_ms.to_ne_bytes());
        bytes.extend(text);
        bytes
    }

    /// Reads what a peer wrote, whatever it is: too short is [`Status::Unknown`], control characters become blanks, more
    /// text than the longest is cut.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let Some((&[a, b, c, d, e, f, g, h], text)) = bytes.split_first_chunk() else {
            let message = format!("a status of {} bytes, expected at least {PREFIX_BYTES}", bytes.len());
            return Self { status: Status::Unknown, retry_after: None, message };
        };
        let hint_ms = u32::from_ne_bytes([e, f, g, h]);
        let text = String::from_utf8_lossy(&text[..text.len().min(MAX_STATUS_TEXT_BYTES)]);
        Self {
            status: Status::from_code(u32::from_ne_bytes([a, b, c, d])),
            retry_after: (hint_ms > 0).then(|| Duration::from_millis(hint_ms.into())),
            message: text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_survives_in_its_correlation_and_nothing_leaves_the_table() {
        for (sequence, slot) in [(1, 0), (2, 63), (u64::MAX >> 6, 17)] {
            assert_eq!(slot_of(correlation(sequence, slot)), slot);
        }
        assert_ne!(correlation(1, 5), correlation(2, 5));
        assert_eq!(slot_of(u64::MAX), 63);
    }

    #[test]
    fn a_status_survives_the_way_there() {
        let after = Some(Duration::from_millis(250));
        let bytes = StatusPayload::encode(Status::ResourceExhausted, after, "later, please");
        let read = StatusPayload::parse(&bytes);
        assert_eq!((read.status, read.retry_after), (Status::ResourceExhausted, after));
        assert_eq!(read.message, "later, please");
        let bytes = StatusPayload::encode(Status::Ok, None, "");
        assert_eq!((bytes.len(), StatusPayload::parse(&bytes).retry_after), (8, None));
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_nonsense_is_read_as_far_as_it_goes() {
        let after = Some(Duration::from_nanos(1));
        let bytes = StatusPayload::encode(Status::Internal, after, &"€".repeat(400));
        assert!(bytes.len() <= MAX_STATUS_BYTES);
        let read = StatusPayload::parse(&bytes);
        assert_eq!(read.message, "€".repeat(333));
        assert_eq!(read.retry_after, Some(Duration::from_millis(1)), "a hint is not rounded away");
        assert_eq!(StatusPayload::parse(b"1234567").status, Status::Unknown);
        let read = StatusPayload::parse(b"\x0d\0\0\0\0\0\0\0a\x1b[31m\nb\xff");
        assert_eq!((read.status, read.message.as_str()), (Status::Internal, "a [31m b\u{FFFD}"));
        assert_eq!(StatusPayload::parse(&[b'x'; 5_000]).message.len(), MAX_STATUS_TEXT_BYTES);
    }
}
