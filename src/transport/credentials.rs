//! Who is on the other side, and whether that is allowed.

use std::fmt;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

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
        let own = nix::unistd::geteuid().as_raw();
        match self {
            Self::SameUser => peer.uid == own,
            Self::SameUserOrRoot => peer.uid == own || peer.uid == 0,
            Self::Allow { uids, gids } => uids.contains(&peer.uid) || gids.contains(&peer.gid),
            Self::Anyone => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
