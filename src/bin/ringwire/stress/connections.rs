use std::error::Error;
use std::process::ExitCode;
use super::Options;
pub fn run(_: &Options) -> Result<ExitCode, Box<dyn Error>> { Err("not yet".into()) }
