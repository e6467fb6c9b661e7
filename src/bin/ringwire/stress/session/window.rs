//! One window of the editor.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ringwire::{Client, Status};

use super::super::payload::{fill, is_mirrored};
use super::super::random::Random;
use super::engine::{CHAT, COMPLETE, FILE, token};
use super::latencies::Latencies;

const KEYSTROKE_BYTES: usize = 200;
const FILE_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=5 << 20;
const MOST_FILES: usize = 2000;
/// Directories in directories beyond this are another project.
const MOST_DEPTH: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(30);

/// The names of files of 1 KiB to 5 MiB below `root`, relative to it, in order.
pub fn find_files(root: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut files = Vec::new();
    collect_files(root, root, 0, &mut files)
        .map_err(|error| format!("reading the directory {}: {error}", root.display()))?;
    if files.is_empty() {
        let (least, most) = (FILE_BYTES.start(), FILE_BYTES.end());
        return Err(format!("no file of {least} to {most} bytes below {}", root.display()).into());
    }
    Ok(files)
}

fn collect_files(root: &Path, below: &Path, depth: u32, files: &mut Vec<String>) -> std::io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(below)?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        // No links: nobody leaves the directory.
        let (path, kind) = (entry.path(), entry.file_type()?);
        if files.len() == MOST_FILES {
            break;
        } else if kind.is_dir() && depth < MOST_DEPTH {
            // What may not be read is left out.
            let _ = collect_files(root, &path, depth + 1, files);
        } else if kind.is_file()
            && fs::File::open(&path).is_ok()
            && entry.metadata().is_ok_and(|found| FILE_BYTES.contains(&found.len()))
            && let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
        {
            files.push(name.to_owned());
        }
    }
    Ok(())
}

/// A window with a connection of its own.
pub struct Window {
    client: Client,
    root: PathBuf,
    files: Vec<String>,
    random: Random,
    number: u64,
    requests: u64,
    /// A file as it was received, and as it lies there.
    received: Vec<u8>,
    on_disk: Vec<u8>,
}

/// Room for any of the files, which takes its memory now: what is measured is not when the largest file is opened.
fn room_for_a_file() -> Vec<u8> {
    let mut room = vec![1; *FILE_BYTES.end() as usize + 1];
    room.clear();
    room
}

impl Window {
    pub fn open(
        socket: &Path,
        root: &Path,
        files: &[String],
        seed: u64,
        number: u64,
    ) -> Result<Self, Box<dyn Error>> {
        let client = Client::builder(socket).call_timeout(Some(PATIENCE)).connect()?;
        let random = Random::new(seed ^ (number + 1).wrapping_mul(0x9E37_79B9));
        Ok(Self {
            client,
            root: root.to_owned(),
            files: files.to_vec(),
            random,
            number,
            requests: 0,
            received: room_for_a_file(),
            on_disk: room_for_a_file(),
        })
    }

    /// Does what one does in an editor for `time`.
    pub fn work(&mut self, time: Duration) -> Result<Latencies, Box<dyn Error>> {
        let (started, mut latencies) = (Instant::now(), Latencies::new()?);
        while started.elapsed() < time {
            let done = match self.random.below(20) {
                0..12 => self.type_a_word(&mut latencies),
                12..14 => self.chat(&mut latencies),
                14..19 => self.open_file(&mut latencies),
                _ => self.come_back(&mut latencies),
            };
            if let Err(error) = done {
                latencies.failures += 1;
                eprintln!("window {}: {error}", self.number);
                // A connection that is over does not come back: the rest would fail as well.
                if latencies.failures > 10 {
                    break;
                }
            }
        }
        Ok(latencies)
    }

    fn keystroke(&mut self) -> [u8; KEYSTROKE_BYTES] {
        self.requests += 1;
        let mut request = [0; KEYSTROKE_BYTES];
        fill(&mut request, self.number, self.requests);
        request
    }

