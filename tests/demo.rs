//! `ringwire demo` as a user runs it: what it sends, what it says, how it ends, and that it leaves nothing behind.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end by panicking")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, geteuid, mkfifo};
use tempfile::TempDir;

/// A run that takes longer hangs.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Larger than what either way holds, and no multiple of anything.
const LARGE_BYTES: usize = (3 << 20) + 4321;

/// What a run has said.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Both columns of the table's row.
    #[track_caller]
    fn row(&self, label: &str) -> [String; 2] {
        let mut lines = self.stdout.lines().filter_map(|line| line.trim_start().strip_prefix(label));
        let row =
            lines.find(|rest| rest.starts_with("  ")).unwrap_or_else(|| panic!("no row {label}: {self}"));
        let mut columns = row.split("  ").map(str::trim).filter(|column| !column.is_empty());
        [(); 2].map(|()| columns.next().unwrap().to_owned())
    }

    #[track_caller]
    fn assert_row(&self, label: &str, value: &str) {
        assert_eq!(self.row(label), [value, value], "{label}: {self}");
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwire"));
    command
        .arg("demo")
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Waits for the end, which the watchdog brings about if need be.
fn finish(child: Child) -> Run {
    let pid = pid(&child);
    let (ended, end) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if end.recv_timeout(WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { code: status.code(), stdout: text(&stdout), stderr: text(&stderr) }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

/// Runs the demo with a directory of its own for temporary files, which is empty afterwards.
#[track_caller]
fn run<const N: usize>(arguments: [&OsStr; N]) -> Run {
    let temporary = tempfile::tempdir().unwrap();
    let run = finish(demo(temporary.path()).args(arguments).spawn().unwrap());
    assert_left_empty(temporary.path(), &run);
    run
}

#[track_caller]
fn assert_left_empty(temporary: &Path, run: &Run) {
    let left: Vec<OsString> =
        fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "left behind: {left:?}\n{run}");
}

fn large() -> Vec<u8> {
    (0..LARGE_BYTES).map(|at| (at * 31 + at / 127) as u8).collect()
}

#[test]
fn every_regular_file_arrives_whole() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| root.path().join(OsStr::from_bytes(name));
    fs::create_dir_all(at(b"nested/target/.git")).unwrap();
    fs::write(at(b"empty"), b"").unwrap();
    fs::write(at(b"large"), large()).unwrap();
    fs::write(at(b"a name with spaces "), b"some words\n").unwrap();
    fs::write(at(b"not \xff\xfe UTF-8\n"), b"x").unwrap();
    fs::write(at(b"nested/target/.git/deep"), vec![b'\n'; 70_000]).unwrap();
    symlink(at(b"large"), at(b"link")).unwrap();
    symlink(root.path(), at(b"nested/loop")).unwrap();
    symlink("nowhere", at(b"dangling")).unwrap();
    mkfifo(&at(b"pipe"), Mode::S_IRWXU).unwrap();
    let bytes = LARGE_BYTES + b"some words\nx".len() + 70_000;

    let done = run([root.path().as_os_str()]);
    assert_eq!(done.code, Some(0), "{done}");
    done.assert_row("files", "5");
    done.assert_row("failures", "0");
    assert_eq!(
        done.row("bytes").map(|column| column.replace(',', "")),
        [bytes.to_string(), bytes.to_string()]
    );
    assert!(done.stdout.contains("skipped: 3 symbolic links, 1 pipes"), "{done}");
    for label in ["messages/s", "GB/s", "latency p50", "p90", "p99", "p99.9", "max"] {
        assert!(done.row(label).iter().all(|column| column != "0"), "{label}: {done}");
    }
    assert_eq!(done.stderr, "");
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_the_others_arrive() {
    if geteuid().is_root() {
        return; // who may read everything
    }
    let root = tempfile::tempdir().unwrap();
    let secret = root.path().join("secret \u{1b}");
    fs::write(&secret, b"x").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    fs::write(root.path().join("open"), b"y").unwrap();

    let done = run([root.path().as_os_str()]);
    assert_eq!(done.code, Some(0), "{done}");
    done.assert_row("files", "2");
    done.assert_row("failures", "1");
    done.assert_row("bytes", "1");
    assert!(done.stderr.contains("/secret \u{FFFD}: not read: Permission denied"), "{done}");
}

#[test]
fn one_wrong_bit_is_noticed_by_either_way() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("empty"), b"").unwrap();
    fs::write(root.path().join("large"), large()).unwrap();
    fs::write(root.path().join("small"), b"some words\n").unwrap();

    let done = run([OsStr::new("--corrupt-one"), root.path().as_os_str()]);
    assert_eq!(done.code, Some(1), "{done}");
    done.assert_row("files", "3");
    done.assert_row("failures", "1");
    for route in ["ringwire", "Unix socket"] {
        assert!(
            done.stderr.contains(&format!("/large: different by {route}: sent {LARGE_BYTES} bytes")),
            "{done}"
        );
    }
}

