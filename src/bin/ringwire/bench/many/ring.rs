//! Echoes over [`Stream`]s, with a thread for each connection.
//!
//! A client publishes the requests of a turn together: sent one by one, the first wakes the server, which takes the core
//! from the client that was about to send the next. Answers are published one by one, from a buffer for one: taken in
//! and then published together, they need a buffer for a window on each connection. (1,000 connections, 1 KiB, window 16,
//! two cores: 1.03 million answers/s; 0.70 with requests one by one, 0.72 with answers together.)

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use ringwire::{ErrorKind, Header, Kind, Listener, Message, Stream};

use super::load::spawn_all;
use super::transport::{Connection, Plan, Transport};

/// A record's header, and what rounds it up.
const RECORD_SPARE_BYTES: usize = 32;
const MIN_RING_BYTES: usize = 64 << 10;
const MAX_RING_BYTES: usize = 1 << 30;

/// Room for all that is under way, some times over: so hardly ever does anybody wait for room.
pub fn ring_bytes(plan: &Plan) -> Result<u32, Box<dyn Error>> {
    let window = plan.size.saturating_add(RECORD_SPARE_BYTES).saturating_mul(2 * plan.window);
    if window > MAX_RING_BYTES {
        return Err("--size times --window is too large for a ring".into());
    }
    Ok(u32::try_from(window.next_power_of_two().max(MIN_RING_BYTES))?)
}

/// The server.
pub struct Ring {
    listener: Listener,
}

impl Transport for Ring {
    type Connection = RingConnection;

    fn listen(plan: &Plan, directory: &Path) -> Result<(Self, String), Box<dyn Error>> {
        let path = directory.join("ring.sock");
        let listener = Listener::builder(&path)
            .max_connections(plan.connections as usize)
            .max_ring_bytes(ring_bytes(plan)?)
            .wait_strategy(plan.mode.strategy())
            .bind()?;
        let address = path.to_str().ok_or("temporary directory with a name that is not UTF-8")?;
        Ok((Self { listener }, address.to_owned()))
    }

    fn serve(mut self, plan: &Plan) -> Result<(), Box<dyn Error>> {
        spawn_all(plan.connections, plan.placed, |_| {
            let stream = self.listener.accept()?;
            Ok(move || echo(stream))
        })
    }

    fn connect(
        plan: &Plan,
        address: &str,
        numbers: Range<u32>,
    ) -> Result<Vec<RingConnection>, Box<dyn Error>> {
        let ring_bytes = ring_bytes(plan)?;
        let connect = |_| {
            let connector = Stream::builder(address).ring_bytes(ring_bytes);
            let stream = connector.wait_strategy(plan.mode.strategy()).connect()?;
            Ok(RingConnection { stream, size: plan.size, buffer: Vec::new() })
        };
        numbers.map(connect).collect()
    }
}

fn echo(mut stream: Stream) -> Result<(), Box<dyn Error>> {
    let mut buffer = Vec::new();
    loop {
        let request = match stream.receive() {
            Ok(request) => request,
            Err(error) if error.kind() == ErrorKind::PeerClosed => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let header = request.header();
        copy_out(&request, &mut buffer);
        drop(request);
        stream.send(Header::new(Kind::Response, header.message_type, header.correlation), &buffer)?;
    }
}

#[inline(always)]
fn copy_out(message: &Message<'_>, buffer: &mut Vec<u8>) {
    let payload = message.payload();
    buffer.resize(payload.len(), 0);
    payload.copy_to(buffer);
}

/// A client's end.
pub struct RingConnection {
    stream: Stream,
    size: usize,
    buffer: Vec<u8>,
}

impl Connection for RingConnection {
    fn limit_waits(&mut self, limit: Duration) -> Result<(), Box<dyn Error>> {
        self.stream.set_send_timeout(Some(limit));
        self.stream.set_receive_timeout(Some(limit));
        Ok(())
    }

    fn submit(
        &mut self,
        numbers: Range<u64>,
        mut fill: impl FnMut(u64, &mut [u8]),
    ) -> Result<(), Box<dyn Error>> {
        self.buffer.resize(self.size, 0);
        let mut requests = self.stream.batch();
        for number in numbers {
            fill(number, &mut self.buffer);
            requests.send(Header::new(Kind::Request, 1, number), &self.buffer)?;
        }
        Ok(())
    }

    fn collect(&mut self, mut take: impl FnMut(u64, &[u8])) -> Result<(), Box<dyn Error>> {
        let answer = self.stream.receive()?;
        copy_out(&answer, &mut self.buffer);
        take(answer.header().correlation, &self.buffer);
        drop(answer);
        while let Some(answer) = self.stream.try_receive()? {
            copy_out(&answer, &mut self.buffer);
            take(answer.header().correlation, &self.buffer);
        }
        Ok(())
    }
}
