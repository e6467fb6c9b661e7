//! Messages that are too large, and more of those that are not than there are buffers for.

use std::path::Path;
use std::thread;
use std::time::Duration;

use ringwire::{Client, Error, ErrorKind, Status};

use super::super::payload::{fill, sum};
use super::super::server::{SUM, SUM_STREAMED};

/// What the largest buffer of the pool cannot hold.
const BEYOND_THE_POOL: usize = (1 << 20) + 1;
/// What the server does not take in.
const BEYOND_THE_LIMIT: usize = (10 << 20) + 1;
const PATIENCE: Duration = Duration::from_secs(10);

fn client(socket: &Path) -> Result<Client, Error> {
    Client::builder(socket).max_message_bytes(64 << 20).call_timeout(Some(PATIENCE)).connect()
}

/// Each must be refused for what it is, and the connection must be good for the next; says what was not so.
pub fn too_large(socket: &Path) -> Result<Vec<String>, Error> {
    let (mut client, mut faults) = (client(socket)?, Vec::new());
    for bytes in [BEYOND_THE_POOL, BEYOND_THE_LIMIT] {
        let refused = client.call(SUM, &vec![3; bytes]).map(drop);
        let is_right = refused.as_ref().is_err_and(|error| {
            error.kind() == ErrorKind::MessageTooLarge || error.status() == Some(Status::MessageTooLarge)
        });
        if !is_right {
            faults.push(format!("{bytes} bytes: expected `message too large`, found {refused:?}"));
        }
        let small = client.call(SUM, b"small").map(|reply| reply.to_vec());
        if small.as_ref().ok() != Some(&sum(0, b"small").to_ne_bytes().to_vec()) {
            faults.push(format!("behind {bytes} bytes: {small:?}"));
        }
    }
    // What is read piece by piece has no bound but the limit.
    let large = vec![5; 5 << 20];
    let streamed = client.call_streaming(SUM_STREAMED, &large)?.next();
    if !matches!(&streamed, Some(Ok(item)) if *item == sum(0, &large).to_ne_bytes()) {
        faults.push(format!("{} bytes piece by piece: {streamed:?}", large.len()));
    }
    Ok(faults)
}

/// What became of more requests at once than there are buffers for.
#[derive(Debug, Default)]
pub struct Pressure {
    pub right: u32,
    pub refused: u32,
    pub faults: Vec<String>,
}

/// `clients` at once, each with `requests` that want the larger buffers.
pub fn exhaust_pool(socket: &Path, clients: u64, requests: u64) -> Pressure {
    let threads: Vec<_> = (0..clients)
        .map(|number| {
            let socket = socket.to_owned();
            thread::spawn(move || press(&socket, number, requests))
        })
        .collect();
    let mut all = Pressure::default();
    for thread in threads {
        match thread.join() {
            Ok(one) => {
                all.right += one.right;
                all.refused += one.refused;
                all.faults.extend(one.faults);
            }
            Err(_) => all.faults.push("a client panicked".into()),
        }
    }
    all
}

fn press(socket: &Path, number: u64, requests: u64) -> Pressure {
    let mut found = Pressure::default();
    let mut client = match client(socket) {
        Ok(client) => client,
        Err(error) => {
            found.faults.push(format!("connecting: {error}"));
            return found;
        }
    };
    for request in 0..requests {
        let bytes = if (number + request).is_multiple_of(2) { 1 << 20 } else { 60 << 10 };
        let mut payload = vec![0; bytes];
        fill(&mut payload, number, request);
        match client.call(SUM, &payload).map(|reply| reply.to_vec()) {
            Ok(answer) if answer == sum(0, &payload).to_ne_bytes() => found.right += 1,
            Ok(_) => found.faults.push("a wrong sum".into()),
            Err(error) if error.status() == Some(Status::ResourceExhausted) => found.refused += 1,
            Err(error) => found.faults.push(format!("{bytes} bytes: {error}")),
        }
    }
    found
}
