//! The second process: gets the connection ready, arms its failpoint, and does what it is killed at.

use std::thread;
use std::time::Duration;

use ringwire::sync::failpoint::{Failpoint, arm};
use ringwire::{Header, Kind, Stream, WaitStrategy};

use super::common::{bytes, say, setting, told};

/// Three of these do not fit half a KiB, one is more than an eighth of the ring, and six fill it.
const LARGE_BYTES: usize = 600;
/// Two of these and a little more fill the ring.
const HALF_BYTES: usize = 2_000;
/// More than the trim leaves alone, in `HALF_BYTES`.
const BURST: u64 = 12;

/// The message `number` of `length` bytes: each of the three can be told from the others.
pub(crate) fn header(number: u64, length: usize) -> Header {
    Header::new(Kind::Event, u16::try_from(length).unwrap(), number)
}

struct Victim {
    stream: Stream,
    /// Messages sent.
    sent: u64,
    /// Which of the runs of this case it is: lengths differ.
    run: u64,
}

pub(crate) fn victim() {
    let doing = setting("DOING");
    let ring_bytes = if doing.ends_with("burst") { 64 << 10 } else { 4 << 10 };
    let connector = Stream::builder(setting("SOCKET")).ring_bytes(ring_bytes);
    let stream = connector.wait_strategy(WaitStrategy::ParkAtOnce).connect().unwrap();
    let victim = Victim { stream, sent: 0, run: setting("RUN").parse().unwrap() };
    match doing.as_str() {
        "send" => victim.send_one(),
        "slot" => victim.fill_slot(),
        "batch of 3" => victim.batch(),
        "restart" => victim.restart(),
        "batch of 2 around the end" => victim.batch_around_the_end(),
        "batch beyond the room" => victim.batch_beyond_the_room(),
        "sends beyond the room" => victim.send_beyond_the_room(),
        "going idle after a burst" => victim.go_idle(),
        "send after a burst" => victim.send_after_a_burst(),
        "receive" => victim.receive(),
        "receive behind padding" => victim.receive_behind_padding(),
        "wait for a message" => victim.wait(),
        "close" => victim.close(),
        other => panic!("{other}"),
    }
    survived()
}

/// Nothing is dropped: the survivor sees a death, as always.
pub(crate) fn survived() -> ! {
    say("survived");
    std::process::exit(0)
}

/// Waits for the word to go, then arms the failpoint that the environment names.
pub(crate) fn arm_when_told() {
    say("ready");
    assert_eq!(told(), "go");
    let name = setting("FAILPOINT");
    let (failpoint, _) = Failpoint::ALL.iter().find(|(known, _)| format!("{known:?}") == name).unwrap();
    arm(*failpoint, setting("PASSAGE").parse().unwrap());
}

impl Victim {
    fn send(&mut self, length: usize) {
        self.stream.send(header(self.sent, length), &bytes(self.sent, length)).unwrap();
        self.sent += 1;
    }

    /// A length below 150 bytes.
    fn short(&self) -> usize {
        (self.run * 37 + self.sent * 53) as usize % 150
    }

    /// Has the survivor receive everything that is sent, and say so.
    fn let_take(&self) {
        say(&format!("take {}", self.sent));
        told();
    }

    /// Three short messages that have been received: so the next ones stay away from the restart.
    fn send_three(&mut self) {
        for _ in 0..3 {
            self.send(self.short());
        }
        self.let_take();
    }

    fn send_one(mut self) {
        self.send_three();
        arm_when_told();
        self.send(self.run as usize * 61 % 300);
    }

    fn fill_slot(mut self) {
        self.send_three();
        arm_when_told();
        let payload = bytes(self.sent, 200);
        let mut slot = self.stream.reserve(header(self.sent, 200), 200).unwrap();
        slot.write(&payload[..77]);
        slot.write(&payload[77..]);
        slot.commit();
    }

    fn batch(mut self) {
        self.send_three();
        arm_when_told();
        let lengths = [self.short(), 0, 100];
        self.batch_of(&lengths);
    }

    fn batch_of(&mut self, lengths: &[usize]) {
        let mut batch = self.stream.batch();
        for (number, length) in (self.sent..).zip(lengths) {
            batch.send(header(number, *length), &bytes(number, *length)).unwrap();
        }
        batch.finish();
        self.sent += lengths.len() as u64;
    }

    /// The fourth message finds the ring drained, and room for itself at offset 0.
    fn restart(mut self) {
        for _ in 0..3 {
            self.send(LARGE_BYTES);
        }
        self.let_take();
        arm_when_told();
        self.send(LARGE_BYTES);
    }

    /// A batch is pending where the lap ends, so there is no restart before.
    fn batch_around_the_end(mut self) {
        self.send(HALF_BYTES);
        self.let_take();
        arm_when_told();
        self.batch_of(&[HALF_BYTES, 100]);
    }

    fn batch_beyond_the_room(mut self) {
        arm_when_told();
        self.batch_of(&[LARGE_BYTES; 7]);
    }

    fn send_beyond_the_room(mut self) {
        arm_when_told();
        for _ in 0..7 {
            self.send(LARGE_BYTES);
        }
    }

    /// In one batch: the ring is not found drained, so there is no restart.
    fn burst(&mut self) {
        self.batch_of(&[HALF_BYTES; BURST as usize]);
        self.let_take();
    }

    fn go_idle(mut self) {
        self.burst();
        arm_when_told();
        self.stream.receive().unwrap();
    }

    /// The first message restarts, the second finds the burst's memory behind itself, the third that nobody has used it for
    /// 100 ms.
    fn send_after_a_burst(mut self) {
        self.burst();
        for _ in 0..2 {
            self.send(HALF_BYTES);
            self.let_take();
        }
        thread::sleep(Duration::from_millis(110));
        arm_when_told();
        self.send(HALF_BYTES);
    }

    fn receive(mut self) {
        self.send_three();
        say("send 1");
        told();
        arm_when_told();
        self.stream.receive().unwrap();
    }

    fn receive_behind_padding(mut self) {
        self.send_three();
        say("send 3");
        told();
        for _ in 0..3 {
            self.stream.receive().unwrap();
        }
        assert!(self.stream.try_receive().unwrap().is_none(), "and says that it has taken them");
        say("send 1");
        told();
        arm_when_told();
        self.stream.receive().unwrap();
    }

    fn wait(mut self) {
        self.send_three();
        arm_when_told();
        self.stream.set_receive_timeout(Some(Duration::from_millis(25)));
        self.stream.receive().unwrap_err();
    }

    fn close(mut self) {
        self.send_three();
        arm_when_told();
        drop(self.stream);
    }
}
