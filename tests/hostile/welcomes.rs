//! Answers of every wrong kind to a client that connects: it refuses them, keeps nothing of them, and never waits longer
//! than it was told to.
//!
//! `RINGWIRE_HOSTILE_WELCOMES` says how many (400 by default), `RINGWIRE_HOSTILE_SEED` which.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use ringwire::shm::{Layout, Segment, SegmentOptions};
use ringwire::wire::{Answer, Features, Status};
use ringwire::{ErrorKind, Header, Kind, Stream};
use zerocopy::IntoBytes;

use super::common::raw::{read_hello, try_send_with_descriptors};
use super::common::{Random, Watchdog, descriptors, say, second, segments, setting};
use super::rounds::{number, round_seed, seed};
use super::victim::resident_kib;

const RING: u32 = 4096;
/// What the calling process may have grown by.
const MOST_GROWTH_KIB: u64 = 4 << 10;

/// The second process that connects: says what came of each attempt, and holds nothing of it afterwards.
pub(super) fn caller() {
    let count: u64 = setting("COUNT").parse().unwrap();
    let id = std::process::id();
    let (mut before, mut resident) = (0, 0);
    for index in 0..count {
        if index == 20 {
            (before, resident) = (descriptors(id), resident_kib("VmRSS:"));
        }
        let timeout = Duration::from_millis(200);
        match Stream::builder(setting("SOCKET")).timeout(timeout).connect() {
            Ok(mut stream) => {
                stream.send(Header::new(Kind::Event, 1, 1), &[1; 500]).unwrap();
                say("Ok");
            }
            Err(error) => {
                assert!(error.to_string().len() < 1000, "{error}");
                say(&format!("{:?}", error.kind()));
            }
        }
    }
    assert_eq!((descriptors(id), segments(id)), (before, 0), "descriptors, segments");
    let grown = resident_kib("VmRSS:").saturating_sub(resident);
    assert!(grown < MOST_GROWTH_KIB, "grown by {grown} KiB");
    say(&format!("grown by {grown} KiB"));
}

/// An answer, and what the client may say to it.
#[derive(Debug)]
struct Welcome {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    /// The bytes before which they are sent.
    with_byte: usize,
    cuts: bool,
    stalls: bool,
    /// The first descriptor that comes is a segment of the size that was meant.
    segment_is_good: bool,
}

fn good_segment(ring_bytes: u32) -> OwnedFd {
    let layout = Layout::new(ring_bytes, ring_bytes).unwrap();
    Segment::create(layout, SegmentOptions::default()).unwrap().1
}

fn memfd(bytes: i64, seals: SealFlag) -> OwnedFd {
    let memfd = memfd_create("ringwire", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&memfd, bytes).unwrap();
    fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    memfd
}

/// Something that is no segment of two rings of 4 KiB, whatever it says.
fn bad_descriptor(random: &mut Random) -> OwnedFd {
    let all = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    let right = 12_288;
    match random.below(11) {
        0 => memfd(right, SealFlag::empty()),
        // Any seals but all that are needed.
        1 => {
            let missing = [SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_SEAL];
            memfd(right, all - missing[random.below(3) as usize])
        }
        2 => memfd(i64::try_from(random.below(40_000)).unwrap() | 1, all),
        3 => memfd(right * 2, all),
        4 => memfd(0, all),
        5 => memfd(right, all | SealFlag::F_SEAL_WRITE),
        6 => nix::unistd::pipe().unwrap().0,
        7 => UnixStream::pair().unwrap().0.into(),
        8 => File::open(["/dev/null", "/dev/zero", "/proc/self/maps", "/"][random.below(4) as usize])
            .unwrap()
            .into(),
        // Sealed and large enough, but not to be written.
        9 => {
            let good = good_segment(RING);
            File::open(format!("/proc/self/fd/{}", good.as_raw_fd())).unwrap().into()
        }
        _ => tempfile::tempfile().unwrap().into(),
    }
}

impl Welcome {
    fn mutated(random: &mut Random) -> Self {
        let answer = Answer::welcome(1, Features::SUPPORTED, [RING, RING], random.next());
        let mut welcome = Self {
            bytes: answer.as_bytes().to_vec(),
            descriptors: vec![good_segment(RING)],
            with_byte: 0,
            cuts: random.below(4) == 0,
            stalls: false,
            segment_is_good: true,
        };
        for _ in 0..1 + random.below(2) {
            welcome.mutate(random);
        }
        welcome
    }

