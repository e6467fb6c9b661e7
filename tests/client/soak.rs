//! Whatever a caller does, in whatever order its server answers: each answer is the right one, nothing is lost, and every
//! slot is free in the end. Rounds: 1,500 for each size of ring, or `RINGWIRE_SOAK_ROUNDS`.

use std::collections::HashMap;
use std::time::Duration;
use std::{env, thread};

use ringwire::wire::Status;
use ringwire::{Client, Error, ErrorKind, Kind, Ticket};

use crate::WORK;
use crate::common::{Random, assert_bytes, bytes};
use crate::peer::{Asked, Peer, any, once, pair};

const EVENT: u16 = 9;

/// What a request asks for, and how its caller knows the answer.
#[derive(Clone, Copy, Debug)]
struct Wish {
    number: u64,
    size: usize,
    fails: bool,
}

impl Wish {
    fn random(random: &mut Random, number: u64) -> Self {
        let size = match random.below(10) {
            0 => random.below(60_000),
            1..4 => random.below(3_000),
            _ => random.below(100),
        };
        Self { number, size: size as usize, fails: random.below(10) == 0 }
    }

    /// The wish, in a request that may be long itself.
    fn request(&self, random: &mut Random) -> Vec<u8> {
        let mut request = [self.number, self.size as u64, self.fails.into()].map(u64::to_ne_bytes).concat();
        let padding = if random.below(10) == 0 { 40_000 } else { 50 };
        request.resize(request.len() + random.below(padding) as usize, 0);
        request
    }

    fn of(asked: &Asked) -> Self {
        let word = |at: usize| u64::from_ne_bytes(asked.payload[at * 8..at * 8 + 8].try_into().unwrap());
        Self { number: word(0), size: word(1) as usize, fails: word(2) != 0 }
    }

    fn check(&self, answer: Result<Vec<u8>, Error>) {
        match answer {
            Ok(answer) => {
                assert!(!self.fails);
                assert_bytes(&answer, &bytes(self.number, self.size), "an answer");
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => {
                assert_eq!((error.status(), self.fails), (Some(Status::Aborted), true), "{error}");
                assert_eq!(error.to_string(), self.number.to_string());
            }
        }
    }
}

/// Answers now or later, in any order, with events in between.
fn serve(mut peer: Peer, mut random: Random) {
    let (mut waiting, mut events) = (Vec::<Asked>::new(), 0_u64);
    loop {
        let wait = waiting.is_empty() || random.below(3) == 0;
        if !wait || waiting.len() > 40 {
            let asked = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
            answer(&mut peer, &asked, &mut random);
            if random.below(4) == 0 {
                peer.event(EVENT, &events.to_ne_bytes());
                events += 1;
            }
            continue;
        }
        let patience = (!waiting.is_empty()).then_some(Duration::from_micros(200));
        peer.stream.set_receive_timeout(patience);
        match peer.try_next() {
            Ok(asked) if asked.header.kind == Kind::Request => waiting.push(asked),
            Ok(asked) => assert_eq!(asked.header.kind, Kind::Event),
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => return assert_eq!(error.kind(), ErrorKind::PeerClosed),
        }
    }
}

fn answer(peer: &mut Peer, asked: &Asked, random: &mut Random) {
    let wish = Wish::of(asked);
    let payload = bytes(wish.number, wish.size);
    if wish.fails {
        return peer.fail(asked, Status::Aborted, &wish.number.to_string());
    }
    if asked.header.message_type == WORK {
        return peer.respond(asked, &payload);
    }
    let cancellations = peer.stream.cancellations();
    for piece in payload.chunks(1 + random.below(9_000) as usize) {
        if cancellations.of(asked.header.correlation).is_cancelled() {
            return peer.end(asked, Status::Cancelled);
        }
        peer.item(asked, piece);
    }
    peer.end(asked, Status::Ok);
}

struct Caller {
    client: Client,
    random: Random,
    open: HashMap<Ticket, Wish>,
    asked: u64,
    events: u64,
}

impl Caller {
    fn wish(&mut self) -> (Wish, Vec<u8>) {
        self.asked += 1;
        let wish = Wish::random(&mut self.random, self.asked);
        let request = wish.request(&mut self.random);
        (wish, request)
    }

    fn take_events(&mut self) {
        while let Some(event) = self.client.try_event().unwrap() {
            assert_eq!((event.message_type(), event.read::<u64>().unwrap()), (EVENT, self.events));
            self.events += 1;
        }
    }

