//! The hostile process: it speaks the real handshake, and then does whatever it wants with what it was given.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::ftruncate;
use ringwire::ring::{CLOSED, PADDING};
use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Area, Ordering::Relaxed, Word};
use ringwire::sys::futex_wake;
use ringwire::wire::{Hello, Status};
use zerocopy::IntoBytes;

use super::common::raw::{
    RawPeer, RawWriter, hear_answer, send_with_descriptors, tag, try_send_with_descriptors,
};
use super::common::{Random, say, setting};
use super::scribble::{plausible, scribble};

/// One connection in three is left by the hostile side, after at most so many steps.
const MOST_STEPS: u64 = 3000;

type Step = fn(&mut Attacker);

/// What a round may be, step by step.
pub(super) const ATTACKS: [(&str, Step); 19] = [
    ("noise over the whole segment", Attacker::noise),
    ("noise where it hurts", Attacker::aimed_noise),
    ("plausible words", Attacker::plausible_words),
    ("commit words", Attacker::commit_words),
    ("padding", Attacker::padding),
    ("read positions", Attacker::read_positions),
    ("marks of sleepers", Attacker::marks),
    ("fragments in any order", Attacker::fragments),
    ("unknown kinds", Attacker::kinds),
    ("the end, again and again", Attacker::ends),
    ("a ring that comes round again", Attacker::endless_ring),
    ("a flood over unread records", Attacker::flood),
    ("a flood within the rules", Attacker::polite_flood),
    ("bells without end", Attacker::bells),
    ("silence", Attacker::silence),
    ("reading end closed", Attacker::shut_reading_end),
    ("writing end closed", Attacker::shut_writing_end),
    ("surplus descriptors", Attacker::surplus_descriptors),
    ("holes in the segment", Attacker::holes),
];

/// The second process: `ROUNDS` connections to the victim, one after the other, each mistreated in another way.
pub(super) fn hostile() {
    super::rounds::pin(&setting("CORE"));
    let (first, rounds): (u64, u64) = (setting("FIRST").parse().unwrap(), setting("ROUNDS").parse().unwrap());
    let seed: u64 = setting("SEED").parse().unwrap();
    for round in first..first + rounds {
        let mut attacker = Attacker::connect(Random(super::rounds::round_seed(seed, round)));
        // Every kind in turn; the last turn is everything at once.
        let choice = (round % (ATTACKS.len() as u64 + 1)) as usize;
        // Leaves some time, or goes on until the victim hangs up.
        let leaves_after = attacker.random.below(3 * MOST_STEPS);
        let mut steps = 0;
        while !attacker.is_hung_up() && (steps < leaves_after || leaves_after >= MOST_STEPS) {
            let (_, step) = ATTACKS.get(choice).copied().unwrap_or_else(|| {
                let any = attacker.random.below(ATTACKS.len() as u64);
                ATTACKS[any as usize]
            });
            step(&mut attacker);
            steps += 1;
        }
    }
    say("done");
}

pub(super) struct Attacker {
    peer: RawPeer,
    writer: RawWriter,
    memfd: OwnedFd,
    whole: MmapRaw,
    random: Random,
    /// Descriptors to give away.
    stock: VecDeque<OwnedFd>,
    steps: u32,
}

impl Attacker {
    fn connect(mut random: Random) -> Self {
        let mut socket = UnixStream::connect(setting("SOCKET")).unwrap();
        let ring_bytes = [4096, 4096, 65_536, 1 << 20][random.below(4) as usize];
        let hello = Hello::new(ring_bytes, ring_bytes, random.next());
        if random.below(4) == 0 {
            // The first byte, with descriptors that nobody asked for.
            let (given, _) = nix::unistd::pipe().unwrap();
            send_with_descriptors(&socket, &hello.as_bytes()[..1], &[given.as_raw_fd(); 8]);
            socket.write_all(&hello.as_bytes()[1..]).unwrap();
        } else {
            socket.write_all(hello.as_bytes()).unwrap();
        }
        let (answer, mut descriptors) = hear_answer(&socket);
        assert_eq!(answer.status(), Status::Ok, "{}", answer.reason());
        let layout = Layout::new(answer.to_server_bytes, answer.to_client_bytes).unwrap();
        let memfd = descriptors.swap_remove(0);
        let whole = MmapOptions::new().len(layout.segment_bytes()).map_raw(&memfd).unwrap();
        let segment = Segment::open(&memfd, layout, SegmentOptions::default()).unwrap();
        let peer = RawPeer::new(socket, segment, Direction::ToServer);
        let writer = peer.writer();
        Self { peer, writer, memfd, whole, random, stock: VecDeque::new(), steps: 0 }
    }

