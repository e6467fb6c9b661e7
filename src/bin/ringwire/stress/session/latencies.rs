//! How long each kind of request took.

use std::error::Error;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// What is timed, by name.
pub const KINDS: [&str; 7] =
    ["completion", "cancellation", "first_token", "chat", "file", "first_after_rest", "burst"];
/// Upper ends of the classes in microseconds.
const CLASSES_US: [u64; 11] = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];
const MAX_NS: u64 = 60_000_000_000;

/// Of one window, or of all.
#[derive(Debug)]
pub struct Latencies {
    histograms: Vec<Histogram<u64>>,
    pub cancelled: u64,
    pub left_early: u64,
    pub bytes: u64,
    pub wrong: u64,
    pub failures: u64,
}

impl Latencies {
    pub fn new() -> Result<Self, Box<dyn Error>> {
        let histograms = KINDS.iter().map(|_| Histogram::new_with_bounds(1000, MAX_NS, 2));
        let histograms = histograms.collect::<Result<_, _>>()?;
        Ok(Self { histograms, cancelled: 0, left_early: 0, bytes: 0, wrong: 0, failures: 0 })
    }

    /// Counts one of `kind`.
    pub fn record(&mut self, kind: &str, took: Duration) {
        for (name, histogram) in KINDS.iter().zip(&mut self.histograms) {
            if *name == kind {
                histogram.saturating_record(took.as_nanos() as u64);
            }
        }
    }

    /// Adds those of another window.
    pub fn add(&mut self, other: &Self) -> Result<(), Box<dyn Error>> {
        for (histogram, added) in self.histograms.iter_mut().zip(&other.histograms) {
            histogram.add(added)?;
        }
        self.cancelled += other.cancelled;
        self.left_early += other.left_early;
        self.bytes += other.bytes;
        self.wrong += other.wrong;
        self.failures += other.failures;
        Ok(())
    }

    /// Quantiles in microseconds, and how many took how long at most.
    pub fn summary(&self, kind: &str) -> Value {
        let Some((_, histogram)) = KINDS.iter().zip(&self.histograms).find(|(name, _)| **name == kind) else {
            return Value::Null;
        };
        let us = |quantile| histogram.value_at_quantile(quantile) / 1000;
        let (mut classes, mut below) = (Map::new(), 0);
        for end in CLASSES_US {
            let now = histogram.count_between(0, end * 1000);
            if now > below {
                classes.insert(format!("to_{end:07}_us"), (now - below).into());
            }
            below = now.max(below);
        }
        json!({
            "count": histogram.len(), "p50_us": us(0.5), "p90_us": us(0.9), "p99_us": us(0.99),
            "max_us": if histogram.is_empty() { 0 } else { histogram.max() / 1000 }, "histogram": classes,
        })
    }
}
