//! `ringwire demo` with its two processes in different namespaces.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Host;
use super::common::namespaces::are_forbidden;
use super::common::{Second, Watchdog, bytes};
use super::kinds_of_containers;

const RINGWIRE: &str = env!("CARGO_BIN_EXE_ringwire");

/// `ringwire` with these arguments and the directory of the sockets, in a container, or, where the machine allows none,
/// outside of any.
fn run(host: &Host, in_user_namespace: bool, arguments: &[&str]) -> Second {
    let ringwire = |directory: &Path| {
        let mut command = Command::new(RINGWIRE);
        command.args(arguments).arg(directory).stdin(Stdio::null());
        command
    };
    let (plan, inside) = host.container();
    let plan = if in_user_namespace { plan.in_user_namespace(Some(0)) } else { plan };
    let mut command = ringwire(&inside);
    plan.apply(&mut command);
    match Second::start(&mut command) {
        Ok(second) => second,
        Err(error) if are_forbidden(&error) => Second::start(&mut ringwire(&host.shared())).unwrap(),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn assert_passed(client: Second, what: &str) {
    let text = client.finish();
    let row = |label: &str| {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.into_iter().find(|words| words.first() == Some(&label)).unwrap_or_else(|| panic!("{text}"))
    };
    assert_eq!(row("failures")[1..], ["0", "0"], "{what}: {text}");
    assert_eq!(row("files")[1..], ["3", "3"], "{what}: {text}");
}

#[test]
fn the_demo_passes_across_namespaces() {
    let _watchdog = Watchdog::start();
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("empty"), b"").unwrap();
    fs::write(files.path().join("small"), b"some words\n").unwrap();
    fs::write(files.path().join("large"), bytes(3, 700_001)).unwrap();
    let files = files.path().to_str().unwrap();

    for (kind, user) in kinds_of_containers() {
        let host = Host::new();
        let client = ["demo", files, "--server-at"];
        for client_is_inside in [false, true] {
            let server = run(&host, user, &["peer", "demo"]);
            if client_is_inside {
                assert_passed(run(&host, user, &client), &format!("client and server each {kind}"));
            } else {
                let mut outside = Command::new(RINGWIRE);
                outside.args(client).arg(host.shared()).stdin(Stdio::null());
                let outside = Second::start(&mut outside).unwrap();
                assert_passed(outside, &format!("client outside, server {kind}"));
            }
            server.join();
            host.remove_plain_socket();
        }
        host.assert_nothing_left();
    }
}
