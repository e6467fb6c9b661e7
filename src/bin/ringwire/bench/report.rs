//! Samples, and how they are printed.

use std::io::{self, Write};

use serde_json::Value;

/// Durations in nanoseconds.
#[derive(Debug, Default)]
pub struct Samples {
    ns: Vec<u64>,
}

impl Samples {
    /// Room for `count`, so that none is made while measuring.
    pub fn with_capacity(count: usize) -> Self {
        Self { ns: Vec::with_capacity(count) }
    }

    /// Adds one.
    #[inline]
    pub fn push(&mut self, ns: u64) {
        self.ns.push(ns);
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.ns.extend_from_slice(&other.ns);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.ns.clear();
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ns.len()
    }

    /// The value that `per_mille` of the samples do not exceed; 0 without samples.
    pub fn quantile(&mut self, per_mille: usize) -> u64 {
        if self.ns.is_empty() {
            return 0;
        }
        self.ns.sort_unstable();
        let rank = (self.ns.len() * per_mille).div_ceil(1000);
        self.ns[rank.clamp(1, self.ns.len()) - 1]
    }

    /// The share of samples (0 to 1) below `ns`.
    pub fn share_below(&self, ns: u64) -> f64 {
        self.count_below(ns) as f64 / self.ns.len().max(1) as f64
    }

    /// How many samples are below `ns`.
    pub fn count_below(&self, ns: u64) -> usize {
        self.ns.iter().filter(|sample| **sample < ns).count()
    }
}

/// The middle value; 0 without values.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// Three digits behind the point are more than any clock here gives; what is below a tenth keeps some of its own.
pub fn rounded(value: f64) -> f64 {
    let scale = if value.abs() < 0.1 { 1e6 } else { 1e3 };
    (value * scale).round() / scale
}

/// Prints one result: as a line of JSON, or as a row for each field.
pub fn print(json: bool, result: &Value) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let Value::Object(fields) = result else { return Ok(()) };
    if json {
        return writeln!(output, "{result}");
    }
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields {
        writeln!(output, "{name:width$}  {value}")?;
    }
    writeln!(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_medians_are_values_that_occur() {
        let mut samples = Samples::default();
        assert_eq!(samples.quantile(500), 0);
        for ns in (1..=100).rev() {
            samples.push(ns);
        }
        assert_eq!(
            [0, 500, 990, 999, 1000].map(|per_mille| samples.quantile(per_mille)),
            [1, 50, 99, 100, 100]
        );
        assert!((samples.share_below(51) - 0.5).abs() < 1e-9);
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0f64.to_bits());
        assert_eq!(median(&[]).to_bits(), 0.0f64.to_bits());
    }
}
