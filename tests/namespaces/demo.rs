//! `ringwire demo` with its two processes in different namespaces.

use std::fs;
use std::process::{Command, Output, Stdio};

use super::Host;
use super::common::namespaces::{Plan, are_forbidden};
use super::common::{Second, Watchdog, bytes};
use super::kinds_of_containers;

const RINGWIRE: &str = env!("CARGO_BIN_EXE_ringwire");

fn container(host: &Host, in_user_namespace: bool) -> (Plan, String) {
    let (plan, inside) = host.container();
    let plan = if in_user_namespace { plan.in_user_namespace(Some(0)) } else { plan };
    (plan, inside.to_str().unwrap().to_owned())
}

/// The demo's server in a container, if the machine allows one.
fn server(host: &Host, in_user_namespace: bool) -> Option<Second> {
    let (plan, inside) = container(host, in_user_namespace);
    let mut command = Command::new(RINGWIRE);
    command.args(["peer", "demo", &inside]).stdin(Stdio::null());
    plan.apply(&mut command);
    match Second::start(&mut command) {
        Ok(second) => Some(second),
        Err(error) if are_forbidden(&error) => None,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn assert_passed(output: &Output, what: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{what}: {}\n{text}", output.status);
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
    fs::write(files.path().join("large"), bytes(3, (3 << 20) + 4321)).unwrap();
    let files = files.path().to_str().unwrap();

    for (kind, user) in kinds_of_containers() {
        let host = Host::new();
        let Some(inside) = server(&host, user) else { return };
        let shared = host.shared();
        let mut outside = Command::new(RINGWIRE);
        outside.args(["demo", files, "--server-at"]).arg(&shared).stdin(Stdio::null());
        assert_passed(&outside.output().unwrap(), &format!("client outside, server {kind}"));
        inside.join();
        host.remove_plain_socket();

        let Some(inside) = server(&host, user) else { return };
        let (plan, socket_directory) = container(&host, user);
        let mut client = Command::new(RINGWIRE);
        client.args(["demo", files, "--server-at", &socket_directory]).stdin(Stdio::null());
        plan.apply(&mut client);
        assert_passed(&client.output().unwrap(), &format!("client and server each {kind}"));
        inside.join();
        host.remove_plain_socket();
        host.assert_nothing_left();
    }
}
