//! The C library's allocator: what it sets aside for each core, and what it keeps of what was freed.

use std::io;

/// Has glibc's `malloc` share at most `arenas` arenas among all threads of the process; 0 is its own choice of eight for
/// each core.
///
/// Each arena keeps up to about 130 KiB that its threads have freed. A server whose handlers allocate, with a thread for
/// each connection, holds that many times over: a program of 100 threads that each allocated and freed 100 KB holds
/// 3.3 MiB on two cores, 14 MiB where there are cores enough for an arena each, and 1.6 MiB with two arenas. The price is
/// that threads which allocate more than their own small cache holds wait for each other; a call itself does not
/// allocate. `MALLOC_ARENA_MAX=2` in the environment does the same without a line of code.
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

/// Gives memory that was freed, and that glibc's `malloc` still holds, back to the system; says whether there was any.
///
/// After a thousand threads have come and gone, `malloc` holds on to some MiB that they used, more with every such burst
/// for some time; what this leaves is the same each time. It takes about 0.5 ms for what a thousand threads leave
/// behind, longer the more free blocks the whole program has, and holds up who allocates meanwhile. Of arenas that it
/// made for further threads glibc keeps the free end: so this goes together with [`limit_malloc_arenas`]. With another C
/// library it does nothing.
///
/// ```
/// ringwire::transport::release_freed_memory();
/// ```
pub fn release_freed_memory() -> bool {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks, and touches free memory only.
    let released = unsafe { libc::malloc_trim(0) } == 1;
    #[cfg(not(target_env = "gnu"))]
    let released = false;
    released
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
