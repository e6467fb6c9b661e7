//! The measurements: benchmarks of this program in short form, a test, and a report.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::Finding;

const MAX_MEMORY_KIB: u64 = 3 << 10;
const MAX_LATENCY_NS: u64 = 10_000;
const MIN_ANSWERS_PER_S: f64 = 1e6;
const MIN_CONNECTIONS: u64 = 1_000;
const MIN_COVERAGE_PERCENT: f64 = 90.0;
/// Where `.ci/coverage` leaves its report.
const COVERAGE_REPORT: &str = "target/coverage.json";
const ALLOCATIONS_TEST: [&str; 7] =
    ["test", "--quiet", "--test", "call_costs", "allocations", "--", "--nocapture"];

/// What has been measured, for criteria that share it.
pub struct Findings {
    quick: bool,
    many: Option<(Value, String)>,
    round_trip: Option<(Value, String)>,
}

impl Findings {
    pub fn new(quick: bool) -> Self {
        Self { quick, many: None, round_trip: None }
    }

    pub fn is_quick(&self) -> bool {
        self.quick
    }

    /// A benchmark's last result, and the command that it is of.
    fn bench(&self, words: &str) -> Result<(Value, String), Box<dyn Error>> {
        let quick = if self.quick { " --quick" } else { "" };
        let words = format!("bench {words}{quick} --json");
        let mut command = Command::new(env::current_exe()?);
        let Output { status, stdout, stderr } =
            command.args(words.split_whitespace()).stdin(Stdio::null()).output()?;
        let command = format!("ringwire {words}");
        if !status.success() {
            let stderr = String::from_utf8_lossy(&stderr);
            return Err(format!("{command}: {status}: {}", stderr.trim()).into());
        }
        let stdout = String::from_utf8(stdout)?;
        let last = stdout.lines().last().ok_or_else(|| format!("{command} prints nothing"))?;
        Ok((serde_json::from_str(last)?, command))
    }

    pub fn memory(&self) -> Result<Finding, Box<dyn Error>> {
        let (found, command) = self.bench("memory --connections 100 --active")?;
        let [total, private, segments] =
            [&found["total_kib"], &found["private_kib"], &found["segment_kib"]].map(Value::as_u64);
        let total = total.ok_or("no total_kib")?;
        let measured = format!(
            "{total} KiB ({} private, {} of rings) with {} connections, layer {}",
            private.unwrap_or(0),
            segments.unwrap_or(0),
            found["connections"],
            found["layer"]
        );
        Ok(Finding::judged(total < MAX_MEMORY_KIB, measured, command))
    }

    /// Round trips of a call, both sides spinning.
    pub fn round_trip(&mut self) -> Result<(Value, String), Box<dyn Error>> {
        if self.round_trip.is_none() {
            self.round_trip = Some(self.bench("rtt --layer call --pin --runs 1")?);
        }
        self.round_trip.clone().ok_or_else(|| "measured above".into())
    }

    pub fn latency(&mut self) -> Result<Finding, Box<dyn Error>> {
        let (found, command) = self.round_trip()?;
        let [p50, p99] = [&found["p50_ns"], &found["p99_ns"]].map(Value::as_u64);
        let (p50, p99) = p50.zip(p99).ok_or("no p50_ns, p99_ns")?;
        let measured = format!("p50 {p50} ns, p99 {p99} ns, 64 bytes, both sides spinning");
        Ok(Finding::judged(p50.max(p99) < MAX_LATENCY_NS, measured, command))
    }

    fn many(&mut self) -> Result<(Value, String), Box<dyn Error>> {
        if self.many.is_none() {
            self.many =
                Some(self.bench("many --connections 1000 --messages 1000 --size 1024 --window 16 --runs 1")?);
        }
        self.many.clone().ok_or_else(|| "measured above".into())
    }

    pub fn throughput(&mut self) -> Result<Finding, Box<dyn Error>> {
        let (found, command) = self.many()?;
        let per_s = found["msgs_per_s"].as_f64().ok_or("no msgs_per_s")?;
        let measured = format!("{per_s:.0} answers/s of {} bytes, window {}", found["size"], found["window"]);
        Ok(Finding::judged(per_s > MIN_ANSWERS_PER_S && is_whole(&found), measured, command))
    }

