//! What goes wrong.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringwire::{Client, ErrorKind, Status};

use super::super::server::{MIRROR, NOTE, Served, now_ns};
use super::hostile::{Hostile, wrong_hello};
use super::oversized::{exhaust_pool, too_large};
use super::{PATIENCE, Stage};
use crate::child::{Peer, spawn_heard};

type Play = fn(&mut Stage) -> Result<String, Box<dyn Error>>;

/// One of them; it says what it did.
pub type Act = (&'static str, Play);

/// All of them.
pub const ACTS: [Act; 11] = [
    ("kill-clients", kill_clients),
    ("corrupt-segments", corrupt_segments),
    ("corrupt-handshakes", corrupt_handshakes),
    ("stall", stall),
    ("oversized", oversized),
    ("memory-pressure", memory_pressure),
    ("flood", flood),
    ("stop-server", stop_server),
    ("stop-clients", stop_clients),
    ("kill-server", kill_server),
    ("exhaust-descriptors", exhaust_descriptors),
];

const CLIENTS: u64 = 10;

impl Stage {
    fn start_clients(&mut self, count: u64) -> Result<Vec<Peer>, Box<dyn Error>> {
        let socket = self.socket.to_str().ok_or("a name that is not UTF-8")?;
        let mut clients = Vec::new();
        for _ in 0..count {
            let seed = self.random.below(1 << 40).to_string();
            clients.push(spawn_heard(["peer", "stress", "client", socket, &seed])?);
        }
        for client in &mut clients {
            client.hear()?;
        }
        Ok(clients)
    }

    fn pause(&mut self, least_ms: u64, most_ms: u64) -> u64 {
        let ms = self.random.between(least_ms, most_ms);
        thread::sleep(Duration::from_millis(ms));
        ms
    }

    fn hold(&mut self, what: impl std::any::Any) {
        let until = Instant::now() + Duration::from_millis(self.random.between(500, 3000));
        self.held.push((until, Box::new(what)));
    }

    /// Clients end when they are killed, not before.
    fn end_clients(&mut self, clients: Vec<Peer>) -> Result<(), Box<dyn Error>> {
        for mut client in clients {
            if !client.is_alive()? {
                self.fault("a client ended by itself: see its words above");
            }
        }
        Ok(())
    }
}

fn signal(peer: &Peer, signal: Signal) -> Result<(), Box<dyn Error>> {
    Ok(kill(Pid::from_raw(i32::try_from(peer.id())?), signal)?)
}

fn kill_clients(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    let clients = stage.start_clients(CLIENTS)?;
    let ms = stage.pause(20, 300);
    stage.end_clients(clients)?;
    Ok(format!("{CLIENTS} clients killed after {ms} ms"))
}

fn corrupt_segments(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    let (mut hostile, mut steps, mut hung_up) = (Vec::new(), 0, 0);
    for _ in 0..CLIENTS {
        hostile.extend(Hostile::connect(&stage.socket, &mut stage.random)?);
    }
    let ends = Instant::now() + Duration::from_millis(stage.random.between(50, 400));
    while Instant::now() < ends && !hostile.is_empty() {
        for peer in &mut hostile {
            peer.misbehave(&mut stage.random)?;
            steps += 1;
        }
        let before = hostile.len();
        hostile.retain(|peer| !peer.is_hung_up());
        hung_up += before - hostile.len();
    }
    let left = hostile.len();
    if stage.random.below(2) == 0 {
        stage.hold(hostile);
    }
    Ok(format!(
        "{CLIENTS} segments, {steps} steps: the server hung up on {hung_up}, {left} went by themselves"
    ))
}

fn corrupt_handshakes(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    let mut begun = Vec::new();
    for _ in 0..2 * CLIENTS {
        begun.push(wrong_hello(&stage.socket, &mut stage.random)?);
    }
    // Some go at once, some wait for what will come of it.
    begun.truncate(stage.random.below(2 * CLIENTS) as usize);
    let held = begun.len();
    stage.hold(begun);
    Ok(format!("{} greetings, {held} of them held", 2 * CLIENTS))
}

fn stall(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    // Clients that ask and read no answer: the server's threads wait for room.
    let mut stalled = Vec::new();
    for _ in 0..CLIENTS {
        if let Some(mut peer) = Hostile::connect(&stage.socket, &mut stage.random)? {
            while peer.has_room() {
                peer.request(&mut stage.random);
            }
            peer.ring_the_bell();
            stalled.push(peer);
        }
    }
    let readers = stalled.len();
    stage.hold(stalled);
    // And clients that stop in the middle of a word.
    for _ in 0..CLIENTS {
        let silent = std::os::unix::net::UnixStream::connect(&stage.socket)?;
        stage.hold(silent);
    }
    Ok(format!("{readers} clients that read no answer, {CLIENTS} that do not greet"))
}

fn oversized(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    let faults = too_large(&stage.socket)?;
    let count = faults.len();
    stage.faults.extend(faults);
    Ok(format!("1 MiB and 10 MiB and a byte refused, 5 MiB read piece by piece: {count} faults"))
}

fn memory_pressure(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    const BALLOON_MIB: u32 = 256;
    let mut balloon = spawn_heard(["peer", "stress", "balloon", &BALLOON_MIB.to_string()])?;
    balloon.hear()?;
    let found = exhaust_pool(&stage.socket, 2 * CLIENTS, 3);
    stage.faults.extend(found.faults);
    let mut client = stage.served.client()?;
    let kept = Served::status(&mut client)?["kept_bytes"].as_u64().ok_or("kept bytes")?;
    if kept > 512 << 10 {
        stage.fault(format!("the pool keeps {kept} bytes, beyond its budget of 512 KiB"));
    }
    Ok(format!(
        "{BALLOON_MIB} MiB taken, {} requests for large buffers at once: {} right, {} `resource exhausted`",
        6 * CLIENTS,
        found.right,
        found.refused
    ))
}

fn flood(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    const THREADS: u64 = 4;
    let ends = Instant::now() + Duration::from_millis(stage.random.between(100, 500));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let socket = stage.socket.clone();
            thread::spawn(move || -> Result<u64, ringwire::Error> {
                let mut client = Client::builder(socket).call_timeout(Some(PATIENCE)).connect()?;
                let mut sent = 0;
                while Instant::now() < ends {
                    for _ in 0..64 {
                        client.notify(NOTE, &[1; 8])?;
                    }
                    sent += 64;
                    if number % 2 == 0 {
                        let tickets: Result<Vec<_>, _> =
                            (0..64).map(|_| client.submit(MIRROR, &[1; 8])).collect();
                        for ticket in tickets? {
                            client.collect(ticket)?;
                        }
                        sent += 64;
                    }
                }
                Ok(sent)
            })
        })
        .collect();
    let mut sent = 0;
    for thread in threads {
        match thread.join().map_err(|_| "a flooding thread panicked")? {
            Ok(count) => sent += count,
            Err(error) => stage.fault(format!("flood: {error}")),
        }
    }
    Ok(format!("{sent} tiny messages of {THREADS} clients"))
}

