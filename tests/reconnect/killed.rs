//! A server that is killed and started again, a hundred times, under load.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use ringwire::client::ReconnectingClient;
use ringwire::client::reconnect::Ticket;
use ringwire::server::Server;
use ringwire::sync::Counter;
use ringwire::transport::Deadline;
use ringwire::{Error, ErrorKind};

use crate::common::{Random, Second, Watchdog, say, second, setting};

const PATH: &str = "RINGWIRE_TEST_PATH";
const NUMBER: &str = "RINGWIRE_TEST_SERVER";
const EXECUTED: &str = "RINGWIRE_TEST_EXECUTED";

const KILLS: u64 = 100;
/// Answers with what it is asked.
const ECHO: u16 = 7;
/// The same, and it is written down that it was executed.
const ONCE: u16 = 8;

/// What server `server` answers to request `sequence`.
fn answer(server: u64, sequence: u64) -> Vec<u8> {
    let mut random = Random(server << 32 | sequence | 1 << 63);
    let words = 2 + sequence % 60;
    let content = (2..words).flat_map(|_| random.next().to_ne_bytes());
    [server.to_ne_bytes(), sequence.to_ne_bytes()].concat().into_iter().chain(content).collect()
}

pub(crate) fn server() {
    let (path, number) = (PathBuf::from(setting(PATH)), setting(NUMBER).parse().unwrap());
    let executed = OpenOptions::new().append(true).open(setting(EXECUTED)).unwrap();
    let sequence_of = |payload: ringwire::Payload<'_>| payload.read_at::<u64>(0).unwrap();
    let server = Server::builder(&path)
        .handle(ECHO, move |request, reply| reply.send(&answer(number, sequence_of(request.payload()))))
        .handle(ONCE, move |request, reply| {
            let sequence = sequence_of(request.payload());
            // In the file whatever becomes of this process.
            (&executed).write_all(&sequence.to_ne_bytes())?;
            reply.send(&answer(number, sequence))
        })
        .build()
        .unwrap();
    say(&Deadline::now_ns().to_string());
    server.serve().unwrap();
}

/// What became of the requests.
#[derive(Debug, Default)]
struct Tally {
    asked: u64,
    answered: u64,
    lost: u64,
    /// Those of `ONCE`.
    answered_once: HashSet<u64>,
    lost_once: HashSet<u64>,
}

struct Load<'a> {
    client: ReconnectingClient,
    tally: Tally,
    /// Which server each connection goes to.
    servers: HashMap<u64, u64>,
    random: Random,
    /// Told the first good answer of each server.
    recovered: Sender<(u64, u64)>,
    answered: &'a Counter,
    old_tickets: Vec<Ticket>,
}

impl Load<'_> {
    fn next(&mut self) -> (u64, [u8; 8]) {
        self.tally.asked += 1;
        (self.tally.asked, self.tally.asked.to_ne_bytes())
    }

    /// An answer that came on a connection of this generation.
    fn check(&mut self, generation: u64, sequence: u64, found: &[u8]) {
        let server = u64::from_ne_bytes(*found.first_chunk().unwrap());
        assert_eq!(found, answer(server, sequence), "server {server}, request {sequence}");
        let (recovered, last) = (&self.recovered, self.servers.values().max().copied().unwrap_or(0));
        let expected = *self.servers.entry(generation).or_insert_with(|| {
            assert!(server >= last, "a connection to a server that was killed before");
            let _ = recovered.send((server, Deadline::now_ns()));
            server
        });
        assert_eq!(server, expected, "an answer of another connection than {generation}");
        self.tally.answered += 1;
        self.answered.set(self.tally.answered);
    }

    fn lost(&mut self, error: &Error) {
        assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
        assert_eq!(error.may_have_executed(), Some(true), "{error}");
        self.tally.lost += 1;
    }

    fn round(&mut self) {
        let mut tickets = HashMap::new();
        for _ in 0..self.random.below(12) {
            let (sequence, request) = self.next();
            tickets.insert(self.client.submit(ECHO, &request).unwrap(), sequence);
        }
        let (sequence, request) = self.next();
        let reply = self.client.call_idempotent(ECHO, &request).unwrap().to_vec();
        self.check(self.client.generation(), sequence, &reply);
        let (sequence, request) = self.next();
        match self.client.call(ONCE, &request).map(|reply| reply.to_vec()) {
            Ok(reply) => {
                self.check(self.client.generation(), sequence, &reply);
                self.tally.answered_once.insert(sequence);
            }
            Err(error) => {
                self.lost(&error);
                self.tally.lost_once.insert(sequence);
            }
        }
        let mut order: Vec<_> = tickets.keys().copied().collect();
        order.sort();
        for ticket in order.into_iter().step_by(2) {
            let reply = self.client.collect(ticket).map(|reply| reply.to_vec());
            self.collected(ticket, tickets.remove(&ticket).unwrap(), reply);
        }
        loop {
            let any = self.client.collect_any().unwrap();
            let Some((ticket, reply)) =
                any.map(|(ticket, reply)| (ticket, reply.map(|reply| reply.to_vec())))
            else {
                break;
            };
            self.collected(ticket, tickets.remove(&ticket).unwrap(), reply);
        }
        assert!(tickets.is_empty(), "silently lost: {tickets:?}");
        for ticket in &self.old_tickets {
            let error = self.client.collect(*ticket).unwrap_err();
            assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::ConnectionLost, Some(true)));
        }
    }

    fn collected(&mut self, ticket: Ticket, sequence: u64, reply: Result<Vec<u8>, Error>) {
        match reply {
            Ok(reply) => self.check(ticket.generation(), sequence, &reply),
            Err(error) => {
                self.lost(&error);
                if self.old_tickets.len() < 50 {
                    self.old_tickets.push(ticket);
                }
            }
        }
    }
}

