//! tungstenite, unchanged, over a byte stream: a WebSocket conversation between two processes.

use std::path::PathBuf;

use ringwire::{ByteStream, Listener};
use tungstenite::Message;

use super::common::{Watchdog, assert_bytes, bytes, second, setting};
use super::protocol_bytes;

const PIECE_BYTES: usize = 256 << 10;

fn pieces() -> u64 {
    protocol_bytes() / PIECE_BYTES as u64
}

/// The second process: asks for the upgrade, talks, and closes.
pub(super) fn client() {
    let stream = ByteStream::connect(PathBuf::from(setting("SOCKET"))).unwrap();
    let (mut socket, response) = tungstenite::client("ws://localhost/engine", stream).unwrap();
    assert_eq!(response.status(), 101);
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello yourself"));
    for piece in 0..pieces() {
        let body = bytes(piece, PIECE_BYTES);
        socket.send(Message::binary(body.clone())).unwrap();
        let Message::Binary(found) = socket.read().unwrap() else { panic!("not binary") };
        assert_bytes(&found, &body, "the echo through a WebSocket");
    }
    socket.close(None).unwrap();
    while !matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)) {}
}

#[test]
fn a_websocket_conversation() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let mut listener = Listener::bind(&path).unwrap();
    let child = second("websocket client", &[("SOCKET", path.to_str().unwrap())]);
    let mut socket = tungstenite::accept(ByteStream::from(listener.accept().unwrap())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
    socket.send(Message::text("hello yourself")).unwrap();
    for piece in 0..pieces() {
        let Message::Binary(found) = socket.read().unwrap() else { panic!("not binary") };
        assert_bytes(&found, &bytes(piece, PIECE_BYTES), "through a WebSocket");
        socket.send(Message::Binary(found)).unwrap();
    }
    assert!(socket.read().unwrap().is_close());
    // Sends the answer to the close, and sees the other side go.
    let end = loop {
        if let Err(error) = socket.read() {
            break error;
        }
    };
    assert!(matches!(end, tungstenite::Error::ConnectionClosed), "{end}");
    // The client waits for the server to close first.
    drop(socket);
    child.join();
}
