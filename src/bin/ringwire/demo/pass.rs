//! One pass over all files, by one route.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use super::files::{self, Listed, printable};
use super::route::{ExchangeError, Route};
use super::source::{PIECE_BYTES, Source};
use super::tally::Counts;

/// Significant digits of a latency.
const LATENCY_DIGITS: u8 = 3;
/// So many problems are told in full.
const MAX_TOLD: usize = 20;

/// What a pass has measured.
#[derive(Debug)]
pub struct Outcome {
    /// The route's name.
    pub name: &'static str,
    /// Regular files, failed ones included.
    pub files: u64,
    /// Bytes of the files that were sent and answered.
    pub bytes: u64,
    /// Files of which the server received something else than was sent.
    pub different: u64,
    /// Files and directories that could not be read.
    pub unreadable: u64,
    /// From the first file to the last answer.
    pub elapsed: Duration,
    /// From the first byte sent to the answer received, in nanoseconds, for each file that was answered.
    pub latency_ns: Histogram<u64>,
}

impl Outcome {
    /// Requests and answers.
    pub fn messages(&self) -> u64 {
        2 * self.latency_ns.len()
    }

    /// Files that failed for whatever reason.
    pub fn failures(&self) -> u64 {
        self.different + self.unreadable
    }
}

/// What went wrong with single files, told at the end.
#[derive(Debug, Default)]
pub struct Problems {
    told: Vec<String>,
    untold: u64,
}

impl Problems {
    /// The file or directory could not be read.
    pub fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.add(path, &format!("not read: {error}"));
    }

    fn different(&mut self, path: &Path, route: &str, [answer, sent]: [Counts; 2]) {
        self.add(path, &format!("different by {route}: sent {sent}; the server received {answer}"));
    }

    fn add(&mut self, path: &Path, what: &str) {
        if self.told.len() < MAX_TOLD {
            self.told.push(format!("{}: {what}", printable(path)));
        } else {
            self.untold += 1;
        }
    }

    /// One line each.
    pub fn into_lines(self) -> impl Iterator<Item = String> {
        let untold = (self.untold > 0).then(|| format!("and {} more", self.untold));
        self.told.into_iter().chain(untold)
    }
}

/// The files of a listing that can be read, now in the page cache; and how many things cannot be.
#[derive(Debug)]
pub struct Warm {
    files: Vec<Listed>,
    unreadable: u64,
}

impl Warm {
    /// Reads every file once, so that both passes find the page cache alike.
    pub fn up(
        listed: Vec<Listed>,
        skipped: &[(PathBuf, io::Error)],
        progress: &ProgressBar,
        problems: &mut Problems,
    ) -> Self {
        for (path, error) in skipped {
            problems.unreadable(path, error);
        }
        let mut warm = Self { files: Vec::with_capacity(listed.len()), unreadable: skipped.len() as u64 };
        let mut buffer = vec![0; PIECE_BYTES];
        for file in listed {
            match read_through(&file, &mut buffer, progress) {
                Ok(()) => warm.files.push(file),
                Err(error) => {
                    problems.unreadable(&file.path, &error);
                    warm.unreadable += 1;
                }
            }
        }
        warm
    }

    /// How many files there are to send.
    pub fn len(&self) -> usize {
        self.files.len()
    }
}

fn read_through(file: &Listed, buffer: &mut [u8], progress: &ProgressBar) -> io::Result<()> {
    let mut reader = progress.wrap_read(files::open(file)?);
    let mut source = Source::begin(&mut reader, buffer)?;
    while !source.is_last() {
        source.advance()?;
    }
    Ok(())
}

/// Sends all files by `route` and compares the server's answers with what was sent.
///
/// # Errors
/// The route failed; a file that fails is among the problems, and the next one follows.
pub fn run(
    route: &mut dyn Route,
    warm: &Warm,
    progress: &ProgressBar,
    problems: &mut Problems,
) -> Result<Outcome, Box<dyn Error>> {
    let mut outcome = Outcome {
        name: route.name(),
        files: warm.len() as u64 + warm.unreadable,
        bytes: 0,
        different: 0,
        unreadable: warm.unreadable,
        elapsed: Duration::ZERO,
        latency_ns: Histogram::new(LATENCY_DIGITS)?,
    };
    let mut buffer = vec![0; PIECE_BYTES];
    let begun = Instant::now();
    for (index, file) in (0..).zip(&warm.files) {
        match send(route, index, file, &mut buffer, progress) {
            Ok(([answer, sent], latency)) => {
                outcome.bytes += sent.bytes;
                outcome.latency_ns.record(u64::try_from(latency.as_nanos())?)?;
                if answer != sent {
                    problems.different(&file.path, route.name(), [answer, sent]);
                    outcome.different += 1;
                }
            }
            Err(ExchangeError::Read(error)) => {
                problems.unreadable(&file.path, &error);
                outcome.unreadable += 1;
            }
            Err(ExchangeError::Route(error)) => {
                let (name, files) = (route.name(), warm.len());
                return Err(format!("by {name}, after {index} of {files} files: {error}").into());
            }
        }
    }
    outcome.elapsed = begun.elapsed();
    Ok(outcome)
}

