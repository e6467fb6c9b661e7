//! Where connections' threads run.

use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::{Error, ErrorKind};

/// Where the threads of connections run. Those of the latency class have a core of their own choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// Where the kernel puts them.
    #[default]
    Free,
    /// On these cores, counted from 0: each connection's thread on one of them, in turn.
    Cores(Vec<u32>),
}

impl Placement {
    /// Refuses an empty list, and cores that no machine has.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Free => Ok(()),
            Self::Cores(cores) if cores.is_empty() => {
                Err(Error::new(ErrorKind::InvalidInput, "placement on no core; name one, or choose Free"))
            }
            Self::Cores(cores) => cores.iter().try_for_each(|core| set_of(*core).map(drop)),
        }
    }

    /// Puts the calling thread where connection `id` belongs.
    pub(super) fn apply(&self, id: u64) {
        let Self::Cores(cores) = self else { return };
        let core = usize::try_from(id).ok().and_then(|id| cores.get(id % cores.len().max(1)));
        let Some(set) = core.and_then(|core| set_of(*core).ok()) else { return };
        if let Err(errno) = sched_setaffinity(Pid::from_raw(0), &set) {
            // A core that is not there or not ours: the thread runs where it is.
            log::debug!("connection {id} is not on its core: {errno}");
        }
    }
}

/// Gives the calling thread turns of this length; `None`: as the kernel does.
pub(super) fn set_time_slice(time_slice: Option<Duration>) {
    let Some(time_slice) = time_slice else { return };
    let slice_ns = u64::try_from(time_slice.as_nanos()).unwrap_or(u64::MAX);
    if let Err(errno) = crate::transport::set_time_slice(slice_ns) {
        log::debug!("a connection's thread has the kernel's time slice: {errno}");
    }
}

fn set_of(core: u32) -> Result<CpuSet, Error> {
    let mut set = CpuSet::new();
    let message = || format!("core {core} is out of range (0 to {})", CpuSet::count() - 1);
    set.set(core as usize).map_err(|_| Error::new(ErrorKind::InvalidInput, message()))?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_that_cannot_be_are_refused() {
        assert!(Placement::Free.check().is_ok());
        assert!(Placement::Cores(vec![0, 63]).check().is_ok());
        for cores in [vec![], vec![0, 1 << 20]] {
            assert_eq!(Placement::Cores(cores).check().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
