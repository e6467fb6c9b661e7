//! Calls, instruction by instruction: how many there are, and that none of them locks memory.
//!
//! A mutex, a reference count, any read-modify-write takes an instruction that locks its line; a fence (`lock or` on the
//! stack) is none.

use nix::sys::ptrace;
use nix::unistd::Pid;

use super::common::{Watchdog, say, second, setting, told};
use super::scene::{ECHO, Here, STOP, TRACE, connect, second_server};
use super::traced::{breakpoint, code, step_through, trace_me, until_breakpoint};

/// The bar for either side, in optimised code.
const MAX_INSTRUCTIONS: u64 = 600;
/// Calls between the breakpoints: what comes once and not with each of them falls out of the difference.
const FEW: u64 = 2;
const MANY: u64 = 12;
const PAYLOAD: [u8; 64] = [7; 64];

/// What stepping through some calls has found.
#[derive(Debug, Default)]
struct Found {
    instructions: u64,
    locked: Vec<[u8; 8]>,
}

/// Whether the instruction that begins with these bytes locks memory, and is no fence.
fn locks(code: [u8; 8]) -> bool {
    // Registers above the eighth have a prefix in between.
    let xchg = |at: usize| matches!(code[at], 0x86 | 0x87) && code[at + 1] < 0xC0;
    match code {
        // lock or [rsp - n], 0; without n
        [0xF0, 0x83, 0x4C, 0x24, _, 0, ..] | [0xF0, 0x83, 0x0C, 0x24, 0, ..] => false,
        [0xF0, ..] | [0x66, 0xF0, ..] => true,
        [0x40..=0x4F, ..] => xchg(1),
        _ => xchg(0),
    }
}

/// From one breakpoint to the next.
fn step(thread: Pid) -> Found {
    let mut found = Found::default();
    found.instructions = step_through(thread, |address| {
        let code = code(thread, address);
        if locks(code) {
            found.locked.push(code);
        }
    });
    found
}

fn judge(side: &str, few: &Found, many: &Found) {
    let each = (many.instructions - few.instructions) / (MANY - FEW);
    println!("{side}: {each} instructions for a call of 64 bytes, {} locked", many.locked.len());
    assert_eq!(many.locked, [[0; 8]; 0], "{side}: instructions that lock memory");
    assert!(each > 50, "{side}: {few:?}, {many:?}");
    if !cfg!(debug_assertions) {
        assert!(each <= MAX_INSTRUCTIONS, "{side}: {each}");
    }
}

#[test]
fn what_locks_memory_is_known_from_what_does_not() {
    // lock cmpxchg, lock xadd, lock inc, xchg with memory, and with a register above the eighth.
    for code in [
        [0xF0, 0x0F, 0xB1, 0x0F],
        [0xF0, 0x48, 0x0F, 0xC1],
        [0xF0, 0xFF, 0x00, 0],
        [0x87, 0x07, 0, 0],
        [0x41, 0x87, 0x07, 0],
    ] {
        let [a, b, c, d] = code;
        assert!(locks([a, b, c, d, 0, 0, 0, 0]), "{code:x?}");
    }
    // The fence, mfence, mov, xchg of two registers.
    for code in [
        [0xF0, 0x83, 0x4C, 0x24, 0xC0, 0],
        [0xF0, 0x83, 0x0C, 0x24, 0, 0xC6],
        [0x0F, 0xAE, 0xF0, 0, 0, 0],
        [0x48, 0x89, 0xF0, 0, 0, 0],
        [0x48, 0x87, 0xD8, 0, 0, 0],
    ] {
        let [a, b, c, d, e, f] = code;
        assert!(!locks([a, b, c, d, e, f, 0, 0]), "{code:x?}");
    }
}

#[test]
fn a_servers_answer_locks_nothing() {
    let _watchdog = Watchdog::start();
    let (_directory, path) = super::common::scene::place();
    let second = second_server(&path, "spin");
    let mut client = connect(&path, "spin");
    for _ in 0..100 {
        client.call(ECHO, &PAYLOAD).unwrap();
    }
    let thread = Pid::from_raw(client.call(TRACE, &[]).unwrap().read().unwrap());
    let mut between = |calls: u64| {
        // The server is stopped by the first: it finds all others in the ring, and waits for none.
        let mut tickets = vec![client.submit(STOP, &[]).unwrap()];
        until_breakpoint(thread);
        tickets.extend((0..calls).map(|_| client.submit(ECHO, &PAYLOAD).unwrap()));
        tickets.push(client.submit(STOP, &[]).unwrap());
        let found = step(thread);
        ptrace::cont(thread, None).unwrap();
        for ticket in tickets {
            client.collect(ticket).unwrap();
        }
        found
    };
    // Once for nothing: code and tables that the loader binds at their first use.
    between(FEW);
    let (few, many) = (between(FEW), between(MANY));
    judge("server", &few, &many);
    client.notify(STOP, &[]).unwrap();
    until_breakpoint(thread);
    ptrace::detach(thread, None).unwrap();
    drop(client);
    second.join();
}

/// The second process: calls between breakpoints.
pub(crate) fn stepped() {
    let mut client = connect(setting("SOCKET").as_ref(), "spin");
    for _ in 0..100 {
        client.call(ECHO, &PAYLOAD).unwrap();
    }
    say(&trace_me().to_string());
    told();
    for calls in [FEW, FEW, MANY] {
        breakpoint();
        for _ in 0..calls {
            let mut copy = [0; 64];
            client.call(ECHO, &PAYLOAD).unwrap().payload().copy_to(&mut copy);
            assert_eq!(copy, PAYLOAD);
        }
    }
    breakpoint();
}

#[test]
fn a_clients_call_locks_nothing() {
    let _watchdog = Watchdog::start();
    let here = Here::start("spin");
    let mut second = second("stepped", &[("SOCKET", here.path.to_str().unwrap())]);
    let thread = Pid::from_raw(second.hear().parse().unwrap());
    second.tell("go");
    until_breakpoint(thread);
    step(thread);
    let (few, many) = (step(thread), step(thread));
    ptrace::detach(thread, None).unwrap();
    second.join();
    judge("client", &few, &many);
}
