//! Named points at which a test has this process killed. For tests only.
//!
//! Without the cargo feature `failpoints`, which nobody but the kill matrix (`tests/kill_matrix`) needs, passing one is no
//! code at all. With it, passing one that is not armed is a relaxed load.

macro_rules! failpoints {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// A step of the protocol after which the process can be killed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Failpoint {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Failpoint {
            /// All of them, each with what has just happened there.
            #[cfg(feature = "failpoints")]
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, concat!($($doc),+)),)*];
        }
    };
}

failpoints! {
    /// send: room is claimed
    SendClaimed,
    /// send: the next commit word is zeroed
    SendZeroed,
    /// send: header and payload are written
    SendWritten,
    /// send: the commit word is stored
    SendCommitted,
    /// announce: the fence before the look at the reader's mark has passed
    AnnounceFenced,
    /// announce: the sleeping reader is about to be woken
    ReaderWaking,
    /// announce: the reader has been woken
    ReaderWoken,
    /// slot: a part of the payload is written
    SlotWritten,
    /// slot: the header is written
    SlotHeaderPut,
    /// batch: the commit word behind the record is zeroed
    BatchZeroed,
    /// batch: its first record (or padding) is complete but for its commit word
    BatchFirstNoted,
    /// batch: the commit word of a later record is stored
    BatchLaterStored,
    /// batch: everything but the first commit word is stored
    BatchPublishing,
    /// batch: the first commit word is stored
    BatchPublished,
    /// restart: the ring was found drained
    RestartDrained,
    /// padding: it is about to be put
    PadClaimed,
    /// padding: it is put, unpublished
    PadPut,
    /// full: the reader's position is loaded
    HeadLoaded,
    /// full: what was pending is published
    FullPublished,
    /// full: the reader has been told
    FullAnnounced,
    /// room: the wait for it begins
    RoomWanted,
    /// trim while going idle: it begins
    TrimIdle,
    /// trim while going idle: the pages below the position are gone
    TrimmedBelow,
    /// trim while going idle: the pages above it are gone too
    TrimmedAbove,
    /// trim on a send: it begins
    TrimBehind,
    /// trim on a send: the pages are gone
    TrimmedBehind,
    /// receive: a record is found and checked
    RecordFound,
    /// receive: padding is skipped
    PaddingSkipped,
    /// release: the payload has been read
    Releasing,
    /// release: the private position has moved
    Advanced,
    /// release: `head` is about to be stored
    HeadStoring,
    /// release: `head` is stored
    HeadStored,
    /// release: the fence before the look at the writer's mark has passed
    HeadFenced,
    /// release: the sleeping writer is about to be woken
    WriterWaking,
    /// release: the writer has been woken
    WriterWoken,
    /// park on the word: the mark is stored
    WordMarked,
    /// park on the word: the fence has passed, sleep comes next
    WordFenced,
    /// park on the word: back from sleep, the mark still stands
    WordSlept,
    /// park on the word: the mark is taken away
    WordBack,
    /// park on the lifeline: the mark is stored
    LifelineMarked,
    /// park on the lifeline: the fence has passed, the last look and sleep come next
    LifelineFenced,
    /// park on the lifeline: back from sleep, the mark still stands
    LifelineSlept,
    /// park on the lifeline: the mark is taken away
    LifelineBack,
    /// close of the sending half: it begins
    CloseBegun,
    /// close of the sending half: what was pending is published
    ClosePublished,
    /// close of the sending half: *closed* is stored
    CloseStored,
    /// close of the sending half: the reader has been told
    CloseAnnounced,
    /// close of the receiving half: `head` says so
    ReaderGone,
    /// close of the receiving half: the fence before the look at the writer's mark has passed
    ReaderGoneFenced,
    /// close of the receiving half: the sleeping writer has been woken
    ReaderGoneWoken,
    /// connect: the socket is connected
    ConnectReached,
    /// connect: the server's credentials are good
    ConnectTrusted,
    /// connect: the `Hello` is sent
    HelloSent,
    /// connect: the answer is not there yet
    AnswerAwaited,
    /// connect: the answer is read
    AnswerRead,
    /// connect: the segment is mapped
    AnswerSettled,
    /// bind: the lock is held
    BindLocked,
    /// bind: a dead server's socket is removed
    BindCleared,
    /// bind: the socket is made, private, without a path
    BindSocketMade,
    /// bind: the path is bound, nobody listens
    BindBound,
    /// bind: the socket listens
    BindListening,
    /// unbind: it begins
    UnbindBegun,
    /// unbind: the socket's file is removed
    UnbindSocketRemoved,
    /// unbind: the lock's file is removed, the lock held
    UnbindLockRemoved,
    /// accept: the client's socket is taken in
    AcceptTaken,
    /// accept: the client's `Hello` is waited for
    AcceptAdmitted,
    /// accept: the `Hello` is read
    HelloRead,
    /// accept: the connection is counted
    AcceptCounted,
    /// accept: the segment is made, sealed and mapped
    SegmentMade,
    /// accept: the `Welcome` is sent
    WelcomeSent,
    /// accept: a refusal is about to be sent
    RefusalSending,
    /// accept: the refusal is sent
    RefusalSent,
}

