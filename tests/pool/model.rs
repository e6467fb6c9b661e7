//! Random histories of one caller, against a model that any reader can check: after each step all figures agree.

use std::time::Duration;

use proptest::prelude::*;
use ringwire::{Client, ErrorKind, PooledClient};

use super::common::Watchdog;
use super::rig::Ends;

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    Release(usize),
    /// Gives one back with a request under way.
    ReleaseUnsettled(usize),
    Discard(usize),
    Detach(usize),
    /// The other end of a lent connection goes.
    BreakLent(usize),
    /// Of an idle one.
    BreakIdle(usize),
    ServerGoes,
    ServerComes,
    Maintain,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => Just(Step::Acquire),
        8 => (0..8_usize).prop_map(Step::Release),
        2 => (0..8_usize).prop_map(Step::ReleaseUnsettled),
        1 => (0..8_usize).prop_map(Step::Discard),
        1 => (0..8_usize).prop_map(Step::Detach),
        2 => (0..8_usize).prop_map(Step::BreakLent),
        2 => (0..8_usize).prop_map(Step::BreakIdle),
        1 => Just(Step::ServerGoes),
        2 => Just(Step::ServerComes),
        2 => Just(Step::Maintain),
    ];
    let end = prop_oneof![3 => Just(None), 1 => Just(Some(Step::Close))];
    (prop::collection::vec(step, 1..60), end).prop_map(|(mut steps, end)| {
        // What is lent may still come back afterwards.
        steps.extend(end);
        steps.extend([Step::Release(0), Step::Release(0), Step::Acquire]);
        steps
    })
}

/// What a pool is, naively: connections by their number.
#[derive(Debug, Default)]
struct Model {
    min: usize,
    max: usize,
    idle: Vec<usize>,
    lent: Vec<usize>,
    broken: Vec<usize>,
    is_closed: bool,
    server_is_gone: bool,
    created: usize,
    failed: u64,
    acquired: u64,
    timed_out: u64,
    closed_broken: u64,
    closed_unsettled: u64,
    taken_out: u64,
    shut: u64,
}

impl Model {
    fn open(&mut self) -> Result<usize, ErrorKind> {
        if self.server_is_gone {
            self.failed += 1;
            return Err(ErrorKind::ConnectionRefused);
        }
        self.created += 1;
        Ok(self.created - 1)
    }

    /// Whether who asks now waits.
    fn is_exhausted(&self) -> bool {
        self.lent.len() >= self.max && self.idle.iter().all(|number| self.broken.contains(number))
    }

    fn acquire(&mut self) -> Result<(), ErrorKind> {
        if self.is_closed {
            return Err(ErrorKind::Stopped);
        }
        while let Some(number) = self.idle.pop() {
            if !self.broken.contains(&number) {
                self.lent.push(number);
                self.acquired += 1;
                return Ok(());
            }
            self.closed_broken += 1;
        }
        if self.lent.len() >= self.max {
            self.timed_out += 1;
            return Err(ErrorKind::TimedOut);
        }
        let number = self.open()?;
        self.lent.push(number);
        self.acquired += 1;
        Ok(())
    }

    fn release(&mut self, number: usize) {
        if self.broken.contains(&number) {
            self.closed_broken += 1;
        } else if self.is_closed {
            self.shut += 1;
        } else {
            self.idle.push(number);
        }
    }

    fn maintain(&mut self) -> Result<(), ErrorKind> {
        while !self.is_closed && self.idle.len() + self.lent.len() < self.min {
            let number = self.open()?;
            self.idle.push(number);
        }
        Ok(())
    }

    fn close(&mut self) {
        self.is_closed = true;
        self.shut += self.idle.drain(..).count() as u64;
    }
}

fn compare(model: &Model, pool: &ringwire::ClientPool) -> Result<(), TestCaseError> {
    let found = pool.metrics();
    let size = model.idle.len() + model.lent.len();
    prop_assert_eq!((found.size, found.idle, found.in_use), (size, model.idle.len(), model.lent.len()));
    prop_assert_eq!((found.checking, found.opening, found.waiting), (0, 0, 0));
    prop_assert_eq!((found.created, found.failed), (model.created as u64, model.failed));
    prop_assert_eq!((found.acquired, found.timed_out), (model.acquired, model.timed_out));
    prop_assert!(found.wait_times.count() <= found.acquired);
    let closed = (found.closed.broken, found.closed.unsettled, found.closed.taken_out, found.closed.shut);
    prop_assert_eq!(closed, (model.closed_broken, model.closed_unsettled, model.taken_out, model.shut));
    // The identities that the documentation promises.
    prop_assert_eq!(found.size, found.idle + found.in_use + found.checking);
    prop_assert_eq!(found.created, found.size as u64 + found.closed.total());
    Ok(())
}

fn run(min: usize, max: usize, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let ends = Ends::default();
    let pool = ends.pool(min, max).check_interval(None).build().unwrap();
    let mut model = Model { min, max, ..Model::default() };
    model.maintain().unwrap();
    let mut held: Vec<PooledClient> = Vec::new();
    let mut detached: Vec<Client> = Vec::new();
    for step in steps {
        let pick = |which: usize, of: usize| which.checked_rem(of);
        match step {
            Step::Acquire => {
                let patience = Duration::from_millis(if model.is_exhausted() { 1 } else { 20_000 });
                let acquired = pool.acquire_within(patience).map(|client| held.push(client));
                prop_assert_eq!(acquired.map_err(|error| error.kind()), model.acquire());
            }
            Step::Release(which) => {
                let Some(at) = pick(which, held.len()) else { continue };
                drop(held.remove(at));
                let number = model.lent.remove(at);
                model.release(number);
            }
            Step::ReleaseUnsettled(which) => {
                let Some(at) = pick(which, held.len()) else { continue };
                if model.broken.contains(&model.lent[at]) {
                    continue;
                }
                let _ticket = held[at].submit(7, b"?").unwrap();
                drop(held.remove(at));
                model.lent.remove(at);
                model.closed_unsettled += 1;
            }
            Step::Discard(which) | Step::Detach(which) => {
                let Some(at) = pick(which, held.len()) else { continue };
                let client = held.remove(at);
                if matches!(step, Step::Detach(_)) {
                    detached.push(client.detach());
                } else {
                    client.discard();
                }
                model.lent.remove(at);
                model.taken_out += 1;
            }
            Step::BreakLent(which) | Step::BreakIdle(which) => {
                let of = if matches!(step, Step::BreakLent(_)) { &model.lent } else { &model.idle };
                let Some(at) = pick(which, of.len()) else { continue };
                ends.close(of[at]);
                model.broken.push(of[at]);
            }
            Step::ServerGoes | Step::ServerComes => {
                model.server_is_gone = matches!(step, Step::ServerGoes);
                ends.refuse(model.server_is_gone.then_some(ErrorKind::ConnectionRefused));
            }
            Step::Maintain => {
                prop_assert_eq!(pool.maintain().map_err(|error| error.kind()), model.maintain());
            }
            Step::Close => {
                pool.close();
                model.close();
            }
        }
        compare(&model, &pool)?;
    }
    Ok(())
}

#[test]
fn any_history_leaves_the_figures_that_the_model_has() {
    let _watchdog = Watchdog::lasting(Duration::from_secs(600));
    let cases = if super::is_long() { 10_000 } else { 200 };
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(min in 0..3_usize, more in 1..4_usize, steps in steps())| {
        run(min, min + more, steps)?;
    });
}