    /// A completion at each key; most keys come before the answer to the one before.
    fn type_a_word(&mut self, latencies: &mut Latencies) -> Result<(), Box<dyn Error>> {
        for _ in 0..self.random.between(3, 12) {
            let request = self.keystroke();
            let (number, begun) = (self.requests, Instant::now());
            let ticket = self.client.submit(COMPLETE, &request)?;
            let is_cancelled = self.random.below(10) < 6;
            let mut since = begun;
            if is_cancelled {
                thread::sleep(Duration::from_micros(self.random.below(300)));
                since = Instant::now();
                self.client.cancel(&ticket)?;
            }
            let answer = self.client.collect(ticket).map(|reply| reply.to_vec());
            latencies.record(if is_cancelled { "cancellation" } else { "completion" }, since.elapsed());
            match answer {
                Ok(answer) if is_mirrored(&answer, self.number, number, KEYSTROKE_BYTES) => {}
                Ok(_) => latencies.wrong += 1,
                Err(error) if is_cancelled && error.status() == Some(Status::Cancelled) => {
                    latencies.cancelled += 1;
                }
                Err(error) => return Err(error.into()),
            }
            thread::sleep(Duration::from_micros(self.random.between(500, 4000)));
        }
        Ok(())
    }

    /// A streamed answer of 500 to 3,000 tokens; some are read enough of before their end.
    fn chat(&mut self, latencies: &mut Latencies) -> Result<(), Box<dyn Error>> {
        let (count, seed) = (self.random.between(500, 3000) as u32, self.random.next());
        let stops_at = if self.random.below(5) == 0 { self.random.below(u64::from(count)) } else { u64::MAX };
        let request = [&count.to_ne_bytes()[..], &seed.to_ne_bytes()].concat();
        let (begun, mut expected, mut received) = (Instant::now(), Random::new(seed), 0);
        let mut tokens = self.client.call_streaming(CHAT, &request)?;
        while let Some(found) = tokens.next_item()? {
            if received == 0 {
                latencies.record("first_token", begun.elapsed());
            }
            latencies.wrong += u64::from(found.to_vec() != token(&mut expected));
            received += 1;
            if received == stops_at {
                latencies.left_early += 1;
                return Ok(());
            }
        }
        latencies.wrong += u64::from(received != u64::from(count));
        latencies.record("chat", begun.elapsed());
        Ok(())
    }

    /// The content of a file, compared with what lies there.
    fn open_file(&mut self, latencies: &mut Latencies) -> Result<(), Box<dyn Error>> {
        let name = self.files[self.random.below(self.files.len() as u64) as usize].clone();
        // Somebody may be writing to it.
        for _ in 0..3 {
            let begun = Instant::now();
            self.received.clear();
            let mut pieces = self.client.call_streaming(FILE, name.as_bytes())?;
            while let Some(piece) = pieces.next_item()? {
                piece.payload().append_to(&mut self.received);
            }
            drop(pieces);
            let took = begun.elapsed();
            self.on_disk.clear();
            fs::File::open(self.root.join(&name))?.read_to_end(&mut self.on_disk)?;
            if self.on_disk == self.received {
                latencies.record("file", took);
                latencies.bytes += self.received.len() as u64;
                return Ok(());
            }
        }
        latencies.wrong += 1;
        Ok(())
    }

    /// After a rest of minutes, compressed to a second, everything at once.
    fn come_back(&mut self, latencies: &mut Latencies) -> Result<(), Box<dyn Error>> {
        thread::sleep(Duration::from_millis(self.random.between(100, 1000)));
        let (begun, mut tickets) = (Instant::now(), Vec::new());
        for _ in 0..self.random.between(20, 60) {
            let request = self.keystroke();
            tickets.push((self.client.submit(COMPLETE, &request)?, self.requests));
        }
        for (index, (ticket, number)) in tickets.into_iter().enumerate() {
            let answer = self.client.collect(ticket)?.to_vec();
            if index == 0 {
                latencies.record("first_after_rest", begun.elapsed());
            }
            latencies.wrong += u64::from(!is_mirrored(&answer, self.number, number, KEYSTROKE_BYTES));
        }
        latencies.record("burst", begun.elapsed());
        Ok(())
    }
}
