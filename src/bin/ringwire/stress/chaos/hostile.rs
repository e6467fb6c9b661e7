//! A client without the library's manners: it speaks the handshake, right or wrong, and does with the segment what it
//! wants.

use std::error::Error;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use ringwire::Kind;
use ringwire::ring::{CLOSED, PADDING};
use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Area, NativeArea, Ordering, Word};
use ringwire::sys::receive_with_descriptor;
use ringwire::wire::{Answer, Hello};
use zerocopy::IntoBytes;

use super::super::random::Random;

const RING_BYTES: [u32; 3] = [4 << 10, 64 << 10, 1 << 20];
/// An answer to a hello comes within this, however busy the server.
const PATIENCE_MS: u16 = 5000;

/// A connection in the wrong hands.
pub struct Hostile {
    socket: UnixStream,
    memory: File,
    segment: Arc<Segment>,
    /// The ring that it should write.
    out: NativeArea,
    /// The ring that it should only read.
    back: NativeArea,
    position: u32,
}

impl Hostile {
    /// Says a proper hello; `None` if the server does not want another client.
    pub fn connect(socket: &Path, random: &mut Random) -> Result<Option<Self>, Box<dyn Error>> {
        let mut socket = UnixStream::connect(socket)?;
        let ring_bytes = random.one_of(&RING_BYTES);
        socket.write_all(Hello::new(ring_bytes, ring_bytes, random.next()).as_bytes())?;
        let (mut bytes, mut memory) = (Vec::new(), None);
        let answer = loop {
            if let Some(answer) = Answer::parse(&bytes)? {
                break answer;
            }
            let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut polled, PollTimeout::from(PATIENCE_MS))? == 0 {
                return Err("the server does not answer a hello".into());
            }
            let mut buffer = [0; 512];
            let received = receive_with_descriptor(socket.as_fd(), &mut buffer)?;
            if received.bytes == 0 {
                return Ok(None);
            }
            memory = memory.or(received.descriptor);
            bytes.extend_from_slice(&buffer[..received.bytes]);
        };
        let Some(memory) = memory else { return Ok(None) };
        let layout = Layout::new(answer.to_server_bytes, answer.to_client_bytes)?;
        let segment = Segment::open(&memory, layout, SegmentOptions::default())?;
        let (out, back) = (segment.area(Direction::ToServer), segment.area(Direction::ToClient));
        Ok(Some(Self { socket, memory: File::from(memory), segment, out, back, position: 0 }))
    }

    /// Whether the server has hung up.
    pub fn is_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        poll(&mut polled, PollTimeout::ZERO) != Ok(0)
    }

    /// Something that no client does.
    pub fn misbehave(&mut self, random: &mut Random) -> Result<(), Box<dyn Error>> {
        match random.below(7) {
            0 => self.noise(random)?,
            1 => {
                // The word that the server looks at next.
                let head = self.out.head().load(Ordering::Relaxed) & !7;
                let value = plausible(random, head);
                self.out.word(head).store(value, Ordering::Release);
            }
            2 => {
                let area = if random.below(2) == 0 { &self.out } else { &self.back };
                let value = plausible(random, area.head().load(Ordering::Relaxed));
                match random.below(3) {
                    0 => area.head().store(value, Ordering::Release),
                    1 => area.reader_parked().store(value, Ordering::Release),
                    _ => area.writer_parked().store(value, Ordering::Release),
                }
            }
            3 => {
                // Fragments in any order, kinds of any number, correlations of anybody.
                let (kind, flags) = (random.below(14) as u8, random.below(16) as u8);
                let bytes = random.below(200) as usize;
                self.write(kind, flags, random.next(), &vec![7; bytes]);
            }
            4 => self.request(random),
            5 => {
                // Bells, some with descriptors that nobody asked for.
                let bytes = [IoSlice::new(&[0; 16])];
                let given = [self.memory.as_raw_fd(); 3];
                let control = [ControlMessage::ScmRights(&given)];
                let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                // Full or hung up: as well.
                let _ = sendmsg::<()>(self.socket.as_raw_fd(), &bytes, &control, flags, None);
            }
            _ => {
                let slot = random.below(64) as usize;
                self.segment.cancel_word(slot).store(random.next() as u32, Ordering::Relaxed);
            }
        }
        self.ring_the_bell();
        Ok(())
    }

    /// Random bytes anywhere, through the file: nothing of it is mapped by Rust's rules.
    fn noise(&self, random: &mut Random) -> Result<(), Box<dyn Error>> {
        let size = self.segment.layout().segment_bytes() as u64;
        let mut bytes = vec![0; random.between(1, 4096) as usize];
        random.fill(&mut bytes);
        let offset = random.below(size);
        // Not beyond the end, where the seals refuse it.
        bytes.truncate(usize::try_from(size - offset)?);
        self.memory.write_all_at(&bytes, offset)?;
        Ok(())
    }

    /// A request in good order, of a size that the server has to send as much for.
    pub fn request(&mut self, random: &mut Random) {
        let bytes = random.between(1, 1000) as usize;
        self.write(Kind::Request as u8, 0, random.next(), &vec![1; bytes]);
    }

    fn write(&mut self, kind: u8, flags: u8, correlation: u64, payload: &[u8]) {
        let size = self.out.size();
        let length = 16 + payload.len() as u32;
        let left = size - (self.position & (size - 1));
        if length.next_multiple_of(8) > left {
            self.out.word(0).store(0, Ordering::Relaxed);
            self.out.word(self.position).store(PADDING | left, Ordering::Release);
            self.position = self.position.wrapping_add(left);
        }
        let at = self.position & (size - 1);
        self.out.put_header(at, u32::from_ne_bytes([kind, flags, 1, 0]), correlation);
        self.out.copy_in(at + 16, payload);
        self.out.word(at + length.next_multiple_of(8)).store(0, Ordering::Relaxed);
        self.out.word(at).store(length, Ordering::Release);
        self.position = self.position.wrapping_add(length.next_multiple_of(8));
    }

    /// Whether a record fits without running over what the server has not read.
    pub fn has_room(&self) -> bool {
        let head = self.out.head().load(Ordering::Acquire) & !7;
        self.position.wrapping_sub(head).saturating_add(3000) < self.out.size()
    }

    /// Wakes a server that sleeps on the lifeline.
    pub fn ring_the_bell(&mut self) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&[0])], &[], flags, None);
    }
}

