//! `ringwire serve`, `call` and `criteria` as a script uses them: what they print, how they end, what they leave behind.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use common::{Watchdog, bytes, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringwire::{Client, Server};
use serde_json::Value;
use tempfile::TempDir;

fn ringwire() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwire"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("RUST_LOG", "warn");
    command
}

/// `ringwire serve`, ended when dropped.
struct Serving {
    process: Child,
    said: BufReader<ChildStdout>,
    path: PathBuf,
    directory: TempDir,
}

impl Serving {
    fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let mut process = ringwire().arg("serve").arg(&path).args(options).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, format!("serving {}\n", path.display()), "{}", rest(&mut process.stderr));
        Self { process, said, path, directory }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    /// Its exit code, and what it said last; at most its lock is left.
    fn end(mut self) -> (Option<i32>, String) {
        let mut last = String::new();
        self.said.read_to_string(&mut last).unwrap();
        let code = self.process.wait().unwrap().code();
        let left = std::fs::read_dir(self.directory.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "s.sock.lock"), "left behind: {left:?}");
        (code, last)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn rest(stderr: &mut Option<impl Read>) -> String {
    let mut text = String::new();
    stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
    text
}

/// What one call came to.
struct Called {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

fn call(path: &Path, arguments: &[&str]) -> Called {
    call_with(path, arguments, b"")
}

fn call_with(path: &Path, arguments: &[&str], stdin: &[u8]) -> Called {
    let mut process = ringwire().arg("call").arg(path).args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = process.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // One that fails does not read.
            let _ = pipe.write_all(stdin);
        });
        let output = process.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Called { code: output.status.code(), stdout: output.stdout, stderr }
    })
}

impl Called {
    #[track_caller]
    fn answered(self) -> Vec<u8> {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""));
        self.stdout
    }
}

#[test]
fn the_librarys_own_types_answer_by_name_and_by_number() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(&["--max-connections", "7", "--max-message-bytes", "500000"]);
    let path = &serving.path;
    assert_eq!(call(path, &["echo", "some words"]).answered(), b"some words");
    assert_eq!(call(path, &["65520", "by number"]).answered(), b"by number");
    assert_eq!(call(path, &["0xfff0", "--hex", "az"]).answered(), b"617a\n");
    assert_eq!(call(path, &["ping"]).answered(), b"");
    assert_eq!(call(path, &["echo", "--stream", "one item"]).answered(), b"one item");
    let info = String::from_utf8(call(path, &["server-info"]).answered()).unwrap();
    for line in
        ["max_connections 7", "max_message_bytes 500000", &format!("process {}", serving.process.id())]
    {
        assert!(info.lines().any(|found| found == line), "{line}: {info}");
    }
    let stats: Value = serde_json::from_slice(&call(path, &["stats", "--json"]).answered()).unwrap();
    assert!(stats["text"].as_str().unwrap().contains("\nrequests 7\n"), "{stats}");
    let hex: Value =
        serde_json::from_slice(&call_with(path, &["echo", "-", "--json"], &[0xFF, 0]).answered()).unwrap();
    assert_eq!((&hex["hex"], &hex["bytes"], &hex["type"]), (&"ff00".into(), &2.into(), &65_520.into()));
}

#[test]
fn bytes_go_there_and_back_as_they_are() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(&["--ring-bytes", "16384"]);
    // In one record, in fragments, and nothing at all.
    for length in [0, 1, 5_000, 900_000] {
        let sent = bytes(length as u64, length);
        let came = call_with(&serving.path, &["echo", "-"], &sent).answered();
        common::assert_bytes(&came, &sent, "the echo");
    }
}

#[test]
fn a_status_and_no_answer_have_exit_codes_of_their_own() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(&[]);
    let refused = call(&serving.path, &["7", "x"]);
    assert_eq!((refused.code, &*refused.stdout), (Some(2), &b""[..]));
    assert!(refused.stderr.contains("Unimplemented: no handler for message type 7"), "{}", refused.stderr);
    // Refused before it has been sent to its end.
    let large = call_with(&serving.path, &["echo", "-"], &vec![0; 3 << 20]);
    assert_eq!((large.code, &*large.stdout), (Some(2), &b""[..]));
    assert!(large.stderr.contains("MessageTooLarge"), "{}", large.stderr);
    let nobody = call(&serving.directory.path().join("none.sock"), &["echo"]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("none.sock"), "{}", nobody.stderr);
    for wrong in ["65536", "-1", "pong", ""] {
        let wrong = call(&serving.path, &["--", wrong]);
        assert!(wrong.code == Some(2) && wrong.stderr.contains("invalid value"), "{}", wrong.stderr);
    }
}

#[test]
fn a_deadline_ends_a_call_and_a_stream_comes_item_by_item() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let server = Server::builder(&path)
        .handle(1, |_, reply| {
            thread::sleep(std::time::Duration::from_millis(300));
            reply.send(b"late")
        })
        .handle_streaming(2, |_, items| {
            ["fn", "main", "()"].iter().try_for_each(|item| items.send(item.as_bytes()))
        })
        .build()
        .unwrap();
    let handle = server.handle();
    let thread = thread::spawn(move || server.serve());
    let late = call(&path, &["1", "--timeout-ms", "50"]);
    assert_eq!((late.code, &*late.stdout), (Some(1), &b""[..]), "{}", late.stderr);
    assert_eq!(call(&path, &["1", "--timeout-ms", "0"]).answered(), b"late");
    assert_eq!(call(&path, &["2", "--stream"]).answered(), b"fnmain()");
    assert_eq!(call(&path, &["2", "--stream", "--hex"]).answered(), b"666e\n6d61696e\n2829\n");
    assert!(handle.shutdown(std::time::Duration::from_secs(10)));
    thread.join().unwrap().unwrap();
}

