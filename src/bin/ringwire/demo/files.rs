//! The regular files of a directory: found without following links, opened without waiting for anybody.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, Read, Take};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Files without a length of their own, as in `/proc`, are read up to here.
const MAX_UNSIZED_BYTES: u64 = 16 << 20;

/// A regular file.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Where it is.
    pub path: PathBuf,
    /// Its length when it was found.
    pub bytes: u64,
}

/// What there is below a directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Regular files, by path.
    pub files: Vec<Listed>,
    /// Symbolic links; nobody follows them.
    pub links: u64,
    /// Pipes, sockets and devices; nobody opens them.
    pub special: u64,
    /// What could not be looked into, and why.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

impl Listing {
    /// The length of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Lists everything below `root` except the directories named in `left_out`.
pub fn list(root: &Path, left_out: &[&str]) -> Listing {
    let mut listing = Listing::default();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let listed = fs::read_dir(&directory).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                if let Err(error) = enter(&entry, left_out, &mut directories, &mut listing) {
                    listing.unreadable.push((entry.path(), error));
                }
            }
            Ok(())
        });
        if let Err(error) = listed {
            listing.unreadable.push((directory, error));
        }
    }
    listing.files.sort_by(|one, other| one.path.cmp(&other.path));
    listing
}

fn enter(
    entry: &DirEntry,
    left_out: &[&str],
    directories: &mut Vec<PathBuf>,
    listing: &mut Listing,
) -> io::Result<()> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        if !left_out.iter().any(|name| entry.file_name() == *name) {
            directories.push(entry.path());
        }
    } else if kind.is_file() {
        listing.files.push(Listed { path: entry.path(), bytes: entry.metadata()?.len() });
    } else if kind.is_symlink() {
        listing.links += 1;
    } else {
        listing.special += 1;
    }
    Ok(())
}

/// Opens a file up to the length that it had when it was found: one that grows meanwhile does not keep us for ever.
pub fn open(listed: &Listed) -> io::Result<Take<File>> {
    // The path may have become a link or a pipe since.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&listed.path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("no longer a regular file"));
    }
    Ok(file.take(if listed.bytes == 0 { MAX_UNSIZED_BYTES } else { listed.bytes }))
}

/// The path for people: what is not UTF-8, or would steer a terminal, is replaced.
pub fn printable(path: &Path) -> String {
    let replace = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    path.to_string_lossy().chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn regular_files_alone_are_listed() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("a dir/target/deep"))?;
        fs::write(at("a dir/target/deep/z"), b"123")?;
        fs::write(at("empty"), b"")?;
        fs::write(root.path().join(OsStr::from_bytes(b"\xff\n name")), b"12345")?;
        symlink(at("empty"), at("link"))?;
        symlink(root.path(), at("loop"))?;
        mkfifo(&at("pipe"), Mode::S_IRWXU)?;

        let listing = list(root.path(), &[]);
        assert_eq!((listing.files.len(), listing.bytes()), (3, 8));
        assert_eq!((listing.links, listing.special, listing.unreadable.len()), (2, 1, 0));
        assert!(listing.files.is_sorted_by_key(|file| &file.path));
        assert_eq!(list(root.path(), &["target"]).files.len(), 2);
        Ok(())
    }

    #[test]
    fn what_cannot_be_listed_is_named() {
        let listing = list(Path::new("/nonexistent"), &[]);
        assert_eq!(listing.files.len(), 0);
        assert_eq!(listing.unreadable[0].0, Path::new("/nonexistent"));
    }

    #[test]
    fn a_file_is_read_up_to_its_listed_length() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let path = root.path().join("grows");
        fs::write(&path, b"123456789")?;
        let mut text = String::new();
        open(&Listed { path: path.clone(), bytes: 4 })?.read_to_string(&mut text)?;
        assert_eq!(text, "1234");
        text.clear();
        open(&Listed { path, bytes: 0 })?.read_to_string(&mut text)?;
        assert_eq!(text, "123456789");
        Ok(())
    }

    #[test]
    fn a_file_that_has_become_something_else_is_not_waited_for() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let (pipe, link) = (root.path().join("pipe"), root.path().join("link"));
        mkfifo(&pipe, Mode::S_IRWXU)?;
        symlink("/etc/passwd", &link)?;
        for path in [pipe, link, root.path().to_owned()] {
            assert!(open(&Listed { path: path.clone(), bytes: 1 }).is_err(), "{}", path.display());
        }
        Ok(())
    }

    #[test]
    fn a_printable_path_steers_no_terminal() {
        assert_eq!(
            printable(Path::new(OsStr::from_bytes(b"a b\xff\x1b[2J\n"))),
            "a b\u{FFFD}\u{FFFD}[2J\u{FFFD}"
        );
    }
}
