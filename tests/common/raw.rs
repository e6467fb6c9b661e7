//! Peers without the library's manners: a raw client, a raw server, and a raw record writer.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use ringwire::ring::PADDING;
use ringwire::shm::{Direction, Layout, Segment, SegmentOptions};
use ringwire::sync::{Area, NativeArea, Ordering, Word};
use ringwire::wire::{Answer, Features, Hello};
use ringwire::{Kind, Listener, Stream};
use zerocopy::IntoBytes;

/// A peer that has the segment and the lifeline, and does with them what it wants.
pub(crate) struct RawPeer {
    pub(crate) lifeline: UnixStream,
    pub(crate) segment: Arc<Segment>,
    /// The ring that this peer writes.
    pub(crate) out: NativeArea,
    /// The ring that this peer reads.
    pub(crate) back: NativeArea,
}

impl RawPeer {
    pub(crate) fn new(lifeline: UnixStream, segment: Arc<Segment>, writes: Direction) -> Self {
        let (out, back) = (segment.area(writes), segment.area(writes.opposite()));
        Self { lifeline, segment, out, back }
    }

    pub(crate) fn writer(&self) -> RawWriter {
        RawWriter { area: self.out.clone(), position: 0 }
    }

    /// Wakes a reader that listens on the lifeline. One that still sleeps on its word does so for a while only, and looks
    /// again before it listens there.
    pub(crate) fn ring_the_bell(&self) {
        (&self.lifeline).write_all(&[1]).unwrap();
    }

