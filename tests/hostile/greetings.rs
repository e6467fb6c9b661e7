//! Greetings of every wrong kind against a listener, while a good client connects throughout.
//!
//! `RINGWIRE_HOSTILE_HANDSHAKES` says how many (2,000 by default, 100,000 in the full form), `RINGWIRE_HOSTILE_SEED` which.

use std::collections::VecDeque;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringwire::sync::Counter;
use ringwire::wire::{Hello, Status};
use ringwire::{Header, Kind, Listener, Stream};
use zerocopy::IntoBytes;

use super::common::raw::{hear_if_any, try_send_with_descriptors};
use super::common::{
    PATIENCE, Random, Watchdog, comes_true, descriptors, say, second, segments, setting, told,
};
use super::rounds::{number, round_seed, seed};
use super::victim::resident_kib;

/// Stalled greetings at once: fewer than the listener keeps.
const MOST_STALLED: usize = 64;
/// What the listener may have grown by in the end.
const MOST_GROWTH_KIB: u64 = 4 << 10;

/// What a client does once it has said what it has to say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Hear,
    /// Says that nothing follows, and hears.
    EndAndHear,
    Leave,
    Stall,
}

/// A greeting: what is sent, how, and what must come back.
#[derive(Debug)]
struct Greeting {
    bytes: Vec<u8>,
    /// Where it is cut into pieces, each sent with this many descriptors.
    cuts: Vec<usize>,
    descriptors: usize,
    pause: Duration,
    then: Then,
}

impl Greeting {
    fn good(random: &mut Random) -> Self {
        let mut hello = Hello::new(random.next() as u32, random.next() as u32, random.next());
        hello.features = random.next();
        let bytes = hello.as_bytes().to_vec();
        Self { bytes, cuts: Vec::new(), descriptors: 0, pause: Duration::ZERO, then: Then::Hear }
    }

    fn mutated(random: &mut Random) -> Self {
        let mut greeting = Self::good(random);
        // One thing that is wrong, or two.
        for _ in 0..1 + random.below(2) {
            greeting.mutate(random);
        }
        greeting
    }

    fn mutate(&mut self, random: &mut Random) {
        let length = self.bytes.len() as u64;
        match random.below(14) {
            0 => {
                self.bytes.truncate(random.below(length + 1) as usize);
                self.then = [Then::Leave, Then::EndAndHear][random.below(2) as usize];
            }
            1 if random.below(3) == 0 => {
                self.bytes.truncate(random.below(length + 1) as usize);
                self.then = Then::Stall;
            }
            2 => self.grow(random),
            3 => self.put(8, &(random.below(5000) as u32).to_ne_bytes()),
            4 => self.put(random.below(8) as usize, &[random.next() as u8]),
            5 => self.put(8, &(random.next() as u32).to_ne_bytes()),
            6 => self.put(12, &(random.next() as u32 & 0x0003_0003).to_ne_bytes()),
            7 => self.put(12, &(random.next() as u32).to_ne_bytes()),
            8 => self.descriptors = [1, 4, 5, 200][random.below(4) as usize],
            9 if random.below(3) == 0 => {
                self.pause = Duration::from_micros(random.below(300));
                self.cuts = (1..self.bytes.len().min(60)).collect();
            }
            10 => self.bytes.extend((0..random.below(5000)).map(|_| random.next() as u8)),
            11 => self.bytes = (0..random.below(5000)).map(|_| random.next() as u8).collect(),
            12 => {
                for _ in 0..1 + random.below(8) {
                    let at = random.below(self.bytes.len().max(1) as u64) as usize;
                    let bit = 1 << random.below(8);
                    if let Some(byte) = self.bytes.get_mut(at) {
                        *byte ^= bit;
                    }
                }
            }
            _ => self.then = [Then::EndAndHear, Then::Leave, Then::Hear][random.below(3) as usize],
        }
        if random.below(4) == 0 && self.cuts.is_empty() {
            self.cuts = (0..4).map(|_| random.below(self.bytes.len() as u64 + 1) as usize).collect();
            self.cuts.sort_unstable();
        }
    }

