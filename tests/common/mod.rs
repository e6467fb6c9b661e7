//! What the integration tests share: a watchdog, second processes, recognisable payloads, and a look into `/proc`.
#![allow(dead_code, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

pub(crate) mod namespaces;
pub(crate) mod raw;
pub(crate) mod scene;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Names the part that a second process plays.
const ROLE: &str = "RINGWIRE_TEST_ROLE";
/// A test that takes longer hangs.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Seconds that a second process of a test's longer form may take.
pub(crate) const PATIENCE: &str = "RINGWIRE_TEST_PATIENCE_S";

/// Aborts the process if it is not dropped within 60 s, or as long as it was given.
pub(crate) struct Watchdog(#[allow(dead_code, reason = "its drop is the signal")] Sender<()>);

impl Watchdog {
    pub(crate) fn start() -> Self {
        Self::lasting(WATCHDOG)
    }

    pub(crate) fn lasting(limit: Duration) -> Self {
        let name = thread::current().name().unwrap_or("a test").to_owned();
        let (alive, over) = channel::<()>();
        thread::spawn(move || {
            if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {name} hangs for {limit:?}");
                process::abort();
            }
        });
        Self(alive)
    }
}

/// A second process: this test binary again, in a role of its own. Ended by its id and waited for when dropped.
pub(crate) struct Second {
    process: process::Child,
    said: BufReader<ChildStdout>,
}

/// Runs `role`, one of those that the binary's `child_entry` knows, with `settings` in its environment.
pub(crate) fn second(role: &str, settings: &[(&str, &str)]) -> Second {
    second_with_stdin(role, settings, Stdio::piped())
}

pub(crate) fn second_with_stdin(role: &str, settings: &[(&str, &str)], stdin: Stdio) -> Second {
    let mut command = second_command(role, settings);
    command.stdin(stdin);
    Second::start(&mut command).unwrap()
}

/// What starts a second process, for who has more to say about it than `second` takes.
pub(crate) fn second_command(role: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "child_entry", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .envs(settings.iter().copied())
        .stdin(Stdio::piped());
    command
}

impl Second {
    /// Runs what `second_command` began.
    pub(crate) fn start(command: &mut Command) -> std::io::Result<Self> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let said = BufReader::new(process.stdout.take().unwrap());
        Ok(Self { process, said })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Its end of the pipe that `told` reads from.
    pub(crate) fn stdin(&mut self) -> &mut ChildStdin {
        self.process.stdin.as_mut().unwrap()
    }

    pub(crate) fn tell(&mut self, what: &str) {
        writeln!(self.stdin(), "{what}").unwrap();
    }

    /// Waits for the next thing that it `say`s.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the second process ended without a word");
            if let Some((_, said)) = line.split_once('@') {
                return said.trim_end().to_owned();
            }
        }
    }

    /// All that it writes until its end, which must be a good one.
    pub(crate) fn finish(mut self) -> String {
        let mut text = String::new();
        self.said.read_to_string(&mut text).unwrap();
        self.join();
        text
    }

    /// Waits for its end, whatever it is; also what it had yet to `say`.
    pub(crate) fn end(&mut self) -> (String, process::ExitStatus) {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        (rest, self.process.wait().unwrap())
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn join(mut self) {
        drop(self.process.stdin.take());
        let status = self.process.wait().unwrap();
        assert!(status.success(), "the second process failed: {status}");
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// The body of each binary's test `child_entry`: plays the role that the environment names, if it names one.
pub(crate) fn child_entry(roles: &[(&str, fn())]) {
    let Ok(wanted) = env::var(ROLE) else { return };
    // A parent that is aborted takes its children along.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let patience = env::var(PATIENCE).map_or(WATCHDOG, |text| Duration::from_secs(text.parse().unwrap()));
    let _watchdog = Watchdog::lasting(patience);
    let (_, play) = roles.iter().find(|(name, _)| *name == wanted).expect("a role of this binary");
    play();
}

/// In a second process: what the parent set.
pub(crate) fn setting(name: &str) -> String {
    env::var(name).unwrap()
}

/// In a second process: tells the parent.
pub(crate) fn say(what: &str) {
    println!("@{what}");
    std::io::stdout().flush().unwrap();
}

/// In a second process: waits for what the parent tells; empty when it has closed the pipe.
pub(crate) fn told() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Waits for something that comes by itself; the watchdog bounds it.
pub(crate) fn wait_until(mut what: impl FnMut() -> bool) {
    while !what() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether `what` becomes true within `limit`.
pub(crate) fn comes_true(limit: Duration, mut what: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < limit {
        if what() {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    what()
}

const PATTERN_BYTES: usize = 1 << 16;

/// `length` bytes of a sequence that no shift of less than 64 KiB repeats, from `from` on.
pub(crate) fn fill(from: u64, target: &mut Vec<u8>, length: usize) {
    target.clear();
    let table = pattern();
    let mut at = usize::try_from(from % (PATTERN_BYTES as u64 - 39)).unwrap();
    while target.len() < length {
        let count = (PATTERN_BYTES - 39 - at).min(length - target.len());
        target.extend_from_slice(&table[at..at + count]);
        at = 0;
    }
}

/// See [`fill`].
pub(crate) fn bytes(from: u64, length: usize) -> Vec<u8> {
    let mut target = Vec::with_capacity(length);
    fill(from, &mut target, length);
    target
}

fn pattern() -> &'static [u8] {
    static TABLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    TABLE.get_or_init(|| {
        let mut random = Random(7);
        (0..PATTERN_BYTES).map(|_| random.next().to_le_bytes()[3]).collect()
    })
}

/// xorshift64*: the same sequence in both processes.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_bytes(found: &[u8], expected: &[u8], what: &str) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b);
        panic!("{what}: {} bytes for {}, first difference at {at:?}", found.len(), expected.len());
    }
}

/// Descriptors that process `id` has open.
pub(crate) fn descriptors(id: u32) -> usize {
    let own = id == process::id();
    let names = fs::read_dir(format!("/proc/{id}/fd")).unwrap();
    // Reading one's own list takes a descriptor.
    names.count() - usize::from(own)
}

/// Ring segments that process `id` has mapped.
pub(crate) fn segments(id: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    maps.lines().filter(|line| line.contains("/memfd:ringwire")).count()
}