    /// Whether the other side has hung up.
    pub(crate) fn sees_the_end(&mut self) -> bool {
        self.lifeline.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = [0; 64];
        loop {
            match self.lifeline.read(&mut bytes) {
                Ok(0) => return true,
                // Bells.
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

/// Writes records word by word, valid or not. Looks for no room on its own, and wakes nobody.
#[derive(Clone)]
pub(crate) struct RawWriter {
    pub(crate) area: NativeArea,
    pub(crate) position: u32,
}

pub(crate) const MORE: u8 = 1;
pub(crate) const CONTINUED: u8 = 2;
pub(crate) const ABANDONED: u8 = 4;
pub(crate) const EXTENDED: u8 = 8;

impl RawWriter {
    /// A record as the protocol wants it, of an event with these flags.
    pub(crate) fn record(&mut self, flags: u8, correlation: u64, payload: &[u8]) {
        self.tagged(tag(Kind::Event as u8, flags), correlation, payload);
    }

    pub(crate) fn tagged(&mut self, tag: u32, correlation: u64, payload: &[u8]) {
        let length = 16 + payload.len() as u32;
        let padding = self.padding_before(length);
        if padding > 0 {
            self.area.word(0).store(0, Ordering::Relaxed);
            self.commit(PADDING | padding);
            self.position = self.position.wrapping_add(padding);
        }
        let at = self.position & (self.area.size() - 1);
        self.area.put_header(at, tag, correlation);
        self.area.copy_in(at + 16, payload);
        self.area.word(at + length.next_multiple_of(8)).store(0, Ordering::Relaxed);
        self.commit(length);
        self.position = self.position.wrapping_add(length.next_multiple_of(8));
    }

    /// Stores `word` where the reader looks next.
    pub(crate) fn commit(&self, word: u32) {
        self.area.word(self.position).store(word, Ordering::Release);
    }

    /// Whether a record of `bytes`, with the padding that may have to go before it, can be written without running over
    /// what is not read yet.
    pub(crate) fn has_room(&self, bytes: u32) -> bool {
        let head = self.area.head().load(Ordering::Acquire) & !7;
        let needed = u64::from(bytes) + u64::from(self.padding_before(bytes)) + 8;
        u64::from(self.position.wrapping_sub(head)) + needed <= u64::from(self.area.size())
    }

    /// What is left of the area, where a record of `bytes` does not fit there any more.
    fn padding_before(&self, bytes: u32) -> u32 {
        let left = self.area.size() - (self.position & (self.area.size() - 1));
        if bytes.next_multiple_of(8) > left { left } else { 0 }
    }
}

pub(crate) fn tag(kind: u8, flags: u8) -> u32 {
    u32::from_ne_bytes([kind, flags, 1, 0])
}

/// What comes back for the bytes of a `Hello`, with the descriptors that came along.
pub(crate) fn greet(socket: &mut UnixStream, hello: &[u8]) -> (Answer, Vec<OwnedFd>) {
    socket.write_all(hello).unwrap();
    hear_answer(socket)
}

pub(crate) fn hear_answer(socket: &UnixStream) -> (Answer, Vec<OwnedFd>) {
    hear_if_any(socket).expect("the server hung up without an answer")
}

/// `None` if the server hangs up instead.
pub(crate) fn hear_if_any(socket: &UnixStream) -> Option<(Answer, Vec<OwnedFd>)> {
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        if let Some(answer) = Answer::parse(&bytes).unwrap() {
            return Some((answer, descriptors));
        }
        let mut buffer = [0; 4096];
        let mut control = nix::cmsg_space!([RawFd; 8]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(nix::errno::Errno::ECONNRESET) => return None,
            other => other.unwrap(),
        };
        let count = message.bytes;
        if count == 0 {
            return None;
        }
        for part in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just made these descriptors for this process.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}

/// A connection accepted by `listener` whose client is raw.
pub(crate) fn raw_client(listener: &mut Listener, ring_bytes: u32) -> (Stream, RawPeer) {
    raw_client_saying(listener, Hello::new(ring_bytes, ring_bytes, 10 << 20))
}

/// As [`raw_client`], with this greeting.
pub(crate) fn raw_client_saying(listener: &mut Listener, hello: Hello) -> (Stream, RawPeer) {
    let path = listener.path().to_owned();
    let client = thread::spawn(move || {
        let mut socket = UnixStream::connect(path).unwrap();
        let (answer, descriptors) = greet(&mut socket, hello.as_bytes());
        let layout = Layout::new(answer.to_server_bytes, answer.to_client_bytes).unwrap();
        let segment = Segment::open(&descriptors[0], layout, SegmentOptions::default()).unwrap();
        RawPeer::new(socket, segment, Direction::ToServer)
    });
    let stream = listener.accept().unwrap();
    (stream, client.join().unwrap())
}

/// A connected client whose server, at `path`, is raw.
pub(crate) fn raw_server(path: &Path, ring_bytes: u32) -> (Stream, RawPeer) {
    let listener = UnixListener::bind(path).unwrap();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        read_hello(&mut socket);
        let layout = Layout::new(ring_bytes, ring_bytes).unwrap();
        let (segment, descriptor) = Segment::create(layout, SegmentOptions::default()).unwrap();
        let answer = Answer::welcome(1, Features::SUPPORTED, [ring_bytes, ring_bytes], 10 << 20);
        send_with_descriptors(&socket, answer.as_bytes(), &[descriptor.as_raw_fd()]);
        RawPeer::new(socket, segment, Direction::ToClient)
    });
    let stream = Stream::connect(path).unwrap();
    (stream, server.join().unwrap())
}

pub(crate) fn read_hello(socket: &mut UnixStream) -> Hello {
    let mut bytes = [0; size_of::<Hello>()];
    socket.read_exact(&mut bytes).unwrap();
    Hello::parse(&bytes).unwrap().unwrap()
}

pub(crate) fn send_with_descriptors(socket: &UnixStream, bytes: &[u8], descriptors: &[RawFd]) {
    assert!(try_send_with_descriptors(socket, bytes, descriptors));
}

/// The same to a socket that may be hung up or full; says whether it took them.
pub(crate) fn try_send_with_descriptors(socket: &UnixStream, bytes: &[u8], descriptors: &[RawFd]) -> bool {
    let parts = [IoSlice::new(bytes)];
    let control = [ControlMessage::ScmRights(descriptors)];
    sendmsg::<()>(socket.as_raw_fd(), &parts, &control, MsgFlags::MSG_NOSIGNAL, None).is_ok()
}