    fn mutate(&mut self, random: &mut Random) {
        let length = self.bytes.len().max(1) as u64;
        match random.below(12) {
            0 => {
                self.descriptors.clear();
                self.segment_is_good = false;
            }
            1 => {
                let surplus = [1, 3, 4, 60][random.below(4) as usize];
                self.descriptors.extend((0..surplus).map(|_| nix::unistd::pipe().unwrap().1));
            }
            2..5 => {
                self.descriptors.insert(0, bad_descriptor(random));
                self.segment_is_good = false;
            }
            // Inside the answer: what comes right behind it may be taken in with it, or not.
            5 => self.with_byte = random.below(size_of::<Answer>() as u64) as usize,
            6 => {
                self.bytes.truncate(random.below(length) as usize);
                self.stalls = random.below(8) == 0;
            }
            7 => {
                let at = random.below(length) as usize;
                let bit = 1 << random.below(8);
                self.bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= bit);
            }
            // Sizes: of the message, or of a ring.
            8 => {
                let at = [8, 32, 36][random.below(3) as usize];
                let value = [0, 1, 8192, 1 << 30, u32::MAX, random.next() as u32][random.below(6) as usize];
                self.put(at, &value.to_ne_bytes());
            }
            9 => self.put(12, &(random.below(120) as u32).to_ne_bytes()),
            10 => self.put(16, &(random.below(3) as u16).to_ne_bytes()),
            _ => self.bytes.extend((0..random.below(5000)).map(|_| random.next() as u8)),
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(target) = self.bytes.get_mut(at..at + bytes.len()) {
            target.copy_from_slice(bytes);
        }
    }

    /// What the client must say; `None`: it connects.
    fn verdict(&self) -> Option<ErrorKind> {
        let answer = match Answer::parse(&self.bytes) {
            Err(_) => return Some(ErrorKind::Handshake),
            Ok(None) if self.stalls => return Some(ErrorKind::TimedOut),
            Ok(None) => return Some(ErrorKind::PeerClosed),
            Ok(Some(answer)) => answer,
        };
        match answer.status() {
            Status::Ok => {}
            Status::VersionMismatch => return Some(ErrorKind::VersionMismatch),
            Status::TooManyConnections => return Some(ErrorKind::TooManyConnections),
            Status::PermissionDenied => return Some(ErrorKind::PermissionDenied),
            Status::ResourceExhausted => return Some(ErrorKind::ResourceExhausted),
            Status::DeadlineExceeded => return Some(ErrorKind::TimedOut),
            _ => return Some(ErrorKind::Handshake),
        }
        let sizes = (answer.to_server_bytes, answer.to_client_bytes);
        let came = !self.descriptors.is_empty() && self.with_byte < answer.struct_bytes as usize;
        let good = answer.version == 1 && sizes == (RING, RING) && came && self.segment_is_good;
        if good { None } else { Some(ErrorKind::Handshake) }
    }

    fn send(&self, socket: &mut UnixStream) {
        let raw: Vec<i32> = self.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let (front, behind) = self.bytes.split_at(self.with_byte.min(self.bytes.len()));
        let step = if self.cuts { 37 } else { usize::MAX };
        let mut pieces: Vec<&[u8]> = front.chunks(step).collect();
        let first_behind = pieces.len();
        pieces.extend(behind.chunks(step));
        for (index, piece) in pieces.into_iter().enumerate() {
            let sent = if index == first_behind && !raw.is_empty() {
                try_send_with_descriptors(socket, piece, &raw)
            } else {
                socket.write_all(piece).is_ok()
            };
            if !sent {
                break;
            }
        }
        // What is not sealed is taken away while the client looks at it.
        for descriptor in &self.descriptors {
            let _ = ftruncate(descriptor, 0);
        }
    }
}

#[test]
fn mutated_welcomes_are_refused_and_leave_nothing_behind() {
    let _watchdog = Watchdog::start();
    let count = number("RINGWIRE_HOSTILE_WELCOMES", 400);
    let seed = seed();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let settings = [("SOCKET", path.to_str().unwrap()), ("COUNT", &*count.to_string())];
    let mut caller = second("caller", &settings);
    let mut accepted = 0;
    for index in 0..count {
        let welcome = Welcome::mutated(&mut Random(round_seed(seed, index)));
        let verdict = welcome.verdict().map_or("Ok".to_owned(), |kind| format!("{kind:?}"));
        let (mut socket, _) = listener.accept().unwrap();
        read_hello(&mut socket);
        welcome.send(&mut socket);
        let stalling = welcome.stalls.then_some(socket);
        let said = caller.hear();
        assert_eq!(said, verdict, "welcome {index} of seed {seed}: {welcome:?}");
        accepted += u64::from(said == "Ok");
        drop(stalling);
    }
    println!("{count} welcomes, {accepted} of them good ones; the client has {}", caller.hear());
    caller.join();
}
