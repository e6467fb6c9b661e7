//! The matrix as the documentation shows it: `src/transport/crash_matrix.md` is what the tests check, word for word.

use std::fmt::Write;

use ringwire::ErrorKind;
use ringwire::sync::failpoint::Failpoint;

use super::handshakes::{Accepted, CLIENTS, SERVERS};
use super::rows::{Closed, ROWS, Row, Wait};

const DOCUMENTED: &str = include_str!("../../src/transport/crash_matrix.md");

fn place(at: Failpoint) -> String {
    let (_, what) = Failpoint::ALL.iter().find(|(known, _)| *known == at).unwrap();
    format!("{} (`{at:?}`)", what.trim())
}

fn wait_name(wait: Wait) -> &'static str {
    match wait {
        Wait::Spin => "spin",
        Wait::Futex => "futex",
        Wait::Lifeline => "lifeline",
        Wait::Room => "room",
        Wait::RoomSpin => "room spinning",
        Wait::Away => "none",
    }
}

fn data_row(row: &Row) -> String {
    let nth = if row.passage > 1 { format!(", passage {}", row.passage) } else { String::new() };
    let waits: Vec<_> = row.waits.iter().map(|wait| wait_name(*wait)).collect();
    let waits = if waits.len() == 6 { "all six".to_owned() } else { waits.join(", ") };
    let seen = match row.seen {
        0 => "nothing".to_owned(),
        1 => "the message".to_owned(),
        count => format!("{count} messages"),
    };
    let then = match row.closed {
        Closed::Nothing => "peer died",
        Closed::Sending => "receive: peer closed; send: peer died",
        Closed::Both => "peer closed",
    };
    format!("| {} | {}{nth} | {waits} | {seen} | {then} |\n", row.doing, place(row.at))
}

fn kind_name(kind: ErrorKind) -> String {
    format!("[`{kind:?}`](crate::ErrorKind::{kind:?})")
}

fn table() -> String {
    let mut text = String::new();
    text.push_str("| killed while it does | behind this step | peer's wait | peer receives of it | then |\n");
    text.push_str("|---|---|---|---|---|\n");
    ROWS.iter().for_each(|row| text.push_str(&data_row(row)));
    text.push_str("\n| client killed behind this step | the server's `accept` |\n|---|---|\n");
    for (at, accepted) in CLIENTS {
        let outcome = match accepted {
            Accepted::No => "goes on, there is no connection",
            Accepted::Perhaps => "goes on; a connection, if there is one, says *peer died*",
            Accepted::Dead => "goes on, the connection says *peer died*",
        };
        writeln!(text, "| {} | {outcome} |", place(*at)).unwrap();
    }
    text.push_str(
        "\n| server killed behind this step | the client that connects meanwhile | one that comes later |\n",
    );
    text.push_str("|---|---|---|\n");
    for (at, _, waiting, later) in SERVERS {
        let waiting = waiting.map_or_else(|| "none".to_owned(), kind_name);
        writeln!(text, "| {} | {waiting} | {} |", place(*at), kind_name(*later)).unwrap();
    }
    text
}

#[test]
fn the_documented_matrix_is_the_tested_one() {
    let table = table();
    if std::env::var_os("RINGWIRE_KILL_TABLE").is_some() {
        println!("{table}");
    }
    assert!(DOCUMENTED.ends_with(&table), "write it anew: RINGWIRE_KILL_TABLE=1, with --nocapture");
}

#[test]
fn every_failpoint_has_a_row() {
    for (at, _) in Failpoint::ALL {
        let tested = ROWS.iter().any(|row| row.at == *at)
            || CLIENTS.iter().any(|row| row.0 == *at)
            || SERVERS.iter().any(|row| row.0 == *at);
        assert!(tested, "{at:?}");
    }
}
