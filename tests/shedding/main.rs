//! Load shedding over real connections: what is refused, what is not, what the client hears, and what is counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../server/caller.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod caller;
#[path = "../common/mod.rs"]
mod common;

mod bucket;
mod in_flight;
mod queue_time;
mod rate;
mod token;

use std::time::Duration;

use caller::Serving;
use ringwire::wire::Status;
use ringwire::{Client, Error};

/// A type that the tests' servers know.
const WORK: u16 = 7;

#[test]
fn child_entry() {
    common::child_entry(&[("stranger", rate::stranger)]);
}

fn client(serving: &Serving) -> Client {
    Client::connect(&serving.path).unwrap()
}

/// What a refused call says: its status and when to retry.
#[track_caller]
fn refused<T>(result: Result<T, Error>) -> (Status, Option<Duration>) {
    let Err(error) = result else { panic!("served") };
    (error.status().unwrap_or_else(|| panic!("{error}")), error.retry_after())
}
