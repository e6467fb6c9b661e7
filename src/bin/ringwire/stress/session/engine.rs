//! The engine's side: what answers an editor.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use ringwire::server::{Failure, Items, StreamingRequest};
use ringwire::{Replied, ServerBuilder};

use super::super::payload::mirror;
use super::super::random::Random;

/// Answers 200 bytes, after some thought, which a cancellation ends.
pub const COMPLETE: u16 = 10;
/// Answers with tokens: how many and from which seed, the request says.
pub const CHAT: u16 = 11;
/// Answers with a file, piece by piece.
pub const FILE: u16 = 12;

/// What an engine thinks of a keystroke, at the most.
const THOUGHTS: u64 = 8;
const THOUGHT: Duration = Duration::from_micros(50);
/// Tokens between two pauses.
const TURN: u32 = 32;
const PAUSE: Duration = Duration::from_millis(1);
const PIECE_BYTES: usize = 16 << 10;
const MAX_TOKENS: u32 = 100_000;

/// Adds them to a server.
pub fn handlers(builder: ServerBuilder, files: &Path) -> ServerBuilder {
    let files = files.to_owned();
    builder
        .handle(COMPLETE, |request, reply| -> Result<Replied, Failure> {
            let mut bytes = request.payload().to_vec();
            let thoughts = bytes.first().map_or(0, |byte| u64::from(*byte) % THOUGHTS);
            for _ in 0..thoughts {
                if request.is_cancelled() {
                    return Err(Failure::cancelled("another key was pressed"));
                }
                thread::sleep(THOUGHT);
            }
            mirror(&mut bytes);
            reply.send(&bytes)
        })
        .handle_streaming(CHAT, chat)
        .handle_streaming(FILE, move |request, items| send_file(&files, request, items))
}

/// Token `number` of a chat.
pub fn token(random: &mut Random) -> Vec<u8> {
    let mut token = vec![0; random.between(1, 12) as usize];
    random.fill(&mut token);
    token
}

fn chat(mut request: StreamingRequest<'_>, items: &mut Items<'_>) -> Result<(), Failure> {
    let mut wanted = [0; 12];
    request.read_exact(&mut wanted)?;
    let [a, b, c, d, seed @ ..] = wanted;
    let (count, mut random) = (u32::from_ne_bytes([a, b, c, d]), Random::new(u64::from_ne_bytes(seed)));
    if count > MAX_TOKENS {
        return Err(Failure::invalid_argument(format!("{count} tokens, expected at most {MAX_TOKENS}")));
    }
    for number in 0..count {
        items.send(&token(&mut random))?;
        if number % TURN == TURN - 1 {
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn send_file(root: &Path, mut request: StreamingRequest<'_>, items: &mut Items<'_>) -> Result<(), Failure> {
    let name = String::from_utf8(request.read_all(4096)?)
        .map_err(|_| Failure::invalid_argument("a file name that is not UTF-8"))?;
    let name = PathBuf::from(name);
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Failure::permission_denied("a file outside the directory"));
    }
    let (mut file, mut piece) = (File::open(root.join(name))?, vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            count => items.send(&piece[..count])?,
        }
    }
}
