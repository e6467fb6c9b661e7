//! The number of requests in flight, deferred ones until they are answered.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ringwire::server::shed::MaxInFlight;
use ringwire::wire::Status;
use ringwire::{Client, DeferredReply, Ticket};

use super::caller::Serving;
use super::common::{Watchdog, wait_until};
use super::{WORK, client, refused};

const DEFER: u16 = 8;
const PANIC: u16 = 9;
/// Hands over, then stays busy until told.
const DEFER_AND_STAY: u16 = 10;

struct Scene {
    serving: Serving,
    limit: Arc<MaxInFlight>,
    deferred: Receiver<DeferredReply>,
    stay: Sender<()>,
}

fn scene(limit: MaxInFlight) -> Scene {
    let limit = Arc::new(limit);
    let (put, deferred) = channel::<DeferredReply>();
    let (stay, staying) = channel::<()>();
    let staying = std::sync::Mutex::new(staying);
    let put_too = put.clone();
    let serving = Serving::start(|builder| {
        builder
            .middleware(Arc::clone(&limit))
            .handle(WORK, |request, reply| reply.send_payload(request.payload()))
            .handle(PANIC, |_, _| panic!("a handler that a test has told to"))
            .handle(DEFER, move |_, reply| {
                let (replied, later) = reply.detach();
                put.send(later).unwrap();
                Ok(replied)
            })
            .handle(DEFER_AND_STAY, move |_, reply| {
                let (replied, later) = reply.detach();
                put_too.send(later).unwrap();
                staying.lock().unwrap().recv().unwrap();
                Ok(replied)
            })
    });
    Scene { serving, limit, deferred, stay }
}

fn defer(client: &mut Client, scene: &Scene) -> (Ticket, DeferredReply) {
    let ticket = client.submit(DEFER, b"").unwrap();
    (ticket, scene.deferred.recv().unwrap())
}

#[test]
fn a_server_counts_deferred_requests_of_all_connections_until_they_are_answered() {
    let _watchdog = Watchdog::start();
    let scene = scene(MaxInFlight::new().per_server(3).retry_after(Duration::from_millis(70)));
    let (mut one, mut other) = (client(&scene.serving), client(&scene.serving));
    let (first, first_later) = defer(&mut one, &scene);
    let (second, second_later) = defer(&mut one, &scene);
    let (third, third_later) = defer(&mut other, &scene);
    // Their handlers may still be returning.
    for client in [&mut one, &mut other] {
        let answer = (Status::ResourceExhausted, Some(Duration::from_millis(70)));
        assert_eq!(refused(client.call(WORK, b"")), answer);
        assert_eq!(refused(client.call(DEFER, b"")), answer);
    }
    assert_eq!((scene.limit.in_flight(), scene.limit.refused()), (3, 4));
    // An answer, a failure, a reply that is dropped: each gives its place back before the client has it.
    first_later.send(*b"later").unwrap();
    assert_eq!(one.collect(first).unwrap().to_vec(), b"later");
    assert_eq!(scene.limit.in_flight(), 2);
    second_later.fail(Status::NotFound, "nothing").unwrap();
    assert_eq!(refused(one.collect(second)).0, Status::NotFound);
    assert_eq!(scene.limit.in_flight(), 1);
    drop(third_later);
    assert_eq!(refused(other.collect(third)).0, Status::Internal);
    assert_eq!(scene.limit.in_flight(), 0);
    other.call(WORK, b"room again").unwrap();
}

#[test]
fn a_streamed_reply_counts_until_its_end_and_one_of_a_lost_client_until_it_is_given_up() {
    let _watchdog = Watchdog::start();
    let scene = scene(MaxInFlight::new().per_server(1));
    let mut one = client(&scene.serving);
    let mut items = one.call_streaming(DEFER, b"").unwrap();
    let mut later = scene.deferred.recv().unwrap();
    later.item(*b"item").unwrap();
    assert_eq!(items.next_item().unwrap().unwrap().to_vec(), b"item");
    let mut other = client(&scene.serving);
    assert_eq!(refused(other.call(WORK, b"")).0, Status::ResourceExhausted);
    later.finish().unwrap();
    assert!(items.next_item().unwrap().is_none());
    drop(items);
    let (_, later) = defer(&mut one, &scene);
    drop(one);
    wait_until(|| scene.serving.handle.connections().len() == 1);
    assert_eq!(refused(other.call(WORK, b"")).0, Status::ResourceExhausted, "somebody still works on it");
    assert!(later.send(*b"to nobody").is_err());
    other.call(WORK, b"").unwrap();
}

#[test]
fn a_handler_counts_once_even_if_it_hands_over_and_stays_and_a_panic_counts_no_longer() {
    let _watchdog = Watchdog::start();
    let scene = scene(MaxInFlight::new().per_server(2));
    let (mut one, mut other) = (client(&scene.serving), client(&scene.serving));
    let ticket = one.submit(DEFER_AND_STAY, b"").unwrap();
    let later = scene.deferred.recv().unwrap();
    assert_eq!(scene.limit.in_flight(), 1);
    other.call(WORK, b"the second of two").unwrap();
    later.send(*b"").unwrap();
    // Answered, though its handler has not returned.
    wait_until(|| scene.limit.in_flight() == 0);
    scene.stay.send(()).unwrap();
    one.collect(ticket).unwrap();
    for _ in 0..5 {
        assert_eq!(refused(one.call(PANIC, b"")).0, Status::Internal);
    }
    // Notifications too, deferred and not.
    one.notify(WORK, b"").unwrap();
    one.notify(DEFER, b"").unwrap();
    let later = scene.deferred.recv().unwrap();
    wait_until(|| scene.limit.in_flight() == 1);
    drop(later);
    wait_until(|| scene.limit.in_flight() == 0);
}

#[test]
fn a_connection_has_a_limit_of_its_own() {
    let _watchdog = Watchdog::start();
    let scene = scene(MaxInFlight::new().per_connection(2));
    let (mut one, mut other) = (client(&scene.serving), client(&scene.serving));
    let (first, first_later) = defer(&mut one, &scene);
    let (_, _second_later) = defer(&mut one, &scene);
    assert_eq!(refused(one.call(WORK, b"")), (Status::ResourceExhausted, Some(Duration::from_millis(10))));
    other.call(WORK, b"not concerned").unwrap();
    first_later.send(*b"").unwrap();
    one.collect(first).unwrap();
    one.call(WORK, b"").unwrap();
    assert_eq!(scene.limit.refused(), 1);
}
