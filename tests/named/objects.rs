//! What stands at a name, and what is made of it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};

use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use ringwire::{ErrorKind, NamedReceiver, NamedSender};

use super::{Name, RING, kind};

#[test]
fn a_wrong_name_is_an_error_that_says_why() {
    for (name, what) in [
        ("prices", "does not begin with a slash"),
        ("/", "no name behind its slash"),
        ("/a/b", "a second slash"),
        ("/a\0", "a NUL"),
        (&format!("/{}", "x".repeat(255)), "256 bytes"),
    ] {
        let errors = [
            NamedSender::create(name, RING).unwrap_err(),
            NamedReceiver::create(name, RING).unwrap_err(),
            NamedSender::open(name).unwrap_err(),
            NamedReceiver::open(name).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
    let own = Name::new();
    let longest = Name(format!("{}-{}", &*own, "x".repeat(254 - own.len())));
    assert_eq!(longest.len(), 255);
    drop(NamedSender::create(&longest, RING).unwrap());
    longest.assert_free();
}

#[test]
fn a_wrong_size_is_refused_before_anything_is_made() {
    let name = Name::new();
    for bytes in [0, 1, 2048, 4097, 65_535, 1 << 31, u32::MAX] {
        let error = NamedSender::create(&name, bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains(&format!("ring of {bytes} bytes, expected a power of two")),
            "{error}"
        );
        name.assert_free();
    }
}

#[test]
fn nobody_else_may_use_it_and_all_of_it_is_there() {
    let name = Name::new();
    let sender = NamedSender::create(&name, 1 << 20).unwrap();
    let found = fs::metadata(name.path()).unwrap();
    assert_eq!((found.mode() & 0o7777, found.nlink()), (0o600, 1));
    assert_eq!(found.len(), (1 << 20) + 4096);
    assert!(found.blocks() * 512 >= found.len(), "{} blocks are allocated", found.blocks());
    drop(sender);
}

#[test]
fn what_is_not_a_ring_is_refused_and_left_alone() {
    let name = Name::new();
    for bytes in [&b"short"[..], &[0; 64], &[0; 8192], "a long text ".repeat(9).as_bytes()] {
        fs::write(name.path(), bytes).unwrap();
        let error = NamedSender::create(&name, RING).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressInUse);
        assert!(error.to_string().contains("not a ring"), "{error}");
        assert_eq!(fs::read(name.path()).unwrap(), bytes);
        let expected = if bytes.len() < 64 { ErrorKind::ConnectionRefused } else { ErrorKind::Handshake };
        assert_eq!(kind(NamedReceiver::open(&name)), expected);
    }
    fs::remove_file(name.path()).unwrap();
    mkfifo(&name.path(), Mode::S_IRWXU).unwrap();
    assert_eq!(kind(NamedSender::create(&name, RING)), ErrorKind::AddressInUse);
    assert_eq!(kind(NamedSender::open(&name)), ErrorKind::AddressInUse);
    fs::remove_file(name.path()).unwrap();
    let target = Name::new();
    symlink(target.path(), name.path()).unwrap();
    assert!(NamedSender::create(&name, RING).is_err() && NamedSender::open(&name).is_err());
    target.assert_free();
    fs::remove_file(name.path()).unwrap();
    fs::create_dir(name.path()).unwrap();
    assert!(NamedSender::create(&name, RING).is_err() && NamedSender::open(&name).is_err());
    fs::remove_dir(name.path()).unwrap();
}

#[test]
fn a_ring_whose_header_or_size_is_wrong_is_not_opened() {
    let name = Name::new();
    let sender = NamedSender::create(&name, RING).unwrap();
    let object = File::options().read(true).write(true).open(name.path()).unwrap();
    for (at, kind_of, what) in [
        (0, ErrorKind::Handshake, "not a ring"),
        (8, ErrorKind::VersionMismatch, "one version of the library"),
        (12, ErrorKind::Handshake, "control bytes"),
        (16, ErrorKind::Handshake, "expected a power of two"),
        (20, ErrorKind::Handshake, "owner"),
    ] {
        let mut kept = [0; 4];
        object.read_exact_at(&mut kept, at).unwrap();
        object.write_all_at(&0x7777_7777_u32.to_ne_bytes(), at).unwrap();
        let error = NamedReceiver::open(&name).unwrap_err();
        assert_eq!(error.kind(), kind_of, "{error}");
        assert!(error.to_string().contains(what) && error.to_string().contains(&*name), "{error}");
        object.write_all_at(&kept, at).unwrap();
    }
    // Another valid size than that of the object.
    object.write_all_at(&(2 * RING).to_ne_bytes(), 16).unwrap();
    let error = NamedReceiver::open(&name).unwrap_err();
    assert!(error.to_string().contains("has 8192 bytes, its header says 12288"), "{error}");
    object.write_all_at(&RING.to_ne_bytes(), 16).unwrap();
    object.set_len(8193).unwrap();
    assert_eq!(kind(NamedReceiver::open(&name)), ErrorKind::Handshake);
    object.set_len(8192).unwrap();
    // None of these has used the ring up.
    drop(NamedReceiver::open(&name).unwrap());
    drop(sender);
    name.assert_free();
}

#[test]
fn a_dead_owners_ring_is_replaced_whatever_its_version() {
    let (name, model) = (Name::new(), Name::new());
    let sender = NamedSender::create(&model, RING).unwrap();
    for at in [8, 12, 16, 20] {
        fs::copy(model.path(), name.path()).unwrap();
        let object = File::options().write(true).open(name.path()).unwrap();
        object.write_all_at(&99_u32.to_ne_bytes(), at).unwrap();
        drop(NamedSender::create(&name, RING).unwrap());
        name.assert_free();
    }
    drop(sender);
}

#[test]
fn another_users_object_is_refused() {
    let name = Name::new();
    fs::write(name.path(), b"").unwrap();
    if chown(name.path(), Some(4321), None).is_ok() {
        fs::set_permissions(name.path(), Permissions::from_mode(0o666)).unwrap();
        for error in [NamedSender::create(&name, RING).unwrap_err(), NamedSender::open(&name).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.to_string().contains("belongs to uid 4321, expected 0"), "{error}");
        }
    } else if geteuid().is_root() {
        eprintln!("this root cannot give an object away: not tested");
    } else {
        eprintln!("only root can give an object away: tested is one without permissions");
        fs::set_permissions(name.path(), Permissions::from_mode(0o000)).unwrap();
        assert_eq!(kind(NamedSender::create(&name, RING)), ErrorKind::PermissionDenied);
        assert_eq!(kind(NamedSender::open(&name)), ErrorKind::PermissionDenied);
    }
    fs::remove_file(name.path()).unwrap();
}
