//! A byte stream whose other end is in another process: one that echoes, closes, or dies.

use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::{fs, thread};

use nix::sys::signal::Signal;
use ringwire::{ByteStream, Listener, Stream, WaitStrategy};

use super::STRATEGIES;
use super::common::{Second, Watchdog, assert_bytes, bytes, say, second, setting, told, wait_until};

fn strategy() -> WaitStrategy {
    STRATEGIES[setting("STRATEGY").parse::<usize>().unwrap()]
}

fn connect() -> ByteStream {
    Stream::builder(PathBuf::from(setting("SOCKET"))).wait_strategy(strategy()).connect().unwrap().into()
}

/// The second process: gives back all that it reads, then closes.
pub(super) fn echo() {
    let stream = connect();
    std::io::copy(&mut &stream, &mut &stream).unwrap();
}

/// The second process: writes, then waits to be ended.
pub(super) fn writer() {
    let mut stream = connect();
    stream.write_all(&bytes(1, 30_000)).unwrap();
    say("written");
    told();
}

/// Runs `test` beside a second process in `role`, under each strategy.
fn with(role: &str, test: impl Fn(ByteStream, Second)) {
    let _watchdog = Watchdog::start();
    for (index, strategy) in STRATEGIES.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let mut listener = Listener::builder(&path).wait_strategy(strategy).bind().unwrap();
        let child = second(role, &[("SOCKET", path.to_str().unwrap()), ("STRATEGY", &index.to_string())]);
        test(listener.accept().unwrap().into(), child);
    }
}

#[test]
fn small_and_large_round_trips_come_back() {
    with("echo", |mut stream, child| {
        let mut found = Vec::new();
        for round in 0..200_u64 {
            for length in [1, 64, 1_000] {
                stream.write_all(&bytes(round, length)).unwrap();
                found.resize(length, 0);
                stream.read_exact(&mut found).unwrap();
                assert_bytes(&found, &bytes(round, length), "small");
            }
        }
        let body = bytes(3, 5 << 20);
        thread::scope(|scope| {
            scope.spawn(|| {
                (&stream).write_all(&body).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            });
            found.clear();
            (&stream).read_to_end(&mut found).unwrap();
        });
        assert_bytes(&found, &body, "large");
        child.join();
    });
}

#[test]
fn a_close_in_the_other_process_is_an_end_and_a_broken_pipe() {
    with("echo", |mut stream, child| {
        stream.write_all(b"x").unwrap();
        let clone = stream.try_clone().unwrap();
        clone.shutdown(std::net::Shutdown::Write).unwrap();
        let mut found = Vec::new();
        stream.read_to_end(&mut found).unwrap();
        assert_eq!(found, b"x");
        assert_eq!(stream.write(b"y").unwrap_err().kind(), ErrorKind::BrokenPipe);
        child.join();
    });
}

#[test]
fn a_death_is_a_reset_once_everything_is_read() {
    with("writer", |mut stream, mut child| {
        assert_eq!(child.hear(), "written");
        let mut found = vec![0; 30_000];
        stream.read_exact(&mut found[..10]).unwrap();
        child.kill();
        stream.read_exact(&mut found[10..]).unwrap();
        assert_bytes(&found, &bytes(1, 30_000), "written before the death");
        for nonblocking in [false, true] {
            stream.set_nonblocking(nonblocking).unwrap();
            assert_eq!(stream.read(&mut found).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        stream.set_nonblocking(false).unwrap();
        let written = stream.write_all(&bytes(1, 1 << 20));
        assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_death_ends_waits_of_both_directions() {
    with("writer", |stream, mut child| {
        assert_eq!(child.hear(), "written");
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut found = vec![0; 30_000];
                (&stream).read_exact(&mut found).unwrap();
                (&stream).read(&mut found).unwrap_err().kind()
            });
            let writer = scope.spawn(|| (&stream).write_all(&bytes(1, 1 << 20)).unwrap_err().kind());
            thread::sleep(std::time::Duration::from_millis(30));
            child.signal(Signal::SIGKILL);
            assert_eq!(reader.join().unwrap(), ErrorKind::ConnectionReset);
            assert_eq!(writer.join().unwrap(), ErrorKind::BrokenPipe);
        });
        child.kill();
    });
}

/// Voluntary switches of context of thread `name` of this process.
fn switches(name: &str) -> Option<u64> {
    fs::read_dir("/proc/self/task").unwrap().find_map(|task| {
        let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        status.lines().next().filter(|line| line.trim_end().ends_with(name))?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"))?;
        line.rsplit(':').next()?.trim().parse().ok()
    })
}

#[test]
fn an_idle_reader_does_not_wake_up() {
    let _watchdog = Watchdog::start();
    let (stream, mut other) = ByteStream::pair().unwrap();
    let reader = thread::Builder::new().name("idle reader".into()).spawn(move || (&stream).read(&mut [0; 8]));
    let reader = reader.unwrap();
    let mut before = None;
    // Until it has gone over to the lifeline.
    wait_until(|| {
        let earlier = before;
        thread::sleep(std::time::Duration::from_millis(100));
        before = switches("idle reader");
        before.is_some() && before == earlier
    });
    thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(switches("idle reader"), before);
    other.write_all(b"x").unwrap();
    assert_eq!(reader.join().unwrap().unwrap(), 1);
}
