//! Each row, in each kind of wait.

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use nix::sys::signal::Signal;
use ringwire::Listener;

use super::common::{Second, Watchdog, second};
use super::rows::{ROWS, Row, Wait};
use super::survivor::{Survivor, held};
use super::{alone, runs};

/// A reader between two slices of its sleep is not woken, so the victim does not come by: another try.
const TRIES: u64 = 20;
/// They sleep most of the time.
const WORKERS: usize = 3;

/// Waits for the victim's end: whether it was the SIGKILL at its failpoint, or it did not come by.
pub(crate) fn was_killed(victim: &mut Second) -> bool {
    let (said, status) = victim.end();
    let survived = said.contains("@survived");
    assert!(survived || status.signal() == Some(Signal::SIGKILL as i32), "{status}: {said}");
    !survived
}

/// Does for the victim what it asks for, until it is ready.
fn serve(victim: &mut Second, survivor: &mut Survivor) {
    loop {
        let said = victim.hear();
        match said.split_once(' ') {
            Some(("take", total)) => survivor.take(total.parse().unwrap()),
            Some(("send", count)) => survivor.send(count.parse().unwrap()),
            _ => break assert_eq!(said, "ready"),
        }
        victim.tell("done");
    }
}

/// One run; whether the victim was killed where it should be, and the survivor waited as it should.
fn run(listener: &mut Listener, row: &Row, wait: Wait, run: u64) -> bool {
    let settings = [
        ("SOCKET", listener.path().to_str().unwrap().to_owned()),
        ("DOING", row.doing.to_owned()),
        ("FAILPOINT", format!("{:?}", row.at)),
        ("PASSAGE", row.passage.to_string()),
        ("RUN", run.to_string()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut victim = second("victim", &settings);
    let mut survivor = Survivor::new(listener.accept().unwrap());
    serve(&mut victim, &mut survivor);
    let received = survivor.received;
    let waiting = survivor.begin(wait);
    let waits = waiting.until_it_waits();
    victim.tell("go");
    let killed = was_killed(&mut victim);
    let mut survivor = waiting.end().survivor;
    let ends = survivor.ends();
    if run == 0 {
        assert_eq!(survivor.ends(), ends, "for good");
    }
    if killed {
        assert_eq!(survivor.received - received, row.seen, "messages seen");
        assert_eq!(ends, row.closed.ends());
    }
    drop((survivor, victim));
    assert_eq!(listener.connections(), 0);
    killed && waits
}

/// One run of one case after the other, until there is no more.
fn work(cases: &Mutex<impl Iterator<Item = (Row, Wait, u64)>>, path: &Path) {
    let mut listener = Listener::bind(path).unwrap();
    loop {
        let next = cases.lock().unwrap().next();
        let Some((row, wait, number)) = next else { return };
        let _watchdog = Watchdog::start();
        let mut once = || run(&mut listener, &row, wait, number);
        let outcome = catch_unwind(AssertUnwindSafe(|| (0..TRIES).any(|_| once())));
        assert!(
            outcome.is_ok_and(|killed| killed),
            "failed, or never came by: {row:?}, {wait:?}, run {number}"
        );
    }
}

fn run_rows(rows: impl Iterator<Item = Row> + Send) {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let before = held();
    let cases = rows.flat_map(|row| {
        row.waits.iter().flat_map(move |wait| (0..runs()).map(move |number| (row, *wait, number)))
    });
    let cases = Mutex::new(cases);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (cases, path) = (&cases, directory.path().join(format!("{worker}.sock")));
            scope.spawn(move || work(cases, &path));
        }
    });
    assert_eq!(held(), before, "descriptors and mappings");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "files left");
}

fn is_any(row: &Row, doing: &[&str]) -> bool {
    doing.contains(&row.doing)
}

const SENDING: &[&str] = &["send", "slot", "batch of 3"];
const AROUND: &[&str] =
    &["restart", "batch of 2 around the end", "going idle after a burst", "send after a burst"];

#[test]
fn killed_while_it_sends() {
    run_rows(ROWS.iter().filter(|row| is_any(row, SENDING)).copied());
}

#[test]
fn killed_at_a_restart_at_the_end_of_a_lap_and_while_trimming() {
    run_rows(ROWS.iter().filter(|row| is_any(row, AROUND)).copied());
}

#[test]
fn killed_while_it_waits_receives_or_closes() {
    run_rows(ROWS.iter().filter(|row| !is_any(row, SENDING) && !is_any(row, AROUND)).copied());
}