/// Values that get further than most.
fn plausible(random: &mut Random, near: u32) -> u32 {
    match random.below(8) {
        0 => 0,
        1 => 16 + random.below(200) as u32,
        2 => CLOSED,
        3 => PADDING | (8 * random.below(513) as u32),
        4 => near.wrapping_add(8 * random.below(64) as u32),
        5 => near.wrapping_sub(8 * random.below(4) as u32),
        6 => near ^ (1 << random.below(4)),
        _ => random.next() as u32,
    }
}

/// A hello that is none, or half of one; what was begun may be held on to.
pub fn wrong_hello(socket: &Path, random: &mut Random) -> Result<UnixStream, Box<dyn Error>> {
    let mut socket = UnixStream::connect(socket)?;
    socket.set_nonblocking(true)?;
    let mut hello = Hello::new(random.next() as u32, random.next() as u32, random.next());
    match random.below(6) {
        0 => hello.magic = *b"ringwirf",
        1 => hello.struct_bytes = random.next() as u32,
        2 => (hello.version_oldest, hello.version) = (random.next() as u16, random.next() as u16),
        3 => hello.features = random.next(),
        4 => hello = hello.with_latency_core(random.next() as u32),
        _ => {}
    }
    let mut bytes = hello.as_bytes().to_vec();
    match random.below(4) {
        0 => random.fill(&mut bytes),
        1 => bytes.truncate(random.below(48) as usize),
        2 => bytes.extend_from_slice(&[random.next() as u8; 5000]),
        _ => {}
    }
    // The server may hang up in the middle of it.
    let _ = socket.write_all(&bytes);
    Ok(socket)
}