fn stop_server(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    stage.served.signal(Signal::SIGSTOP)?;
    stage.caller.call_now();
    let ms = stage.pause(50, 600);
    stage.served.signal(Signal::SIGCONT)?;
    Ok(format!("the server stopped for {ms} ms"))
}

fn stop_clients(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    let clients = stage.start_clients(CLIENTS / 2)?;
    for client in &clients {
        signal(client, Signal::SIGSTOP)?;
    }
    let ms = stage.pause(50, 300);
    for client in clients.iter().step_by(2) {
        signal(client, Signal::SIGCONT)?;
    }
    stage.pause(20, 100);
    stage.end_clients(clients)?;
    Ok(format!("{} clients stopped for {ms} ms, half of them killed like that", CLIENTS / 2))
}

fn kill_server(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    let killed_ns = now_ns()?;
    stage.served.signal(Signal::SIGKILL)?;
    while stage.served.peer.is_alive()? {
        thread::sleep(Duration::from_micros(200));
    }
    stage.restart(killed_ns)?;
    let away_ms = (stage.served.listening_ns - killed_ns) / 1_000_000;
    Ok(format!("the server killed, and listening again after {away_ms} ms"))
}

fn exhaust_descriptors(stage: &mut Stage) -> Result<String, Box<dyn Error>> {
    const MOST: usize = 600;
    let (mut clients, mut refused, mut reason) = (Vec::new(), 0, String::new());
    while clients.len() < MOST && refused < 5 {
        match Client::builder(&stage.socket).timeout(PATIENCE).connect() {
            Ok(client) => clients.push(client),
            Err(error) => {
                let is_clear =
                    matches!(error.kind(), ErrorKind::ResourceExhausted | ErrorKind::TooManyConnections)
                        || error.status() == Some(Status::ResourceExhausted);
                if !is_clear {
                    stage.fault(format!("exhausted, it refuses with {:?}: {error}", error.kind()));
                }
                (refused, reason) = (refused + 1, error.to_string());
            }
        }
    }
    let taken = clients.len();
    if refused == 0 {
        stage.fault(format!("{taken} connections, and none refused"));
    }
    // Those that it has are served all the same.
    for client in clients.iter_mut().step_by(50) {
        client.set_call_timeout(Some(PATIENCE));
        if let Err(error) = client.call(MIRROR, b"still here?") {
            stage.fault(format!("one of {taken} clients: {error}"));
        }
    }
    stage.pause(10, 200);
    drop(clients);
    // Room for the next act.
    let mut client = loop {
        match stage.served.client() {
            Err(error) if error.is_retryable() => thread::sleep(Duration::from_millis(5)),
            connected => break connected?,
        }
    };
    Served::settle(&mut client, 50, PATIENCE)?;
    Ok(format!("{taken} connections, then: {reason}"))
}
