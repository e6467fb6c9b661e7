//! Clients in processes of their own, to be stopped and killed.

use std::error::Error;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use ringwire::Client;

use super::super::payload::{fill, is_mirrored};
use super::super::random::Random;
use super::super::server::{MIRROR, SUM, SUM_STREAMED};
use crate::child::say;

/// What a client's process is told.
#[derive(Args, Debug)]
pub struct ClientArguments {
    socket: PathBuf,
    seed: u64,
}

/// A client that does all that clients do, without a pause, until it is killed. A wrong answer is an error.
pub fn run_client(arguments: &ClientArguments) -> Result<(), Box<dyn Error>> {
    let mut random = Random::new(arguments.seed);
    let mut client = Client::connect(&arguments.socket)?;
    say("connected")?;
    for number in 0.. {
        let bytes = random.between(1, [60, 2 << 10, 10 << 10, 200 << 10][(number % 4) as usize]) as usize;
        let mut request = vec![0; bytes];
        fill(&mut request, arguments.seed, number);
        match random.below(8) {
            0 => {
                client.call(SUM, &request).map(drop).or_else(forgive)?;
            }
            1 => {
                client.call_streaming(SUM_STREAMED, &request)?.try_for_each(|item| item.map(drop))?;
            }
            2 => {
                let tickets: Result<Vec<_>, _> =
                    (0..32).map(|_| client.submit(MIRROR, &request[..bytes.min(3000)])).collect();
                for ticket in tickets? {
                    client.collect(ticket)?;
                }
            }
            _ => {
                request.truncate(10 << 10);
                let answer = client.call(MIRROR, &request)?.to_vec();
                if !is_mirrored(&answer, arguments.seed, number, request.len()) {
                    return Err("a wrong answer".into());
                }
            }
        }
    }
    Ok(())
}

/// Where all buffers are lent, a server may say so.
fn forgive(error: ringwire::Error) -> Result<(), ringwire::Error> {
    let is_busy = error.status() == Some(ringwire::Status::ResourceExhausted);
    if is_busy { Ok(()) } else { Err(error) }
}

/// What a balloon's process is told.
#[derive(Args, Debug)]
pub struct BalloonArguments {
    mib: usize,
}

/// Takes memory, and has it, until it is killed.
pub fn run_balloon(arguments: &BalloonArguments) -> Result<(), Box<dyn Error>> {
    let memory = vec![7u8; arguments.mib << 20];
    say("full")?;
    loop {
        thread::sleep(Duration::from_secs(1));
        std::hint::black_box(&memory);
    }
}
