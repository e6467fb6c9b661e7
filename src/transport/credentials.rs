//! Who is on the other side, and whether that is allowed.

use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::{fmt, fs};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

/// Unless the administrator has changed it.
const DEFAULT_OVERFLOW_UID: u32 = 65_534;

/// A process's identity as the kernel vouches for it (`SO_PEERCRED`): as it was when it connected, or listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Process id, in this process's pid namespace; 0 if it is outside.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl Credentials {
    pub(super) fn of_peer(socket: &impl AsFd) -> nix::Result<Self> {
        let found = getsockopt(socket, PeerCredentials)?;
        Ok(Self { pid: found.pid(), uid: found.uid(), gid: found.gid() })
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (uid {}, gid {})", self.pid, self.uid, self.gid)
    }
}

/// Which processes one side talks to.
///
/// # User namespaces
/// The kernel translates a peer's ids into the user namespace of who asks, so the same process has another uid in a
/// container than outside of it. An id that has no counterpart there is reported as the *overflow uid*, 65534
/// (`/proc/sys/kernel/overflowuid`), also known as `nobody`:
///
/// | this process | the peer | the peer's uid, seen from here |
/// |---|---|---|
/// | outside | in a container whose root is user 1000 outside | 1000 |
/// | in that container, as root | outside, user 1000 | 0: the same user, whatever its number |
/// | in that container, as root | outside, any other user, root too | 65534 |
///
/// Two sides that are the same user to the kernel are so by [`PeerPolicy::SameUser`] as well. All others need
/// [`PeerPolicy::Allow`] (or [`PeerPolicy::Anyone`] and a directory that only the right processes reach) on both sides,
/// with the numbers as that side sees them. To allow 65534 inside a container is to allow every user outside of it: the
/// permissions of the socket and of its directory then decide alone. For the same reason 65534 is nobody's own user: where
/// this process's own uid is that number, and its user namespace (`/proc/self/uid_map`) leaves out any user, no peer is
/// the same user. Root is that of this process's namespace.
///
/// ```
/// use ringwire::{Credentials, PeerPolicy};
/// let policy = PeerPolicy::Allow { uids: vec![1000], gids: vec![] };
/// assert!(policy.allows(&Credentials { pid: 1, uid: 1000, gid: 5 }));
/// assert!(!policy.allows(&Credentials { pid: 1, uid: 1001, gid: 5 }));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerPolicy {
    /// Those of this process's own (effective) user.
    #[default]
    SameUser,
    /// Those of this process's own user, and of root.
    SameUserOrRoot,
    /// Those with one of these user ids, or with one of these (effective) group ids.
    Allow {
        /// User ids.
        uids: Vec<u32>,
        /// Group ids.
        gids: Vec<u32>,
    },
    /// All that the socket's permissions let through.
    Anyone,
}

impl PeerPolicy {
    /// Whether `peer` may be talked to.
    #[must_use]
    pub fn allows(&self, peer: &Credentials) -> bool {
        match self {
            Self::SameUser => is_own_user(peer.uid),
            Self::SameUserOrRoot => peer.uid == 0 || is_own_user(peer.uid),
            Self::Allow { uids, gids } => uids.contains(&peer.uid) || gids.contains(&peer.gid),
            Self::Anyone => true,
        }
    }
}

/// Whether `uid`, as the kernel reports it of a peer or of a file, is this process's own (effective) user.
pub(super) fn is_own_user(uid: u32) -> bool {
    uid == geteuid().as_raw() && (uid != overflow_uid() || maps_every_user())
}

/// What the kernel reports for every user that this process's user namespace leaves out.
fn overflow_uid() -> u32 {
    static FOUND: OnceLock<u32> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
        text.trim().parse().unwrap_or(DEFAULT_OVERFLOW_UID)
    })
}

/// Whether every user has an id of its own here. Without `/proc` nobody knows: then not.
fn maps_every_user() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_whole(&map))
}

/// Whether the lines of a `uid_map` (first inside, first outside, how many) leave nobody out.
fn is_whole(map: &str) -> bool {
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.sum::<u64>() >= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_whole_if_it_leaves_nobody_out() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(is_whole("0 0 1000\n1000 1001 4294966295\n"));
        for map in ["", "0 1000 1\n", "0 0 65536\n", "0 0 4294967294\n", "nonsense"] {
            assert!(!is_whole(map), "{map:?}");
        }
    }

    #[test]
    fn policies_let_through_whom_they_name() {
        let own = nix::unistd::geteuid().as_raw();
        let (me, root, other) = (own, 0, own.wrapping_add(77));
        let peer = |uid| Credentials { pid: 1, uid, gid: 9 };
        assert!(PeerPolicy::SameUser.allows(&peer(me)) && !PeerPolicy::SameUser.allows(&peer(other)));
        assert!(
            PeerPolicy::SameUserOrRoot.allows(&peer(root))
                && !PeerPolicy::SameUserOrRoot.allows(&peer(other))
        );
        let list = PeerPolicy::Allow { uids: vec![], gids: vec![9] };
        assert!(list.allows(&peer(other)) && PeerPolicy::Anyone.allows(&peer(other)));
        assert_eq!(peer(3).to_string(), "process 1 (uid 3, gid 9)");
    }
}
