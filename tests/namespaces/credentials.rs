//! Who a peer is, across user namespaces.

use std::fs;

use nix::sched::CloneFlags;
use nix::unistd::{Pid, geteuid};
use ringwire::{ErrorKind, Listener, PeerPolicy, Stream};

use super::common::namespaces::{Plan, are_forbidden};
use super::common::{Second, Watchdog, say, second_command, setting, told};
use super::{Host, arrive, event, kill_inside, start_inside, whereabouts};

/// Root is not this one in a container of its own.
const CONTAINERS_USER: u32 = 1000;
/// What a user without an id in a namespace looks like there.
const OVERFLOW: u32 = 65_534;

fn policy(name: &str) -> PeerPolicy {
    let allow = |uid| PeerPolicy::Allow { uids: vec![uid], gids: vec![] };
    match name {
        "same user" => PeerPolicy::SameUser,
        "same user or root" => PeerPolicy::SameUserOrRoot,
        other => allow(other.parse().unwrap()),
    }
}

/// The process inside: connects under each policy that it is told, and says how that went and who is there.
pub(crate) fn picky_client() {
    arrive();
    loop {
        let told = told();
        if told.is_empty() {
            break;
        }
        match Stream::builder(setting("SOCKET")).connect_to(policy(&told)).connect() {
            Ok(mut stream) => {
                stream.send(event(1), b"let in").unwrap();
                say(&format!("connected to {}", stream.peer().uid));
            }
            Err(error) => say(&format!("{:?}: {error}", error.kind())),
        }
    }
}

/// The process inside: serves under the policy that it is told.
pub(crate) fn picky_server() {
    if setting("SECRET") == "in sight" {
        assert_eq!(geteuid().as_raw(), OVERFLOW, "a process that its namespace has no id for");
    } else {
        arrive();
    }
    let (socket, told) = (setting("SOCKET"), told());
    let builder = Listener::builder(socket).accept_from(policy(&told)).mode(0o666);
    let mut listener = builder.bind().unwrap();
    say("listening");
    let mut stream = listener.accept().unwrap();
    assert_eq!(stream.peer().uid, OVERFLOW, "{}", stream.peer());
    stream.receive().unwrap();
}

/// A container whose root is another user outside; only root can make one.
fn others_container(host: &Host, role: &str) -> Option<(Second, Pid)> {
    if !geteuid().is_root() {
        eprintln!("only root can be two users: not tested");
        return None;
    }
    let (plan, inside) = host.container();
    let mut second = start_inside(host, plan.with_user(CONTAINERS_USER), role, &inside)?;
    let pid = whereabouts(&mut second, true);
    Some((second, pid))
}

#[test]
fn a_client_of_another_user_needs_a_list_on_both_sides() {
    let _watchdog = Watchdog::start();
    let host = Host::new();
    let Some((mut client, _)) = others_container(&host, "picky client") else { return };
    let serve = |policy: PeerPolicy| Listener::builder(host.socket()).mode(0o666).accept_from(policy).bind();

    let listener = serve(PeerPolicy::SameUser).unwrap();
    client.tell("same user or root");
    let said = client.hear();
    // Root outside is not root inside.
    assert!(said.starts_with("PermissionDenied") && said.contains("uid 65534"), "{said}");
    drop(listener);

    let mut listener = serve(PeerPolicy::SameUser).unwrap();
    client.tell("65534");
    let accepting = listener.accept_timeout(std::time::Duration::from_millis(300));
    assert_eq!(accepting.map(drop).unwrap_err().kind(), ErrorKind::TimedOut);
    let said = client.hear();
    assert!(said.starts_with("PermissionDenied") && said.contains("uid 1000"), "{said}");
    drop(listener);

    let mut listener = serve(policy("1000")).unwrap();
    client.tell("65534");
    let mut stream = listener.accept().unwrap();
    assert_eq!((stream.peer().uid, stream.peer().gid), (CONTAINERS_USER, CONTAINERS_USER));
    assert_eq!(client.hear(), "connected to 65534");
    assert_eq!(stream.receive().unwrap().payload().to_vec(), b"let in");
    client.join();
}

#[test]
fn a_server_of_another_user_needs_a_list_on_both_sides() {
    let _watchdog = Watchdog::start();
    let host = Host::new();
    let connect = |policy: PeerPolicy| Stream::builder(host.socket()).connect_to(policy).connect();
    let Some((mut server, pid)) = others_container(&host, "picky server") else { return };
    server.tell("same user");
    assert_eq!(server.hear(), "listening");
    let error = connect(PeerPolicy::SameUserOrRoot).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("uid 1000"), "{error}");
    // Inside this one is nobody.
    assert_eq!(connect(policy("1000")).unwrap_err().kind(), ErrorKind::PermissionDenied);
    kill_inside(server, pid);

    let (mut server, _) = others_container(&host, "picky server").unwrap();
    server.tell("65534");
    assert_eq!(server.hear(), "listening");
    let mut stream = connect(policy("1000")).unwrap();
    stream.send(event(1), b"let in").unwrap();
    assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerClosed);
    server.join();
}

#[test]
fn nobody_is_not_the_same_user_as_nobody() {
    let _watchdog = Watchdog::start();
    let host = Host::new();
    // No id for anybody: this server is 65534 to itself, and so is every peer.
    let plan = Plan::new(CloneFlags::empty()).in_user_namespace(None);
    let socket = host.socket();
    for (policy_name, let_in) in [("same user", false), ("same user or root", false), ("65534", true)] {
        let settings = [("SOCKET", socket.to_str().unwrap()), ("SECRET", "in sight")];
        let mut command = second_command("picky server", &settings);
        plan.clone().apply(&mut command);
        let mut server = match Second::start(&mut command) {
            Ok(server) => server,
            Err(error) if are_forbidden(&error) => return,
            Err(error) => panic!("{error}"),
        };
        server.tell(policy_name);
        assert_eq!(server.hear(), "listening");
        match Stream::connect(&socket) {
            Ok(mut stream) => {
                assert!(let_in, "{policy_name}");
                stream.send(event(1), b"let in").unwrap();
                assert_eq!(stream.receive().map(drop).unwrap_err().kind(), ErrorKind::PeerClosed);
                server.join();
            }
            Err(error) => {
                assert!(!let_in && error.kind() == ErrorKind::PermissionDenied, "{policy_name}: {error}");
                server.kill();
            }
        }
    }
    drop(Listener::bind(&socket).unwrap());
    assert_eq!(fs::read_dir(host.shared()).unwrap().count(), 0);
}
