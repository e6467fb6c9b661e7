//! What a suite found, beside its bars.

use std::error::Error;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::Options;
use crate::bench::report::rounded;

/// Figures and bars of one suite, in the order in which they are said.
#[derive(Debug)]
pub struct Verdict {
    json: bool,
    figures: Vec<(&'static str, Value)>,
    bars: Vec<Bar>,
}

#[derive(Debug)]
struct Bar {
    name: String,
    found: f64,
    bar: String,
    /// `None`: a bar on time, in a build that is not optimised.
    met: Option<bool>,
}

impl Bar {
    fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not judged: not a release build",
        }
    }
}

/// Whether bars on time mean anything in this build.
const IS_RELEASE: bool = !cfg!(debug_assertions);

impl Verdict {
    /// Of `suite`, run with `options` and `seed`.
    pub fn new(suite: &str, options: &Options, seed: u64) -> Self {
        let form = options.form().name();
        let figures = vec![("stress", suite.into()), ("form", form.into()), ("seed", seed.into())];
        if !options.json {
            println!("stress {suite}, {form} form, seed {seed}");
        }
        Self { json: options.json, figures, bars: Vec::new() }
    }

    /// Tells whoever watches what is happening; nothing with `--json`.
    pub fn tell(&self, line: impl std::fmt::Display) {
        if !self.json {
            println!("  {line}");
        }
    }

    /// A figure without a bar.
    pub fn note(&mut self, name: &'static str, value: impl Into<Value>) {
        self.figures.push((name, value.into()));
    }

    /// A figure that may be at most `bar`.
    pub fn at_most(&mut self, name: &str, found: impl Into<f64>, bar: impl Into<f64>) {
        let (found, bar) = (found.into(), bar.into());
        self.judge(name, found, format!("<= {bar}"), Some(found <= bar));
    }

    /// A figure that must be below `bar`.
    pub fn below(&mut self, name: &str, found: impl Into<f64>, bar: impl Into<f64>) {
        let (found, bar) = (found.into(), bar.into());
        self.judge(name, found, format!("< {bar}"), Some(found < bar));
    }

    /// A duration, or memory that grows with what the compiler leaves out, that must be below `bar`; judged in release
    /// builds.
    pub fn below_in_release(&mut self, name: &str, found: impl Into<f64>, bar: impl Into<f64>) {
        let (found, bar) = (found.into(), bar.into());
        self.judge(name, found, format!("< {bar}"), IS_RELEASE.then_some(found < bar));
    }

    /// A speed, or a share, that must be above `bar`; judged in release builds.
    pub fn above_in_release(&mut self, name: &str, found: impl Into<f64>, bar: impl Into<f64>) {
        let (found, bar) = (found.into(), bar.into());
        self.judge(name, found, format!("> {bar}"), IS_RELEASE.then_some(found > bar));
    }

    fn judge(&mut self, name: &str, found: f64, bar: String, met: Option<bool>) {
        self.bars.push(Bar { name: name.into(), found: rounded(found), bar, met });
    }

    /// Prints all; a failure if a bar is missed.
    pub fn finish(self) -> Result<ExitCode, Box<dyn Error>> {
        let passed = self.bars.iter().all(|bar| bar.met != Some(false));
        if self.json {
            let bars: Vec<Value> = self
                .bars
                .iter()
                .map(|bar| json!({"name": bar.name, "found": bar.found, "bar": bar.bar, "met": bar.met}))
                .collect();
            let said = [("bars", bars.into()), ("passed", passed.into())];
            let fields = self.figures.into_iter().chain(said);
            let result: Map<String, Value> = fields.map(|(name, value)| (name.into(), value)).collect();
            println!("{}", Value::Object(result));
        } else {
            let names = self
                .figures
                .iter()
                .map(|(name, _)| name.len())
                .chain(self.bars.iter().map(|bar| bar.name.len()));
            let width = names.max().unwrap_or(0);
            for (name, value) in self.figures.iter().skip(3) {
                println!("{name:width$}  {value}");
            }
            for bar in &self.bars {
                println!("{:width$}  {} (bar {}: {})", bar.name, bar.found, bar.bar, bar.verdict());
            }
        }
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
