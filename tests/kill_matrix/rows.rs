//! The matrix: where the victim is killed, how the survivor waits, and what it then sees.

use ringwire::ErrorKind;
use ringwire::sync::failpoint::Failpoint::{self, *};

use Wait::{Away, Futex, Lifeline, Room, RoomSpin, Spin};

/// What the survivor does when the victim is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Polls for a message.
    Spin,
    /// Sleeps on the word where the next message will be.
    Futex,
    /// Sleeps on the lifeline.
    Lifeline,
    /// Sleeps until there is room.
    Room,
    /// Polls for room.
    RoomSpin,
    /// Something else: it looks at the connection later.
    Away,
}

const ALL: &[Wait] = &[Spin, Futex, Lifeline, Room, RoomSpin, Away];
/// The survivor has no room: it does not read, so the victim has none either.
const FULL: &[Wait] = &[Room, RoomSpin, Away];
/// The survivor has room, or the victim would not wait.
const READING: &[Wait] = &[Spin, Futex, Lifeline, Away];
const SLEEPING: &[Wait] = &[Futex, Lifeline];
const NO_ROOM: &[Wait] = &[Room];

/// How far the victim had closed the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Nothing,
    Sending,
    Both,
}

impl Closed {
    /// What the survivor's reads and writes find at the end.
    pub(crate) fn ends(self) -> [ErrorKind; 2] {
        match self {
            Self::Nothing => [ErrorKind::PeerDied, ErrorKind::PeerDied],
            Self::Sending => [ErrorKind::PeerClosed, ErrorKind::PeerDied],
            Self::Both => [ErrorKind::PeerClosed, ErrorKind::PeerClosed],
        }
    }
}

/// One row of the matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) at: Failpoint,
    /// What the victim is doing; a function in `victims`.
    pub(crate) doing: &'static str,
    pub(crate) passage: u64,
    pub(crate) waits: &'static [Wait],
    /// Messages of the fatal operation that the survivor receives.
    pub(crate) seen: u64,
    pub(crate) closed: Closed,
}

const fn row(at: Failpoint, doing: &'static str, passage: u64, waits: &'static [Wait], seen: u64) -> Row {
    Row { at, doing, passage, waits, seen, closed: Closed::Nothing }
}

const fn closing(at: Failpoint, waits: &'static [Wait], closed: Closed) -> Row {
    Row { closed, ..row(at, "close", 1, waits, 0) }
}

pub(crate) const ROWS: &[Row] = &[
    row(SendClaimed, "send", 1, ALL, 0),
    row(SendZeroed, "send", 1, ALL, 0),
    row(SendWritten, "send", 1, ALL, 0),
    row(SendCommitted, "send", 1, ALL, 1),
    row(AnnounceFenced, "send", 1, ALL, 1),
    row(ReaderWaking, "send", 1, SLEEPING, 1),
    row(ReaderWoken, "send", 1, SLEEPING, 1),
    row(SlotWritten, "slot", 1, ALL, 0),
    row(SlotWritten, "slot", 2, ALL, 0),
    row(SlotHeaderPut, "slot", 1, ALL, 0),
    row(BatchZeroed, "batch of 3", 1, ALL, 0),
    row(BatchFirstNoted, "batch of 3", 1, ALL, 0),
    row(BatchZeroed, "batch of 3", 2, ALL, 0),
    row(BatchLaterStored, "batch of 3", 1, ALL, 0),
    row(BatchLaterStored, "batch of 3", 2, ALL, 0),
    row(BatchPublishing, "batch of 3", 1, ALL, 0),
    row(BatchPublished, "batch of 3", 1, ALL, 3),
    row(RestartDrained, "restart", 1, ALL, 0),
    row(PadClaimed, "restart", 1, ALL, 0),
    row(PadPut, "restart", 1, ALL, 0),
    row(BatchPublishing, "restart", 1, ALL, 0),
    row(BatchPublished, "restart", 1, ALL, 1),
    row(PadClaimed, "batch of 2 around the end", 1, ALL, 0),
    row(PadPut, "batch of 2 around the end", 1, ALL, 0),
    row(BatchLaterStored, "batch of 2 around the end", 2, ALL, 0),
    row(BatchPublished, "batch of 2 around the end", 1, ALL, 2),
    row(HeadLoaded, "batch beyond the room", 1, FULL, 0),
    row(FullPublished, "batch beyond the room", 1, FULL, 6),
    row(FullAnnounced, "batch beyond the room", 1, FULL, 6),
    row(HeadLoaded, "sends beyond the room", 1, FULL, 6),
    row(FullPublished, "sends beyond the room", 1, FULL, 6),
    row(RoomWanted, "sends beyond the room", 1, FULL, 6),
    row(WordMarked, "sends beyond the room", 1, FULL, 6),
    row(WordFenced, "sends beyond the room", 1, FULL, 6),
    row(WordSlept, "sends beyond the room", 1, FULL, 6),
    row(WordBack, "sends beyond the room", 1, FULL, 6),
    row(TrimIdle, "going idle after a burst", 1, READING, 0),
    row(TrimmedBelow, "going idle after a burst", 1, READING, 0),
    row(TrimmedAbove, "going idle after a burst", 1, READING, 0),
    row(TrimBehind, "send after a burst", 1, ALL, 0),
    row(TrimmedBehind, "send after a burst", 1, ALL, 0),
    row(RecordFound, "receive", 1, ALL, 0),
    row(Releasing, "receive", 1, ALL, 0),
    row(Advanced, "receive", 1, ALL, 0),
    row(HeadStoring, "receive", 1, ALL, 0),
    row(HeadStored, "receive", 1, ALL, 0),
    row(HeadFenced, "receive", 1, ALL, 0),
    row(WriterWaking, "receive", 1, NO_ROOM, 0),
    row(WriterWoken, "receive", 1, NO_ROOM, 0),
    row(PaddingSkipped, "receive behind padding", 1, READING, 0),
    row(WordMarked, "wait for a message", 1, READING, 0),
    row(WordFenced, "wait for a message", 1, READING, 0),
    row(WordSlept, "wait for a message", 1, READING, 0),
    row(WordBack, "wait for a message", 2, READING, 0),
    row(LifelineMarked, "wait for a message", 1, READING, 0),
    row(LifelineFenced, "wait for a message", 1, READING, 0),
    row(LifelineSlept, "wait for a message", 1, READING, 0),
    row(LifelineBack, "wait for a message", 1, READING, 0),
    closing(CloseBegun, ALL, Closed::Nothing),
    closing(ClosePublished, ALL, Closed::Nothing),
    closing(CloseStored, ALL, Closed::Sending),
    closing(CloseAnnounced, ALL, Closed::Sending),
    closing(ReaderGone, ALL, Closed::Both),
    closing(ReaderGoneFenced, ALL, Closed::Both),
    closing(ReaderGoneWoken, NO_ROOM, Closed::Both),
];