fn start(number: u64, path: &Path, executed: &Path) -> (Second, u64) {
    let settings = [
        (PATH, path.to_str().unwrap()),
        (NUMBER, &number.to_string()),
        (EXECUTED, executed.to_str().unwrap()),
    ];
    let mut server = second("server", &settings);
    let listening_ns = server.hear().parse().unwrap();
    (server, listening_ns)
}

#[test]
fn killed_and_restarted_a_hundred_times_under_load() {
    let _watchdog = Watchdog::lasting(Duration::from_secs(300));
    let (directory, path) = crate::path();
    let executed = directory.path().join("executed");
    std::fs::write(&executed, "").unwrap();
    let (recovered, recoveries) = channel();
    let (over, answered) = (Counter::new(0), Counter::new(0));
    let mut times_ns = Vec::new();
    let (tally, generations) = thread::scope(|scope| {
        let (over, answered) = (&over, &answered);
        let client = crate::client(&path).max_attempts(None).build();
        let load = scope.spawn(move || {
            let (servers, old_tickets, random) = (HashMap::new(), Vec::new(), Random(1));
            let tally = Tally::default();
            let mut load = Load { client, tally, servers, random, recovered, answered, old_tickets };
            while over.get() == 0 {
                load.round();
            }
            (load.tally, load.servers.len())
        });
        let mut random = Random(2);
        for number in 1..=KILLS + 1 {
            let (mut server, listening_ns) = start(number, &path, &executed);
            let (reached, answered_ns) = recoveries.recv().unwrap();
            assert_eq!(reached, number, "each server is reached, in order");
            times_ns.push(answered_ns.saturating_sub(listening_ns));
            if number > KILLS {
                over.set(1);
                let ended = load.join().unwrap();
                server.kill();
                return ended;
            }
            // In the midst of things: some requests later, and some time.
            let (from, count) = (answered.get(), random.below(400));
            crate::common::wait_until(|| answered.get() >= from + count);
            thread::sleep(Duration::from_micros(random.below(3_000)));
            server.kill();
        }
        unreachable!("the last server is not the last")
    });
    check(&tally, &std::fs::read(&executed).unwrap());
    assert_eq!(generations as u64, KILLS + 1);
    times_ns.remove(0);
    times_ns.sort_unstable();
    let ms = |ns: u64| ns as f64 / 1e6;
    let within = times_ns.iter().filter(|ns| **ns < 100_000_000).count();
    let Tally { asked, answered, lost, .. } = tally;
    println!(
        "{} recoveries: median {:.1} ms, longest {:.1} ms, {within} within 100 ms; {asked} requests: {answered} answered, {lost} lost and told",
        times_ns.len(),
        ms(times_ns[times_ns.len() / 2]),
        ms(times_ns[times_ns.len() - 1]),
    );
    assert_eq!(times_ns.len() as u64, KILLS);
    assert!(times_ns.iter().all(|ns| *ns < 5_000_000_000), "{times_ns:?}");
}

fn check(tally: &Tally, executed: &[u8]) {
    assert_eq!(tally.asked, tally.answered + tally.lost, "silent losses");
    let mut seen = HashSet::new();
    for sequence in executed.chunks(8) {
        let sequence = u64::from_ne_bytes(sequence.try_into().unwrap());
        assert!(seen.insert(sequence), "request {sequence} was executed twice");
    }
    assert!(tally.answered_once.is_subset(&seen), "an answer to what was not executed");
    let known: HashSet<_> = tally.answered_once.union(&tally.lost_once).copied().collect();
    assert!(seen.is_subset(&known), "executed, and nobody was told");
}
