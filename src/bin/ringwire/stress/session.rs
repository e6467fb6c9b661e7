use std::error::Error;
use std::process::ExitCode;
use super::Options;
#[derive(clap::Args, Debug)]
pub struct Arguments { #[command(flatten)] options: Options }
pub fn run(_: &Arguments) -> Result<ExitCode, Box<dyn Error>> { Err("not yet".into()) }
pub fn handlers(builder: ringwire::ServerBuilder, _: &std::path::Path) -> ringwire::ServerBuilder { builder }