#[test]
fn either_signal_drains_and_ends_well() {
    let _watchdog = Watchdog::start();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let serving = Serving::start(&[]);
        let mut client = Client::connect(&serving.path).unwrap();
        assert_eq!(client.call(ringwire::client::ECHO, b"x").unwrap().to_vec(), b"x");
        let path = serving.path.clone();
        serving.signal(signal);
        // A client that stays does not hold it up.
        let (code, last) = serving.end();
        assert_eq!(code, Some(0), "{signal}");
        assert_eq!(last, "served 1 requests on 1 connections, 0 answered with a status\n");
        assert!(client.call(ringwire::client::ECHO, b"x").is_err());
        assert_eq!(call(&path, &["echo"]).code, Some(1));
    }
}

#[test]
fn who_waits_finds_a_server_that_comes_later() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let early = ringwire()
        .arg("call")
        .arg(&path)
        .args(["echo", "early", "--wait", "--timeout-ms", "0"])
        .spawn()
        .unwrap();
    thread::sleep(std::time::Duration::from_millis(50));
    let mut serving = ringwire().arg("serve").arg(&path).spawn().unwrap();
    let output = early.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"early"[..]));
    kill(Pid::from_raw(serving.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(serving.wait().unwrap().code(), Some(0));
}

#[test]
fn what_a_server_is_told_holds() {
    let _watchdog = Watchdog::start();
    let own = nix::unistd::getegid().to_string();
    let serving =
        Serving::start(&["--mode", "660", "--allow-gid", &own, "--max-connections", "1", "--pin", "0"]);
    let mode = std::fs::metadata(&serving.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let client = Client::connect(&serving.path).unwrap();
    let refused = call(&serving.path, &["echo"]);
    assert!(refused.code == Some(1) && refused.stderr.contains('1'), "{}", refused.stderr);
    drop(client);
    wait_until(|| call(&serving.path, &["echo", "x"]).code == Some(0));
    // A second server at the same path is told so, and leaves the first alone.
    let second = ringwire().arg("serve").arg(&serving.path).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8(second.stderr).unwrap().contains("s.sock"));
    assert_eq!(call(&serving.path, &["echo", "x"]).answered(), b"x");
    for options in [["--mode", "999"], ["--mode", "1777"], ["--ring-bytes", "5000"]] {
        let wrong = ringwire()
            .arg("serve")
            .arg(serving.directory.path().join("t.sock"))
            .args(options)
            .output()
            .unwrap();
        assert_eq!(wrong.status.code(), Some(2), "{options:?}");
    }
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.end().0, Some(0));
}

/// `ringwire criteria`: its exit code, and what it found.
fn criteria(tree: &Path, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let temporary = tempfile::tempdir().unwrap();
    let output = ringwire()
        .args(["criteria", "--json"])
        .args(arguments)
        .env("CARGO_MANIFEST_DIR", tree)
        .env("PATH", tree)
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "something is left behind");
    let stdout = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn a_criterion_that_is_not_met_is_the_exit_code_and_one_that_cannot_be_known_is_not() {
    let _watchdog = Watchdog::start();
    let tree = tempfile::tempdir().unwrap();
    let (code, found) = criteria(tree.path(), &["--only", "recovery,coverage,node,allocations"]);
    let verdicts: Vec<_> = found.iter().map(|found| found["verdict"].as_str().unwrap()).collect();
    assert_eq!((code, verdicts), (Some(0), vec!["NOT YET"; 4]), "{found:?}");

    std::fs::create_dir_all(tree.path().join("tests/call_costs")).unwrap();
    std::fs::create_dir(tree.path().join("src")).unwrap();
    std::fs::create_dir(tree.path().join("target")).unwrap();
    std::fs::write(tree.path().join("tests/call_costs/main.rs"), "").unwrap();
    let source = tree.path().canonicalize().unwrap().join("src/lib.rs");
    for (covered, verdict, expected) in [(9_500, "PASS", 0), (9_000, "FAIL", 1)] {
        let lines = serde_json::json!({"count": 10_000, "covered": covered});
        let report =
            serde_json::json!({"data": [{"files": [{"filename": source, "summary": {"lines": lines}}]}]});
        std::fs::write(tree.path().join("target/coverage.json"), report.to_string()).unwrap();
        let (code, found) = criteria(tree.path(), &["--only", "coverage"]);
        assert_eq!((code, &found[0]["verdict"]), (Some(expected), &verdict.into()), "{found:?}");
        assert!(
            found[0]["measured"].as_str().unwrap().contains(&format!("{}.00 %", covered / 100)),
            "{found:?}"
        );
    }
    std::fs::write(tree.path().join("target/coverage.json"), "{}").unwrap();
    assert_eq!(criteria(tree.path(), &["--only", "coverage"]).0, Some(1));
}

#[test]
fn what_is_measured_is_measured_here_and_a_quick_run_judges_nothing() {
    let _watchdog = Watchdog::start();
    let tree = tempfile::tempdir().unwrap();
    let (code, found) =
        criteria(tree.path(), &["--quick", "--only", "memory,latency,throughput,connections"]);
    assert_eq!((code, found.len()), (Some(0), 4), "{found:?}");
    for found in found {
        assert_eq!(found["verdict"], "NOT YET");
        assert!(found["command"].as_str().unwrap().starts_with("ringwire bench "), "{found}");
        assert!(
            found["measured"].as_str().unwrap().contains(|c: char| c.is_ascii_digit() && c != '0'),
            "{found}"
        );
    }
}
