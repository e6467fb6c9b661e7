//! Spinning, a call makes no system call, on either side, but for a look at the lifeline where a wait lasts 5 ms.

use std::collections::BTreeMap;
use std::time::Instant;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use super::common::{Watchdog, say, second, setting, told};
use super::scene::{ECHO, STOP, TRACE, connect, second_server};
use super::traced::{breakpoint, trace_me, until_breakpoint, wait};

/// The bar, for a million calls.
const MAX_SYSTEM_CALLS: u64 = 100;
const SHORT_FORM: u64 = 100_000;
/// Waits that last look at the lifeline this often.
const LOOK_MS: u64 = 5;

fn calls() -> u64 {
    std::env::var("RINGWIRE_CALLS").map_or(SHORT_FORM, |text| text.parse().unwrap())
}

/// The client's process.
pub(crate) fn calling() {
    let mut client = connect(setting("SOCKET").as_ref(), "spin");
    for _ in 0..100 {
        client.call(ECHO, &[7; 64]).unwrap();
    }
    let server: i32 = client.call(TRACE, &[]).unwrap().read().unwrap();
    say(&format!("{server} {}", trace_me()));
    told();
    breakpoint();
    client.notify(STOP, &[]).unwrap();
    for _ in 0..calls() {
        client.call(ECHO, &[7; 64]).unwrap();
    }
    breakpoint();
    client.notify(STOP, &[]).unwrap();
    // Its end belongs to who has started it, and not to who waits for its thread.
    told();
}

/// Lets both threads run from their first breakpoint to their second; counts their system calls by number.
fn count_system_calls(server: Pid, client: Pid) -> [BTreeMap<u64, u64>; 2] {
    let threads = [server, client];
    let mut counts = [BTreeMap::new(), BTreeMap::new()];
    let (mut inside, mut left) = ([false; 2], 2);
    while left > 0 {
        let status = wait(None);
        let index = threads.iter().position(|thread| Some(*thread) == status.pid()).unwrap();
        match status {
            WaitStatus::PtraceSyscall(thread) => {
                inside[index] = !inside[index];
                if inside[index] {
                    let number = ptrace::getregs(thread).unwrap().orig_rax;
                    *counts[index].entry(number).or_insert(0) += 1;
                }
                ptrace::syscall(thread, None).unwrap();
            }
            WaitStatus::Stopped(thread, Signal::SIGTRAP) => {
                left -= 1;
                ptrace::detach(thread, None).unwrap();
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    counts
}

#[test]
fn a_million_calls_make_next_to_no_system_calls() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = super::common::scene::place();
    let serving = second_server(&path, "spin");
    let mut calling = second("calling", &[("SOCKET", path.to_str().unwrap())]);
    let heard = calling.hear();
    let (server, client) = heard.split_once(' ').unwrap();
    let [server, client] = [server, client].map(|id| Pid::from_raw(id.parse().unwrap()));
    calling.tell("go");
    until_breakpoint(client);
    ptrace::setoptions(client, Options::PTRACE_O_TRACESYSGOOD).unwrap();
    ptrace::syscall(client, None).unwrap();
    until_breakpoint(server);
    ptrace::setoptions(server, Options::PTRACE_O_TRACESYSGOOD).unwrap();
    let started = Instant::now();
    ptrace::syscall(server, None).unwrap();
    let counts = count_system_calls(server, client);
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap();
    println!(
        "system calls of {} calls in {elapsed_ms} ms, by number, server and client: {counts:?}",
        calls()
    );
    for (side, counts) in ["server", "client"].iter().zip(&counts) {
        let (looks, others) = counts.iter().fold((0, 0), |(looks, others), (number, count)| {
            if *number == libc::SYS_poll as u64 { (looks + count, others) } else { (looks, others + count) }
        });
        // Whoever shares the cores with others waits for who has none, and looks meanwhile.
        assert!(others == 0 && looks <= MAX_SYSTEM_CALLS + elapsed_ms / LOOK_MS, "{side}: {counts:?}");
    }
    calling.tell("end");
    calling.join();
    serving.join();
}
