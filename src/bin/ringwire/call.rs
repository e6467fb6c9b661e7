//! `ringwire call`: one request from the command line.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ringwire::client::{Call, ECHO, PING, SERVER_INFO, STATS};
use ringwire::transport::DEFAULT_MAX_MESSAGE_BYTES;
use ringwire::{Client, ErrorKind};
use serde_json::{Value, json};

/// No answer: nobody there, a connection that ended, a deadline that passed.
const NO_ANSWER: u8 = 1;
/// An answer that is a status.
const STATUS: u8 = 2;
/// For ever, as far as a command is concerned: 34 years.
const MAX_TIMEOUT_MS: u64 = 1 << 40;

/// Asks the server at a path, and prints its answer
///
/// The answer's bytes go to standard output as they are. Exit code: 0 with an answer, 2 if the server answered with a
/// status (on standard error), 1 without an answer: nobody there, a connection that ended, a deadline that passed.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where the server's socket is
    path: PathBuf,
    /// The message type: a number up to 65535 (or 0x...), or echo, ping, stats, server-info
    #[arg(value_name = "TYPE", value_parser = message_type)]
    message_type: u16,
    /// What is asked; `-` reads standard input to its end; nothing if left out
    payload: Option<String>,
    /// How long to wait, for the server and for its answer, in milliseconds; 0 is for ever
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(..=MAX_TIMEOUT_MS))]
    timeout_ms: u64,
    /// Wait for a server that is not there yet
    #[arg(long)]
    wait: bool,
    /// Take the answer as a stream, each item as it comes
    #[arg(long)]
    stream: bool,
    /// Print an object for each answer or item: its bytes, as text if they are UTF-8, in hexadecimal digits otherwise
    #[arg(long, conflicts_with = "hex")]
    json: bool,
    /// Print hexadecimal digits, a line for each answer or item
    #[arg(long)]
    hex: bool,
}

fn message_type(text: &str) -> Result<u16, String> {
    let parsed = match text {
        "echo" => return Ok(ECHO),
        "ping" => return Ok(PING),
        "stats" => return Ok(STATS),
        "server-info" => return Ok(SERVER_INFO),
        _ => text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u16::from_str_radix(digits, 16)),
    };
    parsed.map_err(|_| "expected a number up to 65535, or echo, ping, stats, server-info".into())
}

/// Asks.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let request = request(arguments.payload.as_deref())?;
    match ask(arguments, &request) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<ringwire::Error>() {
            Some(error) if error.kind() == ErrorKind::Status => {
                eprintln!("ringwire: {}", status_line(error));
                Ok(ExitCode::from(STATUS))
            }
            Some(error) => {
                eprintln!("ringwire: {error}");
                Ok(ExitCode::from(NO_ANSWER))
            }
            None => Err(error),
        },
    }
}

fn request(payload: Option<&str>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match payload {
        Some("-") => {
            io::stdin().lock().read_to_end(&mut bytes)?;
        }
        Some(text) => bytes.extend_from_slice(text.as_bytes()),
        None => {}
    }
    Ok(bytes)
}

fn ask(arguments: &Arguments, request: &[u8]) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let timeout = (arguments.timeout_ms > 0).then(|| Duration::from_millis(arguments.timeout_ms));
    let mut client = Client::builder(&arguments.path)
        .timeout(timeout.unwrap_or(Duration::from_millis(MAX_TIMEOUT_MS)))
        .wait_for_server(arguments.wait)
        .max_message_bytes(request.len().max(DEFAULT_MAX_MESSAGE_BYTES))
        .connect()?;
    let mut call: Call<'_> = client.request(arguments.message_type);
    if let Some(timeout) = timeout {
        call = call.deadline(timeout.saturating_sub(started.elapsed()));
    }
    let asked = Instant::now();
    if !arguments.stream {
        let reply = call.call(request)?.to_vec();
        return print(arguments, &reply, asked.elapsed());
    }
    let mut items = call.call_streaming(request)?;
    while let Some(item) = items.next_item()? {
        print(arguments, &item.to_vec(), asked.elapsed())?;
    }
    Ok(())
}

fn print(arguments: &Arguments, bytes: &[u8], elapsed: Duration) -> Result<(), Box<dyn Error>> {
    let mut output = io::stdout().lock();
    if arguments.json {
        let (field, text) = match std::str::from_utf8(bytes) {
            Ok(text) => ("text", text.to_owned()),
            Err(_) => ("hex", hex(bytes)),
        };
        let mut object = json!({"type": arguments.message_type, "bytes": bytes.len()});
        object[field] = Value::from(text);
        object["elapsed_us"] = Value::from(u64::try_from(elapsed.as_micros())?);
        writeln!(output, "{object}")?;
    } else if arguments.hex {
        writeln!(output, "{}", hex(bytes))?;
    } else {
        output.write_all(bytes)?;
    }
    // An item may be a long way ahead of the next.
    output.flush()?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// As the error says it, with the status by name and when to try again.
fn status_line(error: &ringwire::Error) -> String {
    let mut line = match error.status() {
        Some(status) => format!("{status:?}: {error}"),
        None => error.to_string(),
    };
    if let Some(after) = error.retry_after() {
        let _ = write!(line, " (try again in {} ms)", after.as_millis());
    }
    line
}
