//! What `/proc` says about another process: its memory, its switches of context, its processor time.

use std::error::Error;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// Arenas of glibc's allocator begin at multiples of this.
const ARENA_BYTES: u64 = 64 << 20;
/// In front of a thread's stack.
const GUARD_BYTES: u64 = 4096;

/// Memory of a process in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `Private_Dirty` of everything but memfds.
    pub private_kib: u64,
    /// Of that, behind a guard page: the stacks of threads.
    pub stacks_kib: u64,
    /// Of that, the allocator's.
    pub heap_kib: u64,
    /// `Rss` of memfds.
    pub segment_kib: u64,
}

impl Memory {
    /// Of process `id`.
    pub fn of(id: u32) -> Result<Self, Box<dyn Error>> {
        let path = format!("/proc/{id}/smaps");
        let smaps = fs::read_to_string(&path).map_err(|error| format!("reading {path}: {error}"))?;
        Ok(Self::from_smaps(&smaps))
    }

    fn from_smaps(smaps: &str) -> Self {
        let (mut memory, mut mapping, mut behind_guard_at) = (Self::default(), Mapping::default(), None);
        for line in smaps.lines() {
            if let Some(next) = Mapping::parse(line, behind_guard_at) {
                behind_guard_at = next.is_guard().then_some(next.end);
                mapping = next;
            } else if let Some(kib) = kib(line, "Private_Dirty:")
                && !mapping.is_memfd
            {
                memory.private_kib += kib;
                memory.stacks_kib += if mapping.is_stack { kib } else { 0 };
                memory.heap_kib += if mapping.is_heap { kib } else { 0 };
            } else if let Some(kib) = kib(line, "Rss:")
                && mapping.is_memfd
            {
                memory.segment_kib += kib;
            }
        }
        memory
    }

    /// What a server is charged with.
    pub fn total_kib(&self) -> u64 {
        self.private_kib + self.segment_kib
    }
}

#[derive(Default)]
struct Mapping {
    size: u64,
    end: u64,
    is_accessible: bool,
    is_memfd: bool,
    is_stack: bool,
    is_heap: bool,
}

impl Mapping {
    /// From a line such as `7f0c-7f0e rw-p 00000000 00:00 0    [heap]`; the lines between have another form.
    fn parse(line: &str, behind_guard_at: Option<u64>) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let is_accessible = words.next()?.starts_with('r');
        let name = words.nth(3).unwrap_or("");
        let is_anonymous = name.is_empty() || name.starts_with("[anon");
        let is_stack = name == "[stack]" || is_anonymous && behind_guard_at == Some(start);
        let is_heap = name == "[heap]" || is_anonymous && !is_stack && start.is_multiple_of(ARENA_BYTES);
        Some(Self {
            size: end - start,
            end,
            is_accessible,
            is_memfd: name.starts_with("/memfd:"),
            is_stack,
            is_heap,
        })
    }

    fn is_guard(&self) -> bool {
        !self.is_accessible && self.size == GUARD_BYTES
    }
}

fn kib(line: &str, field: &str) -> Option<u64> {
    line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok()
}

/// A field of `/proc/<id>/status` that is in KiB; 0 if there is none.
pub fn status_kib(id: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().find_map(|line| kib(line, field)).unwrap_or(0)
}

/// What the threads of a process have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Threads that live.
    pub threads: u64,
    /// Switches of context that they asked for, by waiting.
    pub voluntary: u64,
    /// Switches of context that were forced on them.
    pub involuntary: u64,
    /// Processor time, also of threads that have ended, in milliseconds (of the kernel's ticks of about 10).
    pub cpu_ms: u64,
}

impl Activity {
    /// Of process `id`.
    pub fn of(id: u32) -> Result<Self, Box<dyn Error>> {
        let mut activity = Self { cpu_ms: cpu_ms(id)?, ..Self::default() };
        for task in fs::read_dir(format!("/proc/{id}/task"))? {
            // A thread may end between the list and the look.
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
            let count = |field| {
                let value = status.lines().find_map(|line| line.strip_prefix(field));
                value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
            };
            activity.threads += 1;
            activity.voluntary += count("voluntary_ctxt_switches:");
            activity.involuntary += count("nonvoluntary_ctxt_switches:");
        }
        Ok(activity)
    }

    /// Of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            threads: self.threads + other.threads,
            voluntary: self.voluntary + other.voluntary,
            involuntary: self.involuntary + other.involuntary,
            cpu_ms: self.cpu_ms + other.cpu_ms,
        }
    }

    /// Every time that a thread was put on a core or taken off one.
    pub fn switches(self) -> u64 {
        self.voluntary + self.involuntary
    }
}

fn cpu_ms(id: u32) -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // Behind the name, which may hold anything: the state is field 3, user and system time are 14 and 15.
    let (_, fields) = stat.rsplit_once(')').ok_or("a /proc/<id>/stat without a name")?;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
    Ok(ticks * 1000 / per_second.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_once_and_where_it_belongs() {
        let smaps = "\
555500000000-555500021000 rw-p 00000000 00:00 0                          [heap]
Rss:                 40 kB
Private_Dirty:       36 kB
7f0000000000-7f0000021000 rw-p 00000000 00:00 0 
Rss:                 12 kB
Private_Dirty:       12 kB
7f0000021000-7f0004000000 ---p 00000000 00:00 0 
Rss:                  0 kB
Private_Dirty:        0 kB
7f0005000000-7f0005001000 ---p 00000000 00:00 0 
Rss:                  0 kB
Private_Dirty:        0 kB
7f0005001000-7f0005011000 rw-p 00000000 00:00 0 
Rss:                  8 kB
Private_Dirty:        8 kB
7f0006000000-7f0006021000 rw-s 00000000 00:01 99                         /memfd:ringwire (deleted)
Rss:                 16 kB
Private_Dirty:        0 kB
Shared_Dirty:        16 kB
7f0007000000-7f0007002000 r-xp 00000000 08:01 7                          /usr/lib/libc.so.6
Rss:                900 kB
Private_Dirty:        4 kB
VmFlags: rd ex mr mw me
";
        let memory = Memory::from_smaps(smaps);
        let expected = Memory { private_kib: 60, stacks_kib: 8, heap_kib: 48, segment_kib: 16 };
        assert_eq!((memory, memory.total_kib()), (expected, 76));
    }

    #[test]
    fn this_process_has_threads_memory_and_switches() {
        let id = std::process::id();
        let (memory, activity) = (Memory::of(id).unwrap(), Activity::of(id).unwrap());
        assert!(memory.private_kib > 0 && memory.private_kib >= memory.stacks_kib + memory.heap_kib);
        assert!(status_kib(id, "VmRSS:") >= memory.private_kib / 2);
        assert!(activity.threads >= 1);
        let twice = activity.and(activity);
        assert_eq!(twice.switches(), 2 * activity.switches());
    }
}