    /// What to do where something is full.
    fn make_room(&mut self, error: &Error) {
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
        if error.to_string().contains("events") {
            self.take_events();
        } else {
            self.collect_some(usize::MAX);
        }
    }

    fn collect_some(&mut self, count: usize) {
        let mut tickets: Vec<Ticket> = self.open.keys().copied().collect();
        tickets.sort_unstable();
        for _ in 0..count.min(tickets.len()) {
            let ticket = tickets.swap_remove(self.random.below(tickets.len() as u64) as usize);
            let answer = self.client.collect(ticket).map(|reply| reply.to_vec());
            match answer {
                Err(error) if error.kind() == ErrorKind::ResourceExhausted => {
                    if error.to_string().contains("events") {
                        self.take_events();
                    }
                }
                answer => self.open.remove(&ticket).unwrap().check(answer),
            }
        }
    }

    fn submit(&mut self) {
        let (wish, request) = self.wish();
        let mut call = self.client.request(WORK);
        if self.random.below(5) == 0 {
            call = call.deadline(Duration::from_micros(self.random.below(2_000)));
        }
        match call.submit(&request) {
            Ok(ticket) => assert!(self.open.insert(ticket, wish).is_none()),
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => self.make_room(&error),
        }
    }

    fn call(&mut self) {
        let (wish, request) = self.wish();
        let mut call = self.client.request(WORK);
        if self.random.below(4) == 0 {
            call = call.deadline(Duration::from_micros(self.random.below(2_000)));
        }
        let answer = if self.random.below(2) == 0 {
            call.call(&request).map(|reply| reply.to_vec())
        } else {
            let mut buffer = b"old".to_vec();
            call.call_into(&request, &mut buffer).map(|_| buffer)
        };
        match answer {
            Err(error) if error.kind() == ErrorKind::ResourceExhausted => self.make_room(&error),
            answer => wish.check(answer),
        }
    }

    fn stream(&mut self) {
        let (wish, request) = self.wish();
        let taken = self.random.below(12) as usize;
        let items = self.client.call_streaming(WORK + 1, &request);
        let pieces = items.and_then(|items| items.take(taken).collect::<Result<Vec<_>, _>>());
        match pieces.map(|pieces| pieces.concat()) {
            Err(error) if error.kind() == ErrorKind::ResourceExhausted => self.make_room(&error),
            Ok(start) => assert!(bytes(wish.number, wish.size).starts_with(&start)),
            answer => wish.check(answer),
        }
    }

    fn turn(&mut self) {
        match self.random.below(12) {
            0..5 => self.submit(),
            5 | 6 => self.call(),
            7 => self.stream(),
            8 => self.collect_some(3),
            9 => {
                if let Some((ticket, reply)) = self.client.collect_any().ok().flatten() {
                    let answer = reply.map(|reply| reply.to_vec());
                    self.open.remove(&ticket).unwrap().check(answer);
                }
            }
            10 => {
                let ticket = self.open.keys().next().copied();
                if let Some(ticket) = ticket {
                    self.client.give_up(ticket).unwrap();
                    self.open.remove(&ticket);
                }
            }
            _ => {
                self.take_events();
                if let Err(error) = self.client.notify(WORK, b"by the way") {
                    self.make_room(&error);
                }
            }
        }
    }
}

#[test]
fn every_answer_finds_its_caller() {
    let rounds = env::var("RINGWIRE_SOAK_ROUNDS").map_or(1_500, |text| text.parse().unwrap());
    for (seed, ring_bytes) in [(1, 4 << 10), (2, 64 << 10), (3, 16 << 10)] {
        let (stream, peer) = pair(ring_bytes);
        let client = any().events_capacity(8).max_message_bytes(400_000).over(stream);
        once(
            (client, peer),
            |peer| serve(peer, Random(seed + 100)),
            |client| {
                let open = HashMap::new();
                let mut caller = Caller { client, random: Random(seed), open, asked: 0, events: 0 };
                for _ in 0..rounds {
                    caller.turn();
                }
                while !caller.open.is_empty() {
                    caller.collect_some(usize::MAX);
                    caller.take_events();
                }
                while caller.client.in_flight() > 0 {
                    caller.take_events();
                    thread::sleep(Duration::from_micros(100));
                }
            },
        );
    }
}