/// Passes `here`: the end of this process, if it is armed and this is the passage.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn failpoint(_here: Failpoint) {}

#[cfg(feature = "failpoints")]
pub use armed::{arm, failpoint};

#[cfg(feature = "failpoints")]
mod armed {
    use super::Failpoint;
    use crate::sync::Counter;

    /// The armed failpoint's number from 1 on; 0: none.
    static ARMED: Counter = Counter::new(0);
    static PASSAGES_LEFT: Counter = Counter::new(0);

    const fn number(failpoint: Failpoint) -> u64 {
        failpoint as u64 + 1
    }

    /// Arms `failpoint` for this process: its `passage`-th passage from now on, counted from 1, is the process's end.
    /// Once for a process.
    pub fn arm(failpoint: Failpoint, passage: u64) {
        PASSAGES_LEFT.add(passage);
        ARMED.raise_to(number(failpoint));
    }

    /// Passes `here`: the end of this process, if it is armed and this is the passage.
    #[inline(always)]
    pub fn failpoint(here: Failpoint) {
        if ARMED.get() == number(here) {
            pass_armed();
        }
    }

    #[cold]
    #[inline(never)]
    fn pass_armed() {
        if PASSAGES_LEFT.subtract(1) == 1 {
            // Nothing runs behind it: the kernel ends the process before the call returns.
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "RINGWIRE_TEST_FAILPOINT_CHILD";

    /// In a process of its own: a failpoint is armed once for a process.
    #[test]
    fn an_armed_point_is_passed_until_its_turn_comes_and_then_ends_the_process() {
        let (point, other) = (Failpoint::ALL[0].0, Failpoint::ALL[1].0);
        if std::env::var_os(CHILD).is_some() {
            failpoint(point);
            arm(point, 3);
            for passage in 1..=4 {
                failpoint(other);
                failpoint(point);
                eprintln!("passage {passage} survived");
            }
            return;
        }
        let child = Command::new(std::env::current_exe().expect("its own path"))
            .args(["--exact", "--nocapture"])
            .arg("sync::failpoint::tests::an_armed_point_is_passed_until_its_turn_comes_and_then_ends_the_process")
            .env(CHILD, "1")
            .output()
            .expect("starts itself again");
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.signal(), Some(9), "killed by its failpoint: {said}");
        assert!(
            said.contains("passage 2 survived") && !said.contains("passage 3 survived"),
            "at its turn: {said}"
        );
    }

    #[test]
    fn what_is_not_armed_may_be_passed() {
        // So late that it is never its turn: this process runs other tests too.
        let (last, _) = Failpoint::ALL[Failpoint::ALL.len() - 1];
        arm(last, u64::MAX / 2);
        for &(point, _) in Failpoint::ALL {
            failpoint(point);
        }
    }
}
