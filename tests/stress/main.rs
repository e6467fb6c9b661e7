//! `ringwire stress` in its short forms: correctness, leaks and bounds. Bars on time are for release builds, run alone:
//! `ringwire stress NAME`, and `--full` for the whole of it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// One suite at a time: each wants all cores.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `ringwire stress` with `arguments`; a run that hangs is ended.
fn stress(arguments: &[&str]) -> (Option<i32>, String) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringwire"))
        .arg("stress")
        .args(arguments)
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("stress {arguments:?} hangs: {:?}", child.wait_with_output().unwrap());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "something is left behind");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

/// Runs a suite, which must keep all of its bars that are judged; the result.
fn passes(arguments: &[&str]) -> Value {
    let (code, said) = stress(&[arguments, &["--short", "--json"]].concat());
    let result = said.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let result = result.unwrap_or_else(|| panic!("{arguments:?}: {said}"));
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    assert_eq!((&result["passed"], &result["form"]), (&true.into(), &"short".into()));
    assert_eq!(result["stress"], arguments[0]);
    let judged = result["bars"].as_array().unwrap().iter().filter(|bar| bar["met"] == true);
    assert!(judged.count() > 1, "{result}");
    result
}

#[test]
fn chaos_wrongs_nobody() {
    let result = passes(&["chaos", "--seed", "1"]);
    assert!(result["restarts"].as_u64().unwrap() > 0, "{result}");
    assert!(result["calls_right"].as_u64().unwrap() > 10, "{result}");
    assert!(result["pipelined_right"].as_u64().unwrap() > 100, "{result}");
}

#[test]
fn requests_through_restarts_are_answered_or_lost_with_notice() {
    let result = passes(&["chaos", "--only", "kill-server", "--acts", "20", "--every-ms", "50"]);
    assert_eq!(result["restarts"], 20);
    assert!(result["pipelined_right"].as_u64().unwrap() > 100, "{result}");
}

#[test]
fn nothing_leaks() {
    let result = passes(&["leak"]);
    assert!(result["calls"].as_u64().unwrap() > 1000, "{result}");
}

#[test]
fn memory_keeps_its_bounds() {
    let result = passes(&["memory"]);
    assert_eq!(result["answered"], 60 * 20 + 10 * 2);
}

#[test]
fn a_suite_says_what_it_does_not_know_and_repeats_a_seed() {
    let (code, said) = stress(&["chaos", "--only", "nonsense"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("kill-server"), "{said}");
    let (code, said) = stress(&["chaos", "--short", "--only", "oversized", "--acts", "1", "--seed", "77"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("stress chaos, short form, seed 77\n"), "{said}");
    assert!(said.contains("recovery_slowest_ms") && said.contains("met"), "{said}");
}

#[test]
fn connections_lose_nothing() {
    let result = passes(&["connections"]);
    assert_eq!((&result["connections"], &result["requests_on_each"]), (&100.into(), &100.into()));
    for beside in ["answered_per_s_by_bare_futexes", "answered_per_s_with_window_1"] {
        assert!(result[beside].as_f64().unwrap() > 0.0, "{beside}: {result}");
    }
}

#[test]
fn the_latency_class_is_measured_beside_others() {
    let (code, said) = stress(&["latency", "--short", "--json"]);
    let result = said.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(result["measured"]["messages"], 300, "{said}");
    assert!(result["measured"]["others_answered"].as_u64().unwrap() > 0, "{said}");
    assert_eq!(
        (&result["not_rehearsed"]["messages"], &result["not_rehearsed"]["rehearsed"]),
        (&150.into(), &false.into())
    );
    assert!(result["slowest_ns"].as_u64().unwrap() > 0, "{said}");
}

#[test]
fn a_session_opens_the_files_of_a_directory_and_wrongs_nobody() {
    let files = tempfile::tempdir().unwrap();
    std::fs::create_dir(files.path().join("below")).unwrap();
    for (name, bytes) in [("a.rs", 1 << 10), ("below/b.rs", 70_000), ("large", 5 << 20)] {
        let content: Vec<u8> = (0..bytes).map(|at: u32| (at / 7 % 251) as u8).collect();
        std::fs::write(files.path().join(name), content).unwrap();
    }
    std::fs::write(files.path().join("small"), "no file of an editor's day").unwrap();
    let result = passes(&["session", files.path().to_str().unwrap()]);
    assert_eq!(result["files"], 3, "{result}");
    assert!(result["bytes_of_files"].as_u64().unwrap() > 0, "{result}");
    for kind in ["completion", "cancellation", "first_token", "file"] {
        assert!(result[kind]["count"].as_u64().unwrap() > 0, "{kind}: {result}");
    }
    let (code, said) = stress(&["session", files.path().join("below/b.rs").to_str().unwrap()]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("reading the directory"), "{said}");
}
