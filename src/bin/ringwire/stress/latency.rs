use std::error::Error;
use std::process::ExitCode;
use super::Options;
#[derive(clap::Args, Debug)]
pub struct PeerArguments {}
pub fn run(_: &Options) -> Result<ExitCode, Box<dyn Error>> { Err("not yet".into()) }
pub fn run_peer(_: &PeerArguments) -> Result<(), Box<dyn Error>> { Err("not yet".into()) }
