//! placeholder
use std::error::Error; use std::process::ExitCode; use clap::Args;
#[derive(Args, Debug)] pub struct Arguments {}
#[derive(Args, Debug)] pub struct PeerArguments {}
pub fn run(_: &Arguments) -> Result<ExitCode, Box<dyn Error>> { Ok(ExitCode::SUCCESS) }
pub fn run_peer(_: &PeerArguments) -> Result<(), Box<dyn Error>> { Ok(()) }
