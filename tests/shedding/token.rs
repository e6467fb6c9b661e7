//! Authentication by a shared token.

use std::sync::Arc;
use std::time::Duration;

use ringwire::server::Logging;
use ringwire::server::shed::{Authenticated, MAX_TOKEN_BYTES, Rate, RateLimit, SharedToken};
use ringwire::wire::Status;
use ringwire::wire::call::{AUTHENTICATE, ECHO, PING, SERVER_INFO, STATS, StatusPayload};
use ringwire::{Client, ErrorKind, Header, Kind, Stream};

use super::caller::Serving;
use super::common::{Watchdog, wait_until};
use super::{WORK, client, refused};

const TOKEN: &[u8] = b"0123456789abcdef";
const NEWS: u16 = 50;

fn serving() -> (Serving, Arc<SharedToken>) {
    let token = Arc::new(SharedToken::new(TOKEN).unwrap());
    let serving = Serving::start(|builder| {
        builder
            .handle(WORK, |request, reply| reply.send_payload(request.payload()))
            .handle_streaming(WORK + 1, |_, items| items.send(b"item"))
            .require_token(Arc::clone(&token))
    });
    (serving, token)
}

#[test]
fn nothing_is_served_before_the_token_and_everything_after() {
    let _watchdog = Watchdog::start();
    let (serving, token) = serving();
    let (mut one, mut other) = (client(&serving), client(&serving));
    let types = [WORK, ECHO, PING, STATS, SERVER_INFO];
    for message_type in types {
        assert_eq!(refused(one.call(message_type, TOKEN)), (Status::Unauthenticated, None));
    }
    let streamed = one.call_streaming(WORK + 1, b"").unwrap().next().unwrap();
    assert_eq!(refused(streamed).0, Status::Unauthenticated);
    // Of more than a record.
    assert_eq!(refused(one.call(WORK, &vec![7; 100_000])).0, Status::Unauthenticated);
    assert_eq!(token.refused(), 7);
    one.ping().unwrap();

    one.authenticate(TOKEN).unwrap();
    for message_type in types {
        one.call(message_type, b"").unwrap();
    }
    assert_eq!(one.call_streaming(WORK + 1, b"").unwrap().next().unwrap().unwrap(), b"item");
    one.authenticate(TOKEN).unwrap();
    assert_eq!(refused(other.call(WORK, b"")).0, Status::Unauthenticated, "another connection");
    assert_eq!((token.refused(), token.wrong()), (8, 0));

    // What a program decides about a connection holds from its next request on.
    let connections = serving.handle.connections();
    let of = |at: usize| serving.handle.connection(connections[at].id).unwrap();
    assert!(of(0).info().metadata().remove::<Authenticated>().is_some());
    of(1).info().metadata().set(Authenticated);
    assert_eq!(refused(one.call(WORK, b"")).0, Status::Unauthenticated);
    other.call(WORK, b"").unwrap();
}

#[test]
fn wrong_tokens_are_refused_and_cannot_be_tried_for_long() {
    let _watchdog = Watchdog::start();
    let (serving, token) = serving();
    let mut one = client(&serving);
    let long = vec![b'0'; MAX_TOKEN_BYTES + 1];
    let huge = vec![b'0'; 100_000];
    let longer = [TOKEN, b"0"].concat();
    for wrong in [&b""[..], &TOKEN[..15], &longer, &long, &huge] {
        assert_eq!(refused(one.authenticate(wrong)), (Status::Unauthenticated, None));
    }
    assert_eq!(refused(one.call(WORK, b"")).0, Status::Unauthenticated);
    // On as many connections as one likes: the user is the same.
    let mut guesses = 5;
    let hint = loop {
        match refused(client(&serving).authenticate(b"guess")) {
            (Status::Unauthenticated, None) => guesses += 1,
            (Status::ResourceExhausted, hint) => break hint.unwrap(),
            other => panic!("{other:?}"),
        }
        assert!(guesses < 1_000, "nobody stops it");
    };
    assert!(guesses >= 10 && hint <= Duration::from_secs(1), "{guesses}, {hint:?}");
    assert_eq!(token.wrong(), guesses + 1);
    std::thread::sleep(hint);
    one.authenticate(TOKEN).unwrap();
    one.call(WORK, b"").unwrap();
    // The right one costs nothing, however often.
    for _ in 0..50 {
        one.authenticate(TOKEN).unwrap();
    }
}

