//! The table at the end: both routes side by side.

use std::fmt::Write;
use std::time::Duration;

use super::pass::Outcome;

/// What the figures mean.
const NOTE: &str = "\
A file is one message, its answer another. A latency is the time from a file's first byte sent to its answer received.
All figures include reading the files, and counting and checksumming them on both sides, alike in both columns.
";
const LABEL_COLUMNS: usize = 16;
const VALUE_COLUMNS: usize = 18;
const QUANTILES: [(&str, f64); 4] = [("latency p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The table, with a column for each outcome.
pub fn render(outcomes: [&Outcome; 2]) -> String {
    let mut table = String::new();
    let mut row = |label: &str, [left, right]: [String; 2]| {
        // Writing to a String does not fail.
        let _ = writeln!(table, "{label:>LABEL_COLUMNS$}{left:>VALUE_COLUMNS$}{right:>VALUE_COLUMNS$}");
    };
    row("", outcomes.map(|outcome| outcome.name.to_owned()));
    row("files", outcomes.map(|outcome| grouped(outcome.files)));
    row("bytes", outcomes.map(|outcome| grouped(outcome.bytes)));
    row("failures", outcomes.map(|outcome| grouped(outcome.failures())));
    row("time", outcomes.map(|outcome| duration(outcome.elapsed)));
    row("messages/s", outcomes.map(|outcome| grouped(per_second(outcome.messages(), outcome))));
    row("GB/s", outcomes.map(|outcome| format!("{:.3}", per_second(outcome.bytes, outcome) as f64 / 1e9)));
    for (label, quantile) in QUANTILES {
        row(label, outcomes.map(|outcome| latency(outcome, outcome.latency_ns.value_at_quantile(quantile))));
    }
    row("max", outcomes.map(|outcome| latency(outcome, outcome.latency_ns.max())));
    table.push('\n');
    table.push_str(NOTE);
    table
}

fn per_second(count: u64, outcome: &Outcome) -> u64 {
    let per_second = u128::from(count) * 1_000_000_000 / outcome.elapsed.as_nanos().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

fn latency(outcome: &Outcome, ns: u64) -> String {
    if outcome.latency_ns.is_empty() { "-".to_owned() } else { duration(Duration::from_nanos(ns)) }
}

/// Three or four digits with their unit.
pub fn duration(duration: Duration) -> String {
    let ns = duration.as_nanos() as f64;
    let (value, unit) = match ns {
        ..1e3 => return format!("{ns} ns"),
        ..1e6 => (ns / 1e3, "us"),
        ..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// The number in groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that suits them; powers of ten, as in GB/s.
pub fn size(bytes: u64) -> String {
    match bytes as f64 {
        ..1e3 => format!("{bytes} bytes"),
        few @ ..1e6 => format!("{:.1} kB", few / 1e3),
        some @ ..1e9 => format!("{:.1} MB", some / 1e6),
        many => format!("{:.1} GB", many / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    fn outcome(name: &'static str, elapsed: Duration, latencies_ns: &[u64]) -> Outcome {
        let mut latency_ns = Histogram::new(3).unwrap();
        latencies_ns.iter().for_each(|ns| latency_ns.record(*ns).unwrap());
        let files = latencies_ns.len() as u64;
        Outcome { name, files, bytes: files * 1_000_000, different: 0, unreadable: 1, elapsed, latency_ns }
    }

    #[test]
    fn two_columns_are_aligned() {
        let left = outcome("ringwire", Duration::from_millis(2), &[900, 1_000, 12_300]);
        let right = outcome("Unix socket", Duration::from_secs(3), &[4_000_000; 3000]);
        let table = render([&left, &right]);
        let rows: Vec<&str> = table.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!(rows.len(), 12, "{table}");
        assert!(rows.iter().all(|row| row.len() == LABEL_COLUMNS + 2 * VALUE_COLUMNS), "{table}");
        let words = |row: usize| rows[row].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(1), "files 3 3,000");
        assert_eq!(words(2), "bytes 3,000,000 3,000,000,000");
        assert_eq!(words(3), "failures 1 1");
        assert_eq!(words(4), "time 2.00 ms 3.00 s");
        assert_eq!(words(5), "messages/s 3,000 2,000");
        assert_eq!(words(6), "GB/s 1.500 1.000");
        assert_eq!(words(7), "latency p50 1.00 us 4.00 ms");
        assert_eq!(words(11), "max 12.3 us 4.00 ms");
    }

    #[test]
    fn nothing_sent_is_no_division_by_zero() {
        let empty = outcome("ringwire", Duration::ZERO, &[]);
        let table = render([&empty, &empty]);
        assert!(!table.contains("NaN") && !table.contains("inf"), "{table}");
        assert!(table.contains("max                 -                 -\n"), "{table}");
    }

    #[test]
    fn numbers_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (ns, text) in
            [(0, "0 ns"), (999, "999 ns"), (1_500, "1.50 us"), (12_345, "12.3 us"), (123_456, "123 us")]
        {
            assert_eq!(duration(Duration::from_nanos(ns)), text);
        }
        for (bytes, text) in [(0, "0 bytes"), (1_500, "1.5 kB"), (1 << 20, "1.0 MB"), (300 << 30, "322.1 GB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