    /// As a later version might: longer, and whole.
    fn grow(&mut self, random: &mut Random) {
        let more = random.below(4100) as usize;
        let bytes = self.bytes.len() + more;
        self.bytes.resize(bytes, random.next() as u8);
        self.put(8, &(bytes as u32).to_ne_bytes());
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(target) = self.bytes.get_mut(at..at + bytes.len()) {
            target.copy_from_slice(bytes);
        }
    }

    /// What may come back: `None` is a hang-up without a word.
    fn answers(&self) -> Vec<Option<Status>> {
        match (Hello::parse(&self.bytes), self.then) {
            (Err(_), _) => vec![Some(Status::InvalidArgument)],
            (Ok(Some(hello)), _) if hello.common_version().is_some() => vec![Some(Status::Ok)],
            (Ok(Some(_)), _) => vec![Some(Status::VersionMismatch)],
            (Ok(None), Then::EndAndHear) => vec![Some(Status::Cancelled), None],
            (Ok(None), _) => vec![Some(Status::DeadlineExceeded)],
        }
    }

    /// Sends it all, or until the server has heard enough.
    fn send(&self, socket: &mut UnixStream) {
        let given = vec![socket.as_raw_fd(); self.descriptors];
        let ends = self.cuts.iter().copied().filter(|cut| *cut <= self.bytes.len()).chain([self.bytes.len()]);
        let mut start = 0;
        for end in ends {
            let piece = &self.bytes[start..end];
            let sent = send_piece(socket, piece, &given);
            if !sent {
                break;
            }
            start = end;
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
        if self.then == Then::EndAndHear {
            let _ = socket.shutdown(Shutdown::Write);
        }
    }
}

fn send_piece(socket: &mut UnixStream, piece: &[u8], descriptors: &[RawFd]) -> bool {
    if descriptors.is_empty() || piece.is_empty() {
        socket.write_all(piece).is_ok()
    } else {
        try_send_with_descriptors(socket, piece, descriptors)
    }
}

fn check_answer(socket: &UnixStream, greeting: &Greeting, name: &str) -> Status {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let heard = hear_if_any(socket);
    let status = heard.as_ref().map(|(answer, _)| answer.status());
    assert!(greeting.answers().contains(&status), "{name}: {status:?} to {greeting:?}");
    if let Some((answer, descriptors)) = heard {
        assert_eq!(descriptors.len(), usize::from(answer.status() == Status::Ok), "{name}: {greeting:?}");
    }
    status.unwrap_or(Status::Cancelled)
}

/// The second process that greets.
pub(super) fn greeter() {
    let seed: u64 = setting("SEED").parse().unwrap();
    let count: u64 = setting("COUNT").parse().unwrap();
    let mut stalled = VecDeque::new();
    let (mut welcomes, mut late, mut refusals, mut left) = (0u64, 0u64, 0u64, 0u64);
    let mut hear =
        |socket: &UnixStream, greeting: &Greeting, name: &str| match check_answer(socket, greeting, name) {
            Status::Ok => welcomes += 1,
            Status::DeadlineExceeded => late += 1,
            _ => refusals += 1,
        };
    for index in 0..count {
        let greeting = Greeting::mutated(&mut Random(round_seed(seed, index)));
        let name = format!("greeting {index} of seed {seed}");
        let mut socket = UnixStream::connect(setting("SOCKET")).unwrap();
        let started = Instant::now();
        greeting.send(&mut socket);
        if started.elapsed() > Duration::from_millis(500) {
            // This process was stopped meanwhile: whether the server waited long enough is not the question.
            continue;
        }
        let is_whole = Hello::parse(&greeting.bytes) != Ok(None);
        match greeting.then {
            Then::Leave => left += 1,
            Then::EndAndHear => hear(&socket, &greeting, &name),
            _ if is_whole => hear(&socket, &greeting, &name),
            _ => stalled.push_back((socket, greeting, name)),
        }
        while stalled.len() > if index + 1 < count { MOST_STALLED } else { 0 } {
            let (socket, greeting, name) = stalled.pop_front().unwrap();
            hear(&socket, &greeting, &name);
        }
    }
    say(&format!(
        "{count} greetings: {welcomes} welcome after all, {refusals} refused, {late} dropped as too slow, {left} gone at once"
    ));
}

/// The second process that is greeted: serves the one message of each client of process `GOOD`, and nobody else.
pub(super) fn door() {
    let mut listener = Listener::bind(setting("SOCKET")).unwrap();
    let good: i32 = setting("GOOD").parse().unwrap();
    let over = Arc::new(Counter::new(0));
    let listening = Arc::clone(&over);
    thread::spawn(move || {
        told();
        listening.add(1);
    });
    let id = std::process::id();
    // The listener's own thread and buffers are there once it has taken somebody in.
    say("bound");
    let (mut served, mut others, mut before) = (0u64, 0u64, None);
    while over.get() == 0 {
        let Ok(mut stream) = listener.accept_timeout(Duration::from_millis(50)) else { continue };
        if stream.peer().pid == good {
            let message = stream.receive().unwrap();
            let (header, payload) = (message.header(), message.payload().to_vec());
            drop(message);
            stream.send(header, &payload).unwrap();
            served += 1;
        } else {
            others += 1;
        }
        drop(stream);
        if before.is_none() && others > 100 {
            before = Some(resident_kib("VmRSS:"));
        }
    }
    let grown = resident_kib("VmRSS:").saturating_sub(before.unwrap());
    assert!(comes_true(Duration::from_secs(20), || {
        // The last that stall have their second.
        let _ = listener.accept_timeout(Duration::from_millis(20));
        listener.connections() == 0 && segments(id) == 0
    }));
    say(&format!("{served} {others} {grown} {}", descriptors(id)));
}

#[test]
fn mutated_greetings_are_refused_and_hold_up_no_good_client() {
    let count = number("RINGWIRE_HOSTILE_HANDSHAKES", 2000);
    let patience = 60 + count / 100;
    let _watchdog = Watchdog::lasting(Duration::from_secs(patience));
    let (seed, patience, count) = (seed().to_string(), patience.to_string(), count.to_string());
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s.sock");
    let good = std::process::id().to_string();
    let settings = [
        ("SOCKET", socket.to_str().unwrap()),
        ("SEED", &*seed),
        ("COUNT", &*count),
        ("GOOD", &*good),
        (PATIENCE, &*patience),
    ];
    let mut door = second("door", &settings);
    assert_eq!(door.hear(), "bound");
    let mut greeter = second("greeter", &settings);
    let over = Counter::new(0);
    let (connected, worst, said) = thread::scope(|scope| {
        let good = scope.spawn(|| connect_again_and_again(&socket, &over));
        let said = greeter.hear();
        over.add(1);
        let (connected, worst) = good.join().unwrap();
        (connected, worst, said)
    });
    greeter.join();
    door.tell("");
    let end: Vec<u64> = door.hear().split(' ').map(|word| word.parse().unwrap()).collect();
    door.join();
    println!(
        "{said}; {connected} good clients between them, the slowest served within {worst:?}; the listener has grown by {} KiB",
        end[2]
    );
    assert_eq!(end[0], connected, "good clients, served and connected");
    assert!(end[2] < MOST_GROWTH_KIB, "grown by {} KiB", end[2]);
    // Standard streams, socket, lock, the spare one.
    assert!(end[3] < 12, "{} descriptors in the end", end[3]);
}

/// A good client, over and over: how often, and how long the slowest took to connect and be answered.
fn connect_again_and_again(path: &std::path::Path, over: &Counter) -> (u64, Duration) {
    let (mut count, mut worst) = (0, Duration::ZERO);
    while over.get() == 0 {
        let started = Instant::now();
        let mut client = Stream::builder(path).timeout(Duration::from_secs(30)).connect().unwrap();
        client.send(Header::new(Kind::Request, 1, count), b"good day").unwrap();
        assert_eq!(client.receive().unwrap().payload().to_vec(), b"good day");
        worst = worst.max(started.elapsed());
        count += 1;
        thread::sleep(Duration::from_millis(2));
    }
    (count, worst)
}