#[test]
fn a_directory_that_is_none_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, b"x").unwrap();
    for (path, message) in
        [(root.path().join("nowhere"), "No such file or directory"), (file, "is not a directory")]
    {
        let done = run([path.as_os_str()]);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.stderr.contains(message) && done.stderr.contains(path.to_str().unwrap()), "{done}");
        assert_eq!(done.stdout, "");
    }
}

#[test]
fn an_empty_directory_is_no_error() {
    let root = tempfile::tempdir().unwrap();
    let done = run([root.path().as_os_str()]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stdout.contains("nothing to send"), "{done}");
    for label in ["files", "bytes", "failures", "messages/s"] {
        done.assert_row(label, "0");
    }
}

#[test]
fn the_default_is_the_tree_of_the_project_without_what_is_built() {
    let (root, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["target", ".git", "src"] {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("file"), b"x").unwrap();
    }
    let mut in_cargo = demo(temporary.path());
    in_cargo.env("CARGO_MANIFEST_DIR", root.path());
    let mut alone = demo(temporary.path());
    alone.env_remove("CARGO_MANIFEST_DIR").current_dir(root.path());
    for mut command in [in_cargo, alone] {
        let done = finish(command.spawn().unwrap());
        assert_eq!(done.code, Some(0), "{done}");
        done.assert_row("files", "1");
        assert!(done.stdout.contains("left out by default: directories named target, .git"), "{done}");
        assert_left_empty(temporary.path(), &done);
    }
}

#[test]
fn no_place_for_the_sockets_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let far = root.path().join("x".repeat(100));
    fs::create_dir(&far).unwrap();
    for (temporary, message) in
        [(far, "Unix socket"), (root.path().join("nowhere"), "no private directory in")]
    {
        let done = finish(demo(&temporary).arg(root.path()).spawn().unwrap());
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.stderr.contains(message), "{done}");
    }
    assert_eq!(fs::read_dir(root.path().join("x".repeat(100))).unwrap().count(), 0);
}

/// A directory that the demo is busy with for a while.
fn busy_directory() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    File::create(root.path().join("zeros")).unwrap().set_len(512 << 20).unwrap();
    root
}

/// Waits for the second process of the demo with this id.
fn second_process(of: Pid) -> Pid {
    let begun = Instant::now();
    while begun.elapsed() < WATCHDOG {
        for entry in fs::read_dir("/proc").unwrap() {
            let name = entry.unwrap().file_name();
            let Some(Ok(pid)) = name.to_str().map(str::parse) else { continue };
            // Processes come and go.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let behind_name = stat.rsplit(')').next().unwrap();
            if behind_name.split_whitespace().nth(1).is_some_and(|parent| parent == of.to_string()) {
                return Pid::from_raw(pid);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("{of} has started no second process");
}

#[test]
fn a_server_that_dies_ends_the_demo() {
    for delay in [Duration::ZERO, Duration::from_millis(100)] {
        let (root, temporary) = (busy_directory(), tempfile::tempdir().unwrap());
        let child = demo(temporary.path()).arg(root.path()).spawn().unwrap();
        let server = second_process(pid(&child));
        thread::sleep(delay);
        kill(server, Signal::SIGKILL).unwrap();
        let done = finish(child);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.stderr.contains("process"), "{done}");
        assert_left_empty(temporary.path(), &done);
    }
}

#[test]
fn a_client_that_dies_takes_its_server_along() {
    let (root, temporary) = (busy_directory(), tempfile::tempdir().unwrap());
    let child = demo(temporary.path()).arg(root.path()).spawn().unwrap();
    let client = pid(&child);
    let server = second_process(client);
    // Until they are connected.
    let begun = Instant::now();
    while fs::read_dir(temporary.path()).unwrap().count() > 0 && begun.elapsed() < WATCHDOG {
        thread::sleep(Duration::from_millis(1));
    }
    kill(client, Signal::SIGKILL).unwrap();
    // Its output ends when the server, too, has closed it.
    let done = finish(child);
    assert_eq!(done.code, None, "{done}");
    assert!(!Path::new(&format!("/proc/{server}/fd/0")).exists(), "{done}");
    assert_left_empty(temporary.path(), &done);
}