fn send(
    route: &mut dyn Route,
    index: u64,
    file: &Listed,
    buffer: &mut [u8],
    progress: &ProgressBar,
) -> Result<([Counts; 2], Duration), ExchangeError> {
    let file = files::open(file).map_err(ExchangeError::Read)?;
    let mut reader = progress.wrap_read(file);
    let mut source = Source::begin(&mut reader, buffer).map_err(ExchangeError::Read)?;
    let begun = Instant::now();
    let answer = route.exchange(index, &mut source)?;
    let latency = begun.elapsed();
    Ok(([answer, source.counts()], latency))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A route on which the file with this index meets its fate.
    struct Fated(u64, fn() -> Result<Counts, ExchangeError>);

    impl Route for Fated {
        fn name(&self) -> &'static str {
            "fate"
        }

        fn exchange(&mut self, index: u64, source: &mut Source<'_>) -> Result<Counts, ExchangeError> {
            source.count_piece();
            if index == self.0 {
                (self.1)()
            } else {
                Ok(Counts { bytes: 1, lines: 0, words: 1, crc32: 0xE8B7_BE43 })
            }
        }
    }

    fn run_fated(
        fate: fn() -> Result<Counts, ExchangeError>,
    ) -> (Result<Outcome, Box<dyn Error>>, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        for name in ["0", "1", "2"] {
            fs::write(root.path().join(name), "a").unwrap();
        }
        let mut listed = files::list(root.path(), &[]).files;
        listed.push(Listed { path: "/nonexistent".into(), bytes: 1 });
        let (progress, mut problems) = (ProgressBar::hidden(), Problems::default());
        let warm = Warm::up(listed, &[], &progress, &mut problems);
        assert_eq!(warm.len(), 3);
        let outcome = run(&mut Fated(1, fate), &warm, &progress, &mut problems);
        (outcome, problems.into_lines().collect())
    }

    #[test]
    fn a_different_answer_is_a_failure() {
        let (outcome, problems) = run_fated(|| Ok(Counts { bytes: 1, ..Counts::default() }));
        let outcome = outcome.unwrap();
        assert_eq!((outcome.files, outcome.bytes, outcome.messages()), (4, 3, 6));
        assert_eq!((outcome.different, outcome.unreadable, outcome.failures()), (1, 1, 2));
        assert!(problems[0].starts_with("/nonexistent: not read: No such file"), "{problems:?}");
        assert!(
            problems[1].contains("/1: different by fate: sent 1 bytes, 0 lines, 1 words"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_file_that_breaks_off_is_a_failure_of_its_own() {
        let (outcome, problems) = run_fated(|| Err(ExchangeError::Read(io::Error::other("broken"))));
        let outcome = outcome.unwrap();
        assert_eq!((outcome.files, outcome.bytes, outcome.messages()), (4, 2, 4));
        assert_eq!((outcome.different, outcome.unreadable), (0, 2));
        assert!(problems[1].ends_with("/1: not read: broken"), "{problems:?}");
    }

    #[test]
    fn a_route_that_fails_ends_the_pass() {
        let (outcome, _) = run_fated(|| Err(ExchangeError::Route("gone".into())));
        assert_eq!(outcome.unwrap_err().to_string(), "by fate, after 1 of 3 files: gone");
    }

    #[test]
    fn only_the_first_problems_are_told() {
        let mut problems = Problems::default();
        for _ in 0..MAX_TOLD + 3 {
            problems.unreadable(Path::new("x"), &io::Error::other("y"));
        }
        let lines: Vec<String> = problems.into_lines().collect();
        assert_eq!(lines.len(), MAX_TOLD + 1);
        assert_eq!((&lines[0][..], &lines[MAX_TOLD][..]), ("x: not read: y", "and 3 more"));
    }
}
