//! rustls, unchanged, over a byte stream: a session with a certificate between two processes.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use ringwire::{ByteStream, Listener};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::common::{Watchdog, assert_bytes, fill, second, setting};
use super::protocol_bytes;

const NAME: &str = "engine.test";
const PIECE_BYTES: usize = 256 << 10;

/// The second process: trusts the one certificate, sends everything, and reads it back.
pub(super) fn client() {
    let certificate = std::fs::read(setting("CERTIFICATE")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate)).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap()).unwrap();
    let socket = ByteStream::connect(PathBuf::from(setting("SOCKET"))).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    let (mut piece, mut found, mut at) = (Vec::new(), vec![0; PIECE_BYTES], 0);
    while at < protocol_bytes() {
        fill(at, &mut piece, PIECE_BYTES);
        stream.write_all(&piece).unwrap();
        stream.flush().unwrap();
        stream.read_exact(&mut found).unwrap();
        assert_bytes(&found, &piece, "the echo through TLS");
        at += PIECE_BYTES as u64;
    }
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    // The server closes in the protocol too: an end without that would be an error.
    assert_eq!(stream.read(&mut found).unwrap(), 0);
}

#[test]
fn a_tls_session_with_a_certificate() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let (path, certificate_path) = (directory.path().join("s.sock"), directory.path().join("certificate"));
    let issued = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    std::fs::write(&certificate_path, issued.cert.der()).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![issued.cert.der().clone()], key).unwrap();
    let mut listener = Listener::bind(&path).unwrap();
    let child = second(
        "tls client",
        &[("SOCKET", path.to_str().unwrap()), ("CERTIFICATE", certificate_path.to_str().unwrap())],
    );
    let socket = ByteStream::from(listener.accept().unwrap());
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
    let (mut found, mut expected, mut at) = (vec![0; PIECE_BYTES], Vec::new(), 0);
    while at < protocol_bytes() {
        stream.read_exact(&mut found).unwrap();
        fill(at, &mut expected, PIECE_BYTES);
        assert_bytes(&found, &expected, "through TLS");
        stream.write_all(&found).unwrap();
        stream.flush().unwrap();
        at += PIECE_BYTES as u64;
    }
    assert_eq!(stream.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(stream.read(&mut found).unwrap(), 0);
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    child.join();
}
