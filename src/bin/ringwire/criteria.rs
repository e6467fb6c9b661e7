//! stub
use std::error::Error;
use std::process::ExitCode;
/// stub
#[derive(clap::Args, Debug)]
pub struct Arguments {}
/// stub
pub fn run(_: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    Ok(ExitCode::SUCCESS)
}
