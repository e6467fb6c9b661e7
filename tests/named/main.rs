//! Named rings, between real processes wherever one has to live or to die on its own.
//!
//! `RINGWIRE_NAMED_ROUNDS=n` multiplies the rounds of killing creators and openers by `n`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests end by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod deaths;
mod memory;
mod objects;
mod owners;
mod traffic;

use common::scene::{STRATEGIES, event, strategy};
use std::path::PathBuf;
use std::{fs, process};

use nix::sys::mman::shm_unlink;
use ringwire::sync::Counter;
use ringwire::{Error, ErrorKind, NamedMessage, NamedReceiver, NamedSender};

#[test]
fn child_entry() {
    common::child_entry(&[
        ("owner", owners::owner),
        ("racer", owners::racer),
        ("maker", owners::maker),
        ("opener", owners::opener),
        ("hasty opener", owners::hasty_opener),
        ("sender", traffic::sender),
        ("waiter", deaths::waiter),
        ("full", memory::full),
        ("limited", memory::limited),
    ]);
}

const RING: u32 = 4096;

#[track_caller]
fn kind<T>(result: Result<T, Error>) -> ErrorKind {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.kind(),
    }
}

/// A name of this test's own, at which nothing is left behind.
struct Name(String);

impl Name {
    fn new() -> Self {
        static COUNT: Counter = Counter::new(0);
        Self(format!("/ringwire-test-{}-{}", process::id(), COUNT.add(1)))
    }

    /// Where the system keeps what has this name.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm{}", self.0))
    }

    fn is_free(&self) -> bool {
        fs::symlink_metadata(self.path()).is_err()
    }

    #[track_caller]
    fn assert_free(&self) {
        assert!(self.is_free(), "{} is left behind", self.0);
    }
}

impl std::ops::Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // Of a test that failed.
        let _ = shm_unlink(self.0.as_str());
    }
}

const fn goes_to_another_thread<T: Send + std::fmt::Debug>() {}
const fn is_shared_between_threads<T: Sync>() {}

const _: () = {
    goes_to_another_thread::<NamedSender>();
    goes_to_another_thread::<NamedReceiver>();
    goes_to_another_thread::<NamedMessage<'_>>();
    is_shared_between_threads::<NamedSender>();
    is_shared_between_threads::<NamedReceiver>();
};
