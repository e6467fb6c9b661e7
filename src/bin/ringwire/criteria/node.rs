//! Node's own inter-process communication, beside which ours is measured.

use std::error::Error;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Finding;
use super::measure::Findings;

const MIN_TIMES_FASTER: f64 = 10.0;
const ROUND_TRIPS: u32 = 20_000;
const QUICK_ROUND_TRIPS: u32 = 200;

/// A parent and a child of `child_process`, and a string of 64 bytes there and back, one at a time; the first half of the
/// round trips is for its compiler to get warm.
const SCRIPT: &str = r"
const count = Number(process.argv[1]), payload = 'x'.repeat(64), times = [];
const echo = `process.on('message', (message) => process.send(message))`;
const child = require('child_process').spawn(process.execPath, ['-e', echo],
    { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
let sent;
const send = () => { sent = process.hrtime.bigint(); child.send(payload); };
child.on('message', (message) => {
    times.push(Number(process.hrtime.bigint() - sent));
    if (message !== payload) throw new Error('the echo differs');
    if (times.length < count) return send();
    const measured = times.slice(count / 2).sort((a, b) => a - b);
    console.log(JSON.stringify({ p50_ns: measured[measured.length >> 1] }));
    child.disconnect();
});
send();
";

/// The ratio of the two medians.
pub fn find(findings: &mut Findings) -> Result<Finding, Box<dyn Error>> {
    let round_trips = if findings.is_quick() { QUICK_ROUND_TRIPS } else { ROUND_TRIPS };
    let mut node = Command::new("node");
    node.args(["-e", SCRIPT, &round_trips.to_string()]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = match node.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Finding::not_yet("no node on the PATH", "ringwire criteria --only node"));
        }
        ran => ran?,
    };
    if !output.status.success() {
        return Err(format!("node: {}", output.status).into());
    }
    let node: Value = serde_json::from_slice(&output.stdout)?;
    let node_ns = node["p50_ns"].as_f64().ok_or("node: no p50_ns")?;
    let (ours, command) = findings.round_trip()?;
    let ours_ns = ours["p50_ns"].as_f64().ok_or("no p50_ns")?;
    let times = node_ns / ours_ns;
    let measured = format!("{times:.0} x: {node_ns:.0} ns a round trip, ours {ours_ns:.0} ns");
    let command = format!("ringwire criteria --only node, beside {command}");
    Ok(Finding::judged(times >= MIN_TIMES_FASTER, measured, command))
}