    fn is_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(self.peer.lifeline.as_fd(), PollFlags::empty())];
        poll(&mut polled, PollTimeout::ZERO) != Ok(0)
    }

    /// Where the victim reads, as far as it has said so.
    fn read_position(&self) -> u32 {
        self.peer.out.head().load(Relaxed) & !7
    }

    fn begins(&mut self) -> bool {
        self.steps += 1;
        self.steps == 1
    }

    /// Stores a word anywhere in the segment: control words, both areas, and what lies between.
    fn store_anywhere(&mut self, value: u32) {
        let offset = self.random.below(self.whole.len() as u64 / 4) as usize * 4;
        // SAFETY: inside the mapping.
        let address = unsafe { self.whole.as_mut_ptr().add(offset) };
        // SAFETY: as above, and 4-aligned; whoever else maps it reads words, as one does of a process like this one.
        unsafe { address.cast::<u32>().write_volatile(value) };
    }

    fn noise(&mut self) {
        for _ in 0..200 {
            let value = self.random.next() as u32;
            self.store_anywhere(value);
        }
    }

    fn aimed_noise(&mut self) {
        scribble(&mut self.random, &self.peer.out, false);
        scribble(&mut self.random, &self.peer.back, false);
    }

    fn plausible_words(&mut self) {
        scribble(&mut self.random, &self.peer.out, true);
        scribble(&mut self.random, &self.peer.back, true);
        thread::sleep(Duration::from_micros(self.random.below(100)));
    }

    fn commit_words(&mut self) {
        let size = self.peer.out.size();
        let limit = size / 2 - 16;
        let left = size - (self.writer.position & (size - 1));
        let values = [
            1,
            8,
            15,
            16,
            limit,
            limit + 1,
            // Up to the end of the area, and beyond.
            left,
            left + 1,
            left + 8,
            left + 500,
            CLOSED - 1,
            CLOSED + 1,
            u32::MAX,
            PADDING,
            PADDING | left,
        ];
        let value = values[self.random.below(values.len() as u64) as usize];
        // Something before it, sometimes, so that it comes as a surprise.
        if self.random.below(8) > 0 {
            self.polite_flood();
        } else {
            self.writer.commit(value);
        }
    }

    fn padding(&mut self) {
        let area = &self.peer.out;
        match self.random.below(3) {
            // Correct everywhere but at the start, where it would go round for ever.
            0 => {
                for at in (0..area.size()).step_by(8) {
                    area.word(at).store(PADDING | (area.size() - at), Relaxed);
                }
            }
            1 => {
                area.word(self.read_position()).store(PADDING | (8 * self.random.below(600) as u32), Relaxed)
            }
            _ => area.word(0).store(PADDING | (self.random.below(2) as u32 * area.size()), Relaxed),
        }
        self.random_record();
    }

    fn read_positions(&mut self) {
        let head = self.peer.back.head();
        let seen = head.load(Relaxed);
        let value = match self.random.below(6) {
            0 => seen.wrapping_add(8 * self.random.below(200) as u32),
            1 => seen.wrapping_sub(8),
            2 => seen | 1,
            3 => seen | 4,
            4 => self.random.next() as u32,
            _ => self.peer.back.size().wrapping_add(seen),
        };
        head.store(value, Relaxed);
        self.polite_flood();
    }

    fn marks(&mut self) {
        let value = self.random.next() as u32;
        let position = self.read_position();
        let near = plausible(&mut self.random, position);
        self.peer.out.writer_parked().store(if value & 1 == 0 { value } else { near }, Relaxed);
        self.peer.back.reader_parked().store(if value & 2 == 0 { value } else { near }, Relaxed);
        futex_wake(self.peer.out.word(self.read_position()).as_ptr());
        futex_wake(self.peer.back.head().as_ptr());
        self.polite_flood();
    }

    fn fragments(&mut self) {
        let flags = self.random.below(8) as u8;
        if self.writer.has_room(300) {
            let correlation = self.random.below(2);
            let length = self.random.below(200) as usize;
            self.writer.record(flags, correlation, &vec![2; length]);
        }
    }

    fn kinds(&mut self) {
        let kind = if self.random.below(10) == 0 { self.random.next() as u8 } else { 4 };
        if self.writer.has_room(64) {
            self.writer.tagged(tag(kind, 0), 1, &[3; 40]);
        }
    }

    fn ends(&mut self) {
        self.random_record();
        self.peer.out.word(self.read_position()).store(CLOSED, Relaxed);
        let head = self.peer.back.head().load(Relaxed);
        self.peer.back.head().store(head ^ 1, Relaxed);
        thread::sleep(Duration::from_micros(self.random.below(50)));
    }

    /// Equal records without a gap: the reader zeroes nothing, so they never come to an end.
    fn endless_ring(&mut self) {
        if self.begins() {
            let flags = self.random.below(4) as u8;
            for at in (0..self.peer.out.size()).step_by(32) {
                self.peer.out.put_header(at, tag(4, flags), 1);
                self.peer.out.word(at).store(25, Relaxed);
            }
        }
        thread::sleep(Duration::from_micros(500));
    }

    fn flood(&mut self) {
        for _ in 0..20 {
            self.random_record();
        }
    }

    /// As fast as there is room, and reading nothing but saying so.
    fn polite_flood(&mut self) {
        if self.writer.has_room(2000.min(self.peer.out.size() / 4)) {
            let length = self.random.below(900) as usize;
            self.writer.record(0, self.random.next(), &vec![1; length]);
        } else {
            thread::sleep(Duration::from_micros(50));
        }
    }

    fn random_record(&mut self) {
        let length = self.random.below(100) as usize;
        self.writer.record(0, 5, &vec![4; length]);
    }

    fn bells(&mut self) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        for _ in 0..20 {
            let _ = send(self.peer.lifeline.as_raw_fd(), &[1; 100], flags);
        }
    }

    /// Half a message, at most, and nothing more.
    fn silence(&mut self) {
        if self.begins() {
            let flags = self.random.below(2) as u8;
            self.writer.record(flags, 1, b"half of it");
        }
        thread::sleep(Duration::from_millis(1));
    }

    fn shut_reading_end(&mut self) {
        if self.begins() {
            self.peer.lifeline.shutdown(std::net::Shutdown::Read).unwrap();
        }
        self.polite_flood();
    }

    fn shut_writing_end(&mut self) {
        if self.begins() {
            self.peer.lifeline.shutdown(std::net::Shutdown::Write).unwrap();
        }
        self.polite_flood();
    }

    fn surplus_descriptors(&mut self) {
        if self.stock.is_empty() {
            self.stock.extend((0..4).map(|_| self.memfd.try_clone().unwrap()));
        }
        let lifeline = &self.peer.lifeline;
        let raw: Vec<i32> = self.stock.iter().map(AsRawFd::as_raw_fd).chain([lifeline.as_raw_fd()]).collect();
        // Only while the victim takes them in: a full socket would hold up this process.
        let mut polled = [PollFd::new(lifeline.as_fd(), PollFlags::POLLOUT)];
        let has_room = poll(&mut polled, PollTimeout::ZERO) == Ok(1)
            && polled[0].revents().is_some_and(|events| events == PollFlags::POLLOUT);
        if has_room && self.steps < 50 {
            self.steps += 1;
            try_send_with_descriptors(lifeline, b"x", &raw);
        }
        self.polite_flood();
    }

    fn holes(&mut self) {
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let bytes = i64::try_from(self.whole.len()).unwrap();
        let _ = fallocate(&self.memfd, punch, 0, bytes);
        assert!(ftruncate(&self.memfd, 0).is_err(), "the segment is sealed");
        self.polite_flood();
    }
}
