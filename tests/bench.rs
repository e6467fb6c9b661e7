//! `ringwire bench` prints what it promises. Figures are not judged here: that is for release builds, run alone.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Runs `ringwire bench` with `arguments`; a run that hangs is ended.
fn bench(arguments: &[&str]) -> (bool, String, String) {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringwire"))
        .arg("bench")
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
            panic!("bench {arguments:?} hangs");
        }
        thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "something is left behind");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn results(arguments: &[&str]) -> Vec<Value> {
    let (success, stdout, stderr) = bench(arguments);
    assert!(success, "{arguments:?}: {stderr}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn limits_are_printed_for_lines_futexes_and_buffers() {
    let results = results(&["limits", "--quick", "--json"]);
    let all: Vec<&str> = results.iter().map(|result| result["what"].as_str().unwrap()).collect();
    assert_eq!(all[..4], ["two lines", "one line", "futex, two cores", "futex, one core"]);
    assert_eq!(all.iter().filter(|what| what.starts_with("buffers by a flag")).count(), 6);
    assert!(results[0]["p50_ns"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_round_trip_stands_beside_its_limit_in_every_mode() {
    for (mode, pause, size) in
        [("spin", "0", "64"), ("block", "0", "8"), ("adaptive", "50", "1024"), ("block", "10", "100000")]
    {
        let arguments = [
            "rtt",
            "--quick",
            "--json",
            "--runs",
            "1",
            "--blocks",
            "2",
            "--mode",
            mode,
            "--pause-us",
            pause,
            "--size",
            size,
        ];
        let results = results(&arguments);
        let [result] = &results[..] else { panic!("{results:?}") };
        assert_eq!(result["mode"], mode);
        assert_eq!(result["layer"], "stream");
        assert_eq!(result["size"].to_string(), size);
        for field in ["iterations", "p50_ns", "p99_ns", "p999_ns", "max_ns", "limit_p50_ns", "ratio_p50"] {
            assert!(result[field].as_f64().unwrap() > 0.0, "{field}: {result}");
        }
    }
}

#[test]
fn a_call_stands_beside_the_limit_and_with_pauses_beside_a_socket() {
    for (mode, pause, size) in
        [("spin", "0", "64"), ("adaptive", "50", "32"), ("block", "0", "100000"), ("adaptive", "0", "1")]
    {
        let results = results(&[
            "rtt",
            "--layer",
            "call",
            "--quick",
            "--json",
            "--runs",
            "1",
            "--blocks",
            "2",
            "--mode",
            mode,
            "--pause-us",
            pause,
            "--size",
            size,
        ]);
        let [result] = &results[..] else { panic!("{results:?}") };
        assert_eq!((&result["layer"], &result["mode"]), (&"call".into(), &mode.into()));
        for field in ["iterations", "p50_ns", "p999_ns", "limit_p50_ns", "ratio_p50"] {
            assert!(result[field].as_f64().unwrap() > 0.0, "{field}: {result}");
        }
        assert_eq!(result["socket_p50_ns"].is_u64(), pause != "0", "{result}");
        assert_eq!(result["ratio_to_socket"].is_f64(), pause != "0", "{result}");
        // What a call that wakes its server cannot be below.
        assert_eq!(result["ratio_of_wake_to_socket"].is_f64(), pause != "0", "{result}");
    }
}

#[test]
fn no_message_is_lost_one_way() {
    for (size, more) in [("64", &[][..]), ("8", &["--copy"]), ("65536", &["--ring", "524288"])] {
        let mut arguments = vec!["stream", "--quick", "--json", "--runs", "1", "--size", size];
        arguments.extend(more);
        let results = results(&arguments);
        let [result] = &results[..] else { panic!("{results:?}") };
        assert_eq!(result["lost"], 0);
        assert!(result["messages"].as_u64().unwrap() > 0 && result["gb_per_s"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_byte_streams_round_trip_stands_beside_a_sockets() {
    for (size, mode) in [("64", "spin"), ("4096", "block"), ("300000", "adaptive")] {
        let results = results(&[
            "bytes", "--quick", "--json", "--runs", "1", "--blocks", "2", "--mode", mode, "--size", size,
        ]);
        let [result] = &results[..] else { panic!("{results:?}") };
        assert_eq!((&result["bench"], &result["mode"]), (&Value::from("bytes"), &Value::from(mode)));
        assert_eq!(result["size"].to_string(), size);
        for field in ["iterations", "p50_ns", "socket_p50_ns", "ratio"] {
            assert!(result[field].as_f64().unwrap() > 0.0, "{field}: {result}");
        }
    }
}

#[test]
fn many_connections_are_answered_in_order_beside_sockets_and_mailboxes() {
    for (window, size, mode) in [("16", "1024", "block"), ("1", "1000", "adaptive"), ("64", "13", "spin")] {
        let arguments = [
            "many",
            "--quick",
            "--json",
            "--runs",
            "1",
            "--connections",
            "300",
            "--window",
            window,
            "--size",
            size,
            "--mode",
            mode,
        ];
        let results = results(&arguments);
        let [result] = &results[..] else { panic!("{results:?}") };
        assert_eq!((&result["bench"], &result["mode"]), (&Value::from("many"), &Value::from(mode)));
        assert_eq!((&result["lost"], &result["reordered"]), (&Value::from(0), &Value::from(0)), "{result}");
        assert_eq!((result["connections"].as_u64(), result["messages"].as_u64()), (Some(3), Some(50)));
        assert_eq!(result["layer"], "call");
        for field in ["msgs_per_s", "p50_ns", "p99_ns"] {
            assert!(result[field].as_f64().unwrap() > 0.0, "{field}: {result}");
        }
        for way in ["socket", "socket_batched", "mailbox"] {
            assert_eq!(result[format!("{way}_lost")], 0, "{result}");
            assert!(result[format!("{way}_msgs_per_s")].as_f64().unwrap() > 0.0, "{result}");
            let field = format!("ratio_to_{way}");
            assert!(result[&field].as_f64().unwrap() > 0.0, "{field}: {result}");
        }
    }
}

#[test]
fn bare_streams_are_measured_alone_and_on_cores_of_their_own_too() {
    let results = results(&[
        "many", "--quick", "--json", "--runs", "1", "--layer", "stream", "--peer", "none", "--placed",
    ]);
    let [result] = &results[..] else { panic!("{results:?}") };
    assert_eq!((&result["layer"], &result["placed"]), (&Value::from("stream"), &Value::from(true)));
    assert!(result["msgs_per_s"].as_f64().unwrap() > 0.0 && result["socket_msgs_per_s"].is_null());
}

#[test]
fn a_stream_of_tokens_loses_none() {
    let results = results(&["tokens", "--quick", "--json", "--streams", "3"]);
    let [result] = &results[..] else { panic!("{results:?}") };
    assert_eq!((result["items"].as_u64(), result["lost"].as_u64()), (Some(1000), Some(0)));
    assert!(result["items_per_s"].as_f64().unwrap() > 0.0, "{result}");
}

#[test]
fn the_latency_class_is_measured_beside_busy_connections() {
    for more in [&[][..], &["--busy-poll-ms", "0"], &["--ordinary"], &["--cold"]] {
        let mut arguments = vec!["latency", "--quick", "--json", "--others", "300"];
        arguments.extend(more);
        let results = results(&arguments);
        let [result] = &results[..] else { panic!("{results:?}") };
        assert_eq!((result["others"].as_u64(), result["messages"].as_u64()), (Some(3), Some(100)));
        assert_eq!(result["class"], more != ["--ordinary"]);
        assert_eq!(result["busy_poll_ms"], if more.len() == 2 { 0 } else { 100 });
        assert_eq!(result["rehearsed"], more != ["--cold"]);
        // What the machine itself can do stands beside it.
        let limit = result["realtime"] == true;
        assert_eq!(result.get("limit_p50_ns").is_some(), limit, "{result}");
        assert!(result["max_ns"].as_u64() >= result["p50_ns"].as_u64(), "{result}");
    }
}

#[test]
fn a_servers_memory_is_summed_up_by_whose_it_is() {
    for more in [&["--active", "--large"][..], &["--idle"]] {
        let mut arguments = vec!["memory", "--quick", "--json"];
        arguments.extend(more);
        let results = results(&arguments);
        let [result] = &results[..] else { panic!("{results:?}") };
        let kib = |field: &str| result[field].as_u64().unwrap();
        assert_eq!((kib("connections"), kib("further"), kib("threads")), (10, 10, 11));
        assert_eq!(kib("private_kib") + kib("segment_kib"), kib("total_kib"));
        assert_eq!(kib("stacks_kib") + kib("heap_kib") + kib("other_kib"), kib("private_kib"));
        // Two pages at the least for each connection, and the buffers.
        assert!(kib("segment_kib") >= 80 && kib("stacks_kib") > 0, "{result}");
        assert!(kib("private_kib") >= if more.len() == 2 { 1536 } else { 512 }, "{result}");
        assert!(result["kib_per_connection"].as_f64().unwrap() >= 8.0, "{result}");
    }
}

#[test]
fn a_server_keeps_no_descriptor_of_connections_that_come_and_go() {
    let results = results(&["memory", "--quick", "--json", "--connections", "40", "--cycles", "3"]);
    let [result] = &results[..] else { panic!("{results:?}") };
    assert_eq!((result["connections"].as_u64(), result["cycles"].as_u64()), (Some(4), Some(3)));
    assert_eq!(result["with_idle_threads_kib"].as_array().unwrap().len(), 3);
    assert_eq!(result["descriptors_at_end"], result["descriptors_at_start"]);
    assert!(result["last_kib"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn idle_connections_are_watched_from_outside() {
    let results = results(&["idle", "--quick", "--json", "--connections", "5"]);
    let [result] = &results[..] else { panic!("{results:?}") };
    assert_eq!(result["connections"], 5);
    // On either side one for each connection, and the one that started them; the client's has another beside it until all
    // are connected.
    assert!((12..=13).contains(&result["threads"].as_u64().unwrap()), "{result}");
    for field in ["wakeups", "cpu_ms"] {
        assert!(result[field].as_u64().is_some(), "{field}: {result}");
    }
}

#[test]
fn without_json_the_same_is_printed_for_people() {
    let (success, stdout, _) = bench(&["rtt", "--quick", "--pin", "--runs", "1", "--blocks", "1"]);
    assert!(success && stdout.contains("ratio_p50"), "{stdout}");
}

#[test]
fn arguments_that_make_no_sense_are_explained() {
    for (arguments, words) in [
        (&["stream", "--size", "7"][..], "multiple of 8"),
        (&["stream", "--size", "65536", "--ring", "65536"], "takes records of"),
        (&["stream", "--size", "4294967288"], "too large"),
        (&["rtt", "--runs", "0"], "at least 1"),
        (&["bytes", "--size", "0"], "at least 1"),
        (&["rtt", "--mode", "fast"], "invalid value"),
        (&["rtt", "--layer", "call", "--size", "2000000"], "of 1 to"),
        (&["rtt", "--layer", "call", "--size", "0"], "of 1 to"),
        (&["many", "--window", "65"], "1 to 64"),
        (&["many", "--connections", "0"], "at least 1"),
        (&["many", "--size", "1073741824"], "too large for a ring"),
        (&["memory", "--further", "0"], "at least 1"),
        (&["memory", "--active", "--idle"], "cannot be used with"),
        (&["idle", "--seconds", "0"], "at least 1"),
    ] {
        let (success, _, stderr) = bench(arguments);
        assert!(!success && stderr.contains(words), "{arguments:?}: {stderr}");
    }
}
