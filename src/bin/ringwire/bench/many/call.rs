//! Echoes by the library's own server and clients: the whole way of a call, tickets and dispatch included.
//!
//! A client submits the requests of a turn in a batch, and collects answers in the order in which they come.

use std::collections::VecDeque;
use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ringwire::client::ECHO;
use ringwire::server::Placement;
use ringwire::{Client, Error as CallError, Reply, Server, ServerHandle, Ticket};

use super::super::machine;
use super::ring::ring_bytes;
use super::transport::{Connection, Plan, Transport};

/// How often the server looks whether all clients have gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The server.
pub struct Called {
    server: Server,
}

impl Called {
    /// The server that a plan asks for, not yet built.
    pub fn builder(plan: &Plan, path: &Path) -> Result<ringwire::ServerBuilder, Box<dyn Error>> {
        let cores = machine::cores()?.into_iter().map(u32::try_from).collect::<Result<_, _>>()?;
        let placement = if plan.placed { Placement::Cores(cores) } else { Placement::Free };
        Ok(Server::builder(path)
            .max_connections(plan.connections as usize)
            .max_ring_bytes(ring_bytes(plan)?)
            .placement(placement)
            .wait_strategy(plan.mode.strategy()))
    }
}

/// Ends the server when so many connections have been and gone.
fn stop_after(handle: &ServerHandle, connections: u32) {
    let handle = handle.clone();
    thread::spawn(move || {
        loop {
            thread::sleep(LOOK_EVERY);
            let stats = handle.stats();
            if stats.accepted >= u64::from(connections) && stats.connections == 0 {
                return handle.stop();
            }
        }
    });
}

impl Transport for Called {
    type Connection = CallConnection;

    fn listen(plan: &Plan, directory: &Path) -> Result<(Self, String), Box<dyn Error>> {
        let path = directory.join("call.sock");
        let server = Self::builder(plan, &path)?.build()?;
        let address = path.to_str().ok_or("temporary directory with a name that is not UTF-8")?;
        Ok((Self { server }, address.to_owned()))
    }

    fn serve(self, plan: &Plan) -> Result<(), Box<dyn Error>> {
        stop_after(&self.server.handle(), plan.connections);
        Ok(self.server.serve()?)
    }

    fn connect(
        plan: &Plan,
        address: &str,
        numbers: Range<u32>,
    ) -> Result<Vec<CallConnection>, Box<dyn Error>> {
        let ring_bytes = ring_bytes(plan)?;
        let connect = |_| {
            let client =
                Client::builder(address).ring_bytes(ring_bytes).strategy(plan.mode.strategy()).connect()?;
            Ok(CallConnection { client, size: plan.size, under_way: VecDeque::new(), buffer: Vec::new() })
        };
        numbers.map(connect).collect()
    }
}

/// A client's end.
pub struct CallConnection {
    client: Client,
    size: usize,
    /// In the order in which they were submitted.
    under_way: VecDeque<(Ticket, u64)>,
    buffer: Vec<u8>,
}

impl CallConnection {
    fn take(
        under_way: &mut VecDeque<(Ticket, u64)>,
        buffer: &mut Vec<u8>,
        (ticket, reply): (Ticket, Result<Reply<'_>, CallError>),
        take: &mut impl FnMut(u64, &[u8]),
    ) -> Result<(), Box<dyn Error>> {
        let place = under_way.iter().position(|(known, _)| *known == ticket);
        let place = place.ok_or("an answer to a ticket that was never given")?;
        let (_, number) = under_way.remove(place).ok_or("a place that is not there")?;
        let reply = reply?;
        let payload = reply.payload();
        buffer.resize(payload.len(), 0);
        payload.copy_to(buffer);
        take(number, buffer);
        Ok(())
    }
}

impl Connection for CallConnection {
    /// A connection that ends, ends its waits; so does a timeout of the calls, which would travel with each of them.
    fn limit_waits(&mut self, _: Duration) -> Result<(), Box<dyn Error>> {
        Ok(())
    }

    fn submit(
        &mut self,
        numbers: Range<u64>,
        mut fill: impl FnMut(u64, &mut [u8]),
    ) -> Result<(), Box<dyn Error>> {
        self.buffer.resize(self.size, 0);
        let mut batch = self.client.batch();
        for number in numbers {
            fill(number, &mut self.buffer);
            self.under_way.push_back((batch.submit(ECHO, &self.buffer)?, number));
        }
        Ok(())
    }

    fn collect(&mut self, mut take: impl FnMut(u64, &[u8])) -> Result<(), Box<dyn Error>> {
        let Self { client, under_way, buffer, .. } = self;
        let Some(answer) = client.collect_any()? else { return Err("nothing is under way".into()) };
        Self::take(under_way, buffer, answer, &mut take)?;
        // Nothing under way: no look at what may have come.
        while client.in_flight() > 0 {
            let Some(answer) = client.try_collect_any()? else { break };
            Self::take(under_way, buffer, answer, &mut take)?;
        }
        Ok(())
    }
}