    pub fn connections(&mut self) -> Result<Finding, Box<dyn Error>> {
        let (found, command) = self.many()?;
        let connections = found["connections"].as_u64().ok_or("no connections")?;
        let measured = format!(
            "{connections} connections, {} requests each: {} lost, {} out of order",
            found["messages"], found["lost"], found["reordered"]
        );
        Ok(Finding::judged(connections >= MIN_CONNECTIONS && is_whole(&found), measured, command))
    }
}

fn is_whole(found: &Value) -> bool {
    found["lost"] == 0 && found["reordered"] == 0
}

/// The source tree, if this runs inside of it.
fn source_tree() -> Option<PathBuf> {
    let root = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).or_else(|| env::current_dir().ok())?;
    root.join("tests/call_costs/main.rs").is_file().then_some(root)
}

/// By the tests' counting allocator: a program cannot count those of another one.
pub fn allocations() -> Result<Finding, Box<dyn Error>> {
    let command = format!("cargo {}", ALLOCATIONS_TEST.join(" "));
    let Some(root) = source_tree() else {
        return Ok(Finding::not_yet("run it in the source tree", command));
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ran = Command::new(cargo).args(ALLOCATIONS_TEST).current_dir(root).stdin(Stdio::null()).output();
    let Ok(Output { status, stdout, .. }) = ran else {
        return Ok(Finding::not_yet("there is no cargo here", command));
    };
    let stdout = String::from_utf8_lossy(&stdout);
    let counted: Vec<&str> =
        stdout.lines().filter_map(|line| line.split_once("allocations in ")).map(|(_, of)| of).collect();
    if counted.is_empty() {
        return Err(format!("{command}: {status}, and no count").into());
    }
    let measured = format!("(client, server) {}", counted.join("; "));
    Ok(Finding::judged(status.success(), measured, command))
}

/// By the report that `.ci/coverage` has left.
pub fn coverage() -> Result<Finding, Box<dyn Error>> {
    const COMMAND: &str = ".ci/coverage";
    let Some(root) = source_tree() else {
        return Ok(Finding::not_yet("run it in the source tree", COMMAND));
    };
    let Ok(report) = fs::read_to_string(root.join(COVERAGE_REPORT)) else {
        return Ok(Finding::not_yet(format!("no {COVERAGE_REPORT}"), COMMAND));
    };
    let (covered, lines) = lines_below(&serde_json::from_str(&report)?, &root.canonicalize()?.join("src"))?;
    let percent = 100.0 * covered as f64 / lines as f64;
    let age =
        fs::metadata(root.join(COVERAGE_REPORT))?.modified().map(|at| SystemTime::now().duration_since(at));
    let hours = age.ok().and_then(Result::ok).map_or(0, |age: Duration| age.as_secs() / 3600);
    let measured = format!("{percent:.2} % of {lines} lines, in a report {hours} h old");
    Ok(Finding::judged(percent > MIN_COVERAGE_PERCENT, measured, COMMAND))
}

/// Lines covered, and all, of the files below `sources`.
fn lines_below(report: &Value, sources: &Path) -> Result<(u64, u64), Box<dyn Error>> {
    let files = report["data"][0]["files"].as_array().ok_or("a coverage report without files")?;
    let (mut covered, mut lines) = (0, 0);
    for file in files {
        if file["filename"].as_str().is_some_and(|name| Path::new(name).starts_with(sources)) {
            let counts = &file["summary"]["lines"];
            covered += counts["covered"].as_u64().ok_or("a file without covered lines")?;
            lines += counts["count"].as_u64().ok_or("a file without lines")?;
        }
    }
    if lines == 0 { Err("a coverage report of other files".into()) } else { Ok((covered, lines)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_is_that_of_the_sources_alone() {
        let file = |name: &str, covered: u64| {
            let lines = serde_json::json!({"count": 10, "covered": covered});
            serde_json::json!({"filename": name, "summary": {"lines": lines}})
        };
        let files = vec![file("/a/src/x.rs", 9), file("/a/src/y/z.rs", 10), file("/a/tests/t.rs", 1)];
        let report = serde_json::json!({"data": [{"files": files}]});
        assert_eq!(lines_below(&report, Path::new("/a/src")).unwrap(), (19, 20));
        assert!(lines_below(&report, Path::new("/b/src")).is_err());
        assert!(lines_below(&Value::Null, Path::new("/a/src")).is_err());
    }
}