#[test]
fn a_builder_sends_its_token_when_it_connects() {
    let _watchdog = Watchdog::start();
    let (serving, _) = serving();
    let mut one = Client::builder(&serving.path).token(TOKEN).connect().unwrap();
    one.call(WORK, b"").unwrap();
    let wrong = Client::builder(&serving.path).token("wrong");
    assert!(!format!("{wrong:?}").contains("wrong"));
    let Err(error) = wrong.connect() else { panic!("let in") };
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(Status::Unauthenticated)));
}

#[test]
fn a_server_without_a_token_says_so() {
    let _watchdog = Watchdog::start();
    let serving = Serving::start(|builder| builder);
    let Err(error) = client(&serving).authenticate(TOKEN) else { panic!("of no use") };
    assert_eq!(error.status(), Some(Status::Unimplemented));
    assert!(error.to_string().contains("asks for no token"), "{error}");
}

#[test]
fn broadcasts_pass_by_who_has_not_sent_the_token() {
    let _watchdog = Watchdog::start();
    let (serving, _) = serving();
    let (mut known, mut unknown) = (client(&serving), client(&serving));
    known.authenticate(TOKEN).unwrap();
    unknown.ping().unwrap();
    assert_eq!(serving.handle.broadcast(NEWS, b"secret"), 1);
    wait_until(|| known.try_event().unwrap().is_some());
    unknown.ping().unwrap();
    assert!(unknown.try_event().unwrap().is_none());
}

#[test]
fn the_token_is_asked_for_before_any_middleware_wherever_it_was_chosen() {
    let _watchdog = Watchdog::start();
    let rate = RateLimit::new().per_connection(Rate::new(2, Duration::from_secs(3600)));
    let serving = Serving::start(|builder| {
        builder.middleware(rate).require_token(SharedToken::new(TOKEN).unwrap()).middleware(Logging)
    });
    let mut client = client(&serving);
    for _ in 0..5 {
        assert_eq!(refused(client.call(ECHO, b"")).0, Status::Unauthenticated);
    }
    client.authenticate(TOKEN).unwrap();
    client.call(ECHO, b"the second that the rate allows").unwrap();
    assert_eq!(refused(client.call(ECHO, b"")).0, Status::ResourceExhausted);
}

#[test]
fn who_has_not_sent_the_token_gets_no_buffer_of_the_pool() {
    let _watchdog = Watchdog::start();
    let (serving, token) = serving();
    for message_type in [WORK, AUTHENTICATE] {
        let (mut sender, mut receiver) = Stream::connect(&serving.path).unwrap().split();
        let mut writer = sender.write_message(Header::new(Kind::Request, message_type, 64));
        writer.write_piece(&[b'0'; 50_000]).unwrap();
        // Answered though the rest has not come.
        let answer = receiver.receive().unwrap();
        assert_eq!((answer.header().kind, answer.header().correlation), (Kind::Error, 64));
        assert_eq!(StatusPayload::parse(&answer.payload().to_vec()).status, Status::Unauthenticated);
        drop(answer);
        assert_eq!(serving.handle.pool_stats().lent(), 0);
        writer.write_piece(&[b'0'; 50_000]).unwrap();
        writer.finish().unwrap();
        sender.send(Header::new(Kind::Request, AUTHENTICATE, 128), TOKEN).unwrap();
        assert_eq!(receiver.receive().unwrap().header().kind, Kind::Response);
    }
    assert_eq!((token.refused(), token.wrong()), (1, 1));
}

#[test]
fn the_tokens_type_is_nobodys_handler() {
    let _watchdog = Watchdog::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.sock");
    let taken = ringwire::Server::builder(&path).handle(AUTHENTICATE, |_, reply| reply.send(b""));
    assert_eq!(taken.build().unwrap_err().kind(), ErrorKind::InvalidInput);
}
