//! `ringwire criteria`: what was promised, measured here and now, and judged.
//!
//! Each figure comes out of the command that is printed beside it, run for the purpose, or out of a report that such a
//! command has left; none is written down here.

mod measure;
mod node;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

/// Measures the eight criteria in short form, and judges each: PASS, FAIL or NOT YET (it cannot be measured here)
///
/// Takes about half a minute, and a build of the tests where `allocations` is among them. Nothing else should run. Exit
/// code: 1 if one fails.
#[derive(Args, Debug)]
pub struct Arguments {
    /// These criteria alone
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Name>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    /// As little as can be, and without a verdict: to try it out
    #[arg(long)]
    quick: bool,
}

/// A criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Memory of a server with 100 connections
    Memory,
    /// Round trip of a call
    Latency,
    /// Answered requests a second
    Throughput,
    /// Connections at once, each answered in full
    Connections,
    /// Heap allocations of a call
    Allocations,
    /// Time until a client has its server back
    Recovery,
    /// Lines of the library that tests run
    Coverage,
    /// Round trips beside those of Node's child_process
    Node,
}

/// What was found of one.
#[derive(Debug)]
pub struct Finding {
    /// In words, with the figure.
    measured: String,
    /// What to run to see it.
    command: String,
    /// `None`: it cannot be known here.
    holds: Option<bool>,
}

impl Finding {
    fn judged(holds: bool, measured: impl Into<String>, command: impl Into<String>) -> Self {
        Self { measured: measured.into(), command: command.into(), holds: Some(holds) }
    }

    fn not_yet(why: impl Into<String>, command: impl Into<String>) -> Self {
        Self { measured: why.into(), command: command.into(), holds: None }
    }

    fn verdict(&self) -> &'static str {
        match self.holds {
            Some(true) => "PASS",
            Some(false) => "FAIL",
            None => "NOT YET",
        }
    }
}

impl Name {
    const ALL: [Self; 8] = [
        Self::Memory,
        Self::Latency,
        Self::Throughput,
        Self::Connections,
        Self::Allocations,
        Self::Recovery,
        Self::Coverage,
        Self::Node,
    ];

    const fn target(self) -> &'static str {
        match self {
            Self::Memory => "< 3 MiB, 100 connections",
            Self::Latency => "< 10 us, p50 and p99",
            Self::Throughput => "> 1,000,000 answers/s",
            Self::Connections => ">= 1,000 at once, none lost",
            Self::Allocations => "0 in calls, either side",
            Self::Recovery => "< 100 ms",
            Self::Coverage => "> 90 % of lines",
            Self::Node => ">= 10 x Node's IPC",
        }
    }

    fn find(self, findings: &mut measure::Findings) -> Result<Finding, Box<dyn Error>> {
        match self {
            Self::Memory => findings.memory(),
            Self::Latency => findings.latency(),
            Self::Throughput => findings.throughput(),
            Self::Connections => findings.connections(),
            Self::Allocations => measure::allocations(),
            Self::Recovery => Ok(Finding::not_yet("clients do not reconnect by themselves yet", "")),
            Self::Coverage => measure::coverage(),
            Self::Node => node::find(findings),
        }
    }

    fn text(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Measures and judges.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    if cfg!(debug_assertions) {
        eprintln!("ringwire: this build is not optimised: its figures are no answer");
    }
    let mut findings = measure::Findings::new(arguments.quick);
    let mut failed = false;
    for name in
        Name::ALL.into_iter().filter(|name| arguments.only.is_empty() || arguments.only.contains(name))
    {
        // What cannot be measured though it should be is not what was promised.
        let finding = match name.find(&mut findings) {
            Ok(finding) if arguments.quick => Finding { holds: None, ..finding },
            Ok(finding) => finding,
            Err(error) => Finding::judged(false, format!("the measurement failed: {error}"), ""),
        };
        failed |= finding.holds == Some(false);
        print(arguments.json, name, &finding)?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(json: bool, name: Name, finding: &Finding) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let (text, target, verdict) = (name.text(), name.target(), finding.verdict());
    let command = Some(&finding.command).filter(|command| !command.is_empty());
    if json {
        let object: Value = json!({
            "criterion": text, "target": target, "measured": finding.measured, "command": command, "verdict": verdict,
        });
        writeln!(output, "{object}")?;
    } else {
        writeln!(output, "{verdict:8} {text:12} {target:28} {}", finding.measured)?;
        if let Some(command) = command {
            writeln!(output, "{:8} {:12} $ {command}", "", "")?;
        }
    }
    output.flush()
}
