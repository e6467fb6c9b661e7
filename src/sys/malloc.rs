//! The C library's allocator, which sets memory aside for each core that it sees.

use std::io;

/// Has glibc's `malloc` share at most `arenas` arenas among all threads of the process; 0 is its own choice of eight for
/// each core.
///
/// Each arena keeps up to about 130 KiB that its threads have freed. A server whose handlers allocate, with a thread for
/// each connection, holds that many times over: with 100 threads that each allocated and freed 100 KB, 3.3 MiB in all on
/// two cores, 14 MiB where there are cores enough for an arena each, and 1.6 MiB with two arenas. The price is that
/// threads which allocate more than their own small cache holds wait for each other; a call itself does not allocate. A
/// program that is only started, not built, can be given the environment variable `MALLOC_ARENA_MAX=2` instead.
///
/// Call it first in `main`: it changes what other threads read unlocked, and so is refused once there are any.
///
/// # Errors
/// [`io::ErrorKind::ResourceBusy`] if the process has further threads already; [`io::ErrorKind::Unsupported`] with
/// another C library; [`io::ErrorKind::InvalidInput`] for more than `i32::MAX`; those of reading `/proc/self/task`.
///
/// # Examples
/// ```
/// if let Err(error) = ringwire::transport::limit_malloc_arenas(2) {
///     eprintln!("the allocator keeps to its own choice: {error}");
/// }
/// ```
pub fn limit_malloc_arenas(arenas: u32) -> io::Result<()> {
    let arenas = i32::try_from(arenas).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        let message = format!(
            "the allocator is set up before the first further thread is started, and there are {threads}: \
             do it first in main, or set MALLOC_ARENA_MAX in the environment"
        );
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
    }
    set_arenas(arenas)
}

#[cfg(target_env = "gnu")]
fn set_arenas(arenas: i32) -> io::Result<()> {
    // SAFETY: unsafe only beside other threads; the caller has seen that this one is alone, and none but it could have
    // started another since.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    if set == 1 { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

#[cfg(not(target_env = "gnu"))]
fn set_arenas(_: i32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
