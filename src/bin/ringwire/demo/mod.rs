//! `ringwire demo`: real files to a second process and their counts back, beside the same over a Unix socket.
//!
//! ```text
//! files ─ Source ─ Route ═ ring or socket ═ Intake ─ counts back ─ compared with the source's own
//! ```

mod files;
mod pass;
mod ring;
mod route;
mod server;
mod socket;
mod source;
mod table;
mod tally;

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use files::{Listing, printable};
use pass::{Outcome, Problems, Warm};
use route::Route;
use server::Server;
pub use server::{PeerArguments, run_peer};
use table::{grouped, size};

/// Left out of the project's own tree: what it is built into, and its history.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// Sends every file of a directory to a second process and checks what comes back
///
/// The second process answers each file with its bytes, lines, words and CRC-32, which are compared with what was sent:
/// first through ringwire, then through a Unix socket. Symbolic links, pipes, sockets and devices are skipped.
///
/// Exit code: 0 if every byte that was sent is right, 1 if one differs, 2 if the demo could not be run to its end. A file
/// that cannot be read counts as a failure, but nothing of it was sent: it leaves the exit code as it is.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The directory [default: the project's own tree, or the current directory outside of cargo]
    directory: Option<PathBuf>,
    /// Let the server get one bit wrong by each route: for the test that proves that the demo can fail
    #[arg(long, hide = true)]
    corrupt_one: bool,
    /// Connect to a second process that somebody has started with `ringwire peer demo <DIRECTORY>`, in another container,
    /// say
    #[arg(long, hide = true, value_name = "DIRECTORY", conflicts_with = "corrupt_one")]
    server_at: Option<PathBuf>,
}

/// Runs the demo and prints its table.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let left_out: &[&str] = if arguments.directory.is_some() { &[] } else { &LEFT_OUT };
    let root = match &arguments.directory {
        Some(directory) => directory.clone(),
        None => env::var_os("CARGO_MANIFEST_DIR").map_or_else(env::current_dir, |path| Ok(path.into()))?,
    };
    match fs::metadata(&root) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(format!("{} is not a directory", printable(&root)).into()),
        Err(error) => return Err(format!("cannot look into {}: {error}", printable(&root)).into()),
    }
    let listing = files::list(&root, left_out);
    print(&headline(&printable(&root), &listing, left_out))?;

    let mut problems = Problems::default();
    let measured = measure(listing, arguments, &mut problems);
    for problem in problems.into_lines() {
        eprintln!("ringwire: {problem}");
    }
    let [ring, socket] = measured?;
    print(&table::render([&ring, &socket]))?;
    Ok(if ring.different + socket.different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Both passes, over the same files in the page cache.
fn measure(
    listing: Listing,
    arguments: &Arguments,
    problems: &mut Problems,
) -> Result<[Outcome; 2], Box<dyn Error>> {
    let bytes = listing.bytes();
    let progress = begin_progress("reading", bytes)?;
    let warm = Warm::up(listing.files, &listing.unreadable, &progress, problems);
    progress.finish_and_clear();

    let Server { process, ring, socket } = match &arguments.server_at {
        Some(directory) => Server::reach(directory)?,
        None => Server::start(arguments.corrupt_one)?,
    };
    let mut run = |mut route: Box<dyn Route>| {
        let progress = begin_progress(route.name(), bytes)?;
        let outcome = pass::run(&mut *route, &warm, &progress, problems);
        progress.finish_and_clear();
        outcome
    };
    // Each route is closed behind its pass: the server goes on to the next one.
    let outcomes = [run(Box::new(ring))?, run(Box::new(socket))?];
    if let Some(process) = process {
        process.join()?;
    }
    Ok(outcomes)
}

fn headline(root: &str, listing: &Listing, left_out: &[&str]) -> String {
    let mut text = match listing.files.len() as u64 {
        0 => format!("no regular files below {root}: nothing to send\n"),
        files => format!("{} files, {} below {root}\n", grouped(files), size(listing.bytes())),
    };
    if !left_out.is_empty() {
        text += &format!("left out by default: directories named {}\n", left_out.join(", "));
    }
    if listing.links + listing.special > 0 {
        let (links, special) = (grouped(listing.links), grouped(listing.special));
        text += &format!("skipped: {links} symbolic links, {special} pipes, sockets and devices\n");
    }
    text + "\n"
}

/// A bar on a terminal, nothing elsewhere.
fn begin_progress(what: &'static str, bytes: u64) -> Result<ProgressBar, Box<dyn Error>> {
    if !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template(
        "{msg:11} [{bar:40}] {decimal_bytes} of {decimal_total_bytes}, {eta} left",
    )?;
    Ok(ProgressBar::new(bytes).with_style(style.progress_chars("=> ")).with_message(what))
}

/// Unlike `println!`, fails instead of panicking when nobody reads.
fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}
