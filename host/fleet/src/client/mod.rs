//! The host's side of the protocol, over any transport.
//!
//! Contract: one request at a time; every wait has a deadline. An agent that is not timing answers pings, and one that says
//! nothing for [`SILENCE`] is given up; one that is timing is left alone until its deadline. After an error that
//! [`Error::breaks_connection`], the client is of no more use.

mod generate;
mod measure;
mod upload;

pub use generate::Written;
pub use upload::{Blob, Content};

use crate::{End, Error, Event, Exit, SendError, Transport, transport::printable};
use edgewise_protocol::{
    AgentHello, AgentMessage, BlobId, BlobState, Decoder, DeviceDescription, Frame, Health, HostHello, HostMessage, MagicScanner,
    OrtLibrary, Reply, Request, Scan, common_version, encode_control, from_control,
};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// From the start of the agent to its greeting. A small board loads 15 MB from a memory card first.
const GREETING: Duration = Duration::from_secs(20);
/// How often the agent is asked for a sign of life.
const PING: Duration = Duration::from_secs(5);
/// An agent that says nothing for this long, and takes nothing, is dead.
const SILENCE: Duration = Duration::from_secs(25);
/// As many bytes must have left to count as a sign of life: pings into a dead connection's buffer are fewer.
const BULK: u64 = 16 << 10;
/// For one message to find room in the queue: the transport's own watchdog is shorter.
const SEND: Duration = Duration::from_mins(1);
/// For a request that needs little work. Describing a device includes loading ONNX Runtime.
const SMALL_REQUEST: Duration = Duration::from_mins(1);
/// How soon a cancellation is noticed.
const CANCEL_POLL: Duration = Duration::from_millis(100);
/// Names of blobs that fit a control frame with room to spare.
const BLOBS_PER_REQUEST: usize = 8192;
/// Lines of the agent's log that are kept until somebody takes them.
const LOG_LINES: usize = 256;

/// Who uses a device, for whoever else wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// User, machine, command.
    pub owner: String,
    /// Name of the lease that is taken for each measurement; agents of one system that use the same name take turns.
    pub lease: String,
}

/// A connection to an agent.
pub struct DeviceClient {
    device: String,
    transport: Box<dyn Transport>,
    decoder: Decoder,
    hello: AgentHello,
    next_id: u32,
    last_heard: Instant,
    last_ping: Instant,
    moved: u64,
    log: VecDeque<String>,
}

/// What concerns the request in progress.
enum Answer {
    Reply(Result<Reply, edgewise_protocol::WireError>),
    Ack(u64),
    Progress(edgewise_protocol::Progress),
    Tokens(Vec<u32>),
}

impl DeviceClient {
    /// Greets the agent at the far end of `transport`.
    ///
    /// # Errors
    /// [`Error::AgentStart`] if it ends or prints something else first, [`Error::ConnectionLost`], [`Error::Version`],
    /// [`Error::Decode`], [`Error::Unexpected`].
    pub fn greet(device: &str, mut transport: Box<dyn Transport>, caller: &Caller) -> Result<Self, Error> {
        let deadline = Instant::now() + GREETING;
        let mut scanner = MagicScanner::default();
        let not_started = |what: String, noise: &[u8]| {
            let noise = printable(noise);
            let what = if noise.is_empty() { what } else { format!("{what}; it printed: {noise}") };
            Error::AgentStart { device: device.into(), what }
        };
        let rest = loop {
            match transport.receive(deadline) {
                None => {
                    let end = transport.close(Duration::ZERO);
                    let what = format!("it did not greet within {} s ({})", GREETING.as_secs(), end.stderr);
                    return Err(not_started(what, scanner.noise()));
                }
                Some(Event::Ended(End { exit: Exit::Lost(why), .. })) => {
                    return Err(Error::ConnectionLost { device: device.into(), why });
                }
                Some(Event::Ended(end)) => return Err(not_started(format!("it {end}"), scanner.noise())),
                Some(Event::Data(bytes)) => match scanner.push(&bytes) {
                    Scan::Pending => {}
                    Scan::Found(rest) => break rest,
                    Scan::Missing => {
                        transport.close(Duration::ZERO);
                        let shown = scanner.noise().len().min(400);
                        return Err(not_started("it is not the agent".into(), &scanner.noise()[..shown]));
                    }
                },
            }
        };
        let mut decoder = Decoder::default();
        decoder.push(&rest);
        let now = Instant::now();
        let mut client = Self {
            device: device.into(),
            transport,
            decoder,
            hello: AgentHello { oldest: 0, newest: 0, version: String::new(), triple: String::new(), pid: 0 },
            next_id: 1,
            last_heard: now,
            last_ping: now,
            moved: 0,
            log: VecDeque::new(),
        };
        let hello = loop {
            match client.next_message(deadline)? {
                Some(AgentMessage::Hello(hello)) => break hello,
                Some(AgentMessage::Log(line)) => client.note(&line),
                Some(_) => return Err(client.unexpected("its first message is no greeting")),
                None => return Err(not_started("it did not finish its greeting".into(), &[])),
            }
        };
        let Some(protocol) = common_version(hello.oldest, hello.newest) else {
            let AgentHello { version, oldest, newest, .. } = hello;
            return Err(Error::Version { device: client.device, version, oldest, newest });
        };
        client.hello = hello;
        client.send(&HostMessage::Hello(HostHello {
            protocol,
            version: env!("CARGO_PKG_VERSION").into(),
            owner: caller.owner.clone(),
            lease: caller.lease.clone(),
        }))?;
        Ok(client)
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What the agent said about itself.
    pub fn hello(&self) -> &AgentHello {
        &self.hello
    }

    /// Lines that the agent logged since the last call.
    pub fn take_log(&mut self) -> Vec<String> {
        self.log.drain(..).collect()
    }

    /// Who the device is, and which runtimes work there.
    ///
    /// # Errors
    /// [`Error::Device`], and those that break the connection.
    pub fn describe(&mut self, ort: OrtLibrary) -> Result<DeviceDescription, Error> {
        match self.call(Request::Describe { ort }, SMALL_REQUEST)? {
            Reply::Described(description) => Ok(*description),
            other => Err(self.wrong_reply(&other)),
        }
    }

    /// Which blobs the device holds, in the order asked.
    ///
    /// # Errors
    /// [`Error::Device`], and those that break the connection.
    pub fn have(&mut self, blobs: &[BlobId]) -> Result<Vec<BlobState>, Error> {
        let mut states = Vec::with_capacity(blobs.len());
        for part in blobs.chunks(BLOBS_PER_REQUEST) {
            match self.call(Request::Have { blobs: part.to_vec() }, SMALL_REQUEST)? {
                Reply::Have(found) if found.len() == part.len() => states.extend(found),
                other => return Err(self.wrong_reply(&other)),
            }
        }
        Ok(states)
    }

    /// Finds out whether the agent still answers. What it said meanwhile does not count: heartbeats wait in the queue long
    /// after their sender is gone.
    ///
    /// # Errors
    /// Those that break the connection.
    pub fn check(&mut self) -> Result<(), Error> {
        // A question about no blob is the smallest request.
        match self.call(Request::Have { blobs: Vec::new() }, SMALL_REQUEST)? {
            Reply::Have(states) if states.is_empty() => Ok(()),
            other => Err(self.wrong_reply(&other)),
        }
    }

    /// What about the device's state would spoil a measurement. Takes a few seconds.
    ///
    /// # Errors
    /// [`Error::Device`], and those that break the connection.
    pub fn examine(&mut self) -> Result<Health, Error> {
        match self.call(Request::Examine, SMALL_REQUEST)? {
            Reply::Examined(health) => Ok(*health),
            other => Err(self.wrong_reply(&other)),
        }
    }

    /// Bytes that were sent to the device so far, of messages and of blobs.
    pub fn bytes_sent(&self) -> u64 {
        self.transport.bytes_moved()
    }

    /// Ends the connection and the agent.
    pub fn close(mut self) {
        self.transport.close(Duration::from_secs(3));
    }

    /// A request that is answered by its reply alone.
    fn call(&mut self, request: Request, limit: Duration) -> Result<Reply, Error> {
        let deadline = Instant::now() + limit;
        let id = self.request(request)?;
        loop {
            match self.answer(id, deadline, true)? {
                Some(Answer::Reply(result)) => return self.accept(result),
                Some(_) => {}
                None => return Err(Error::AgentSilent { device: self.device.clone(), silence: limit }),
            }
        }
    }

    fn request(&mut self, request: Request) -> Result<u32, Error> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        // Silence counts from here: nobody listened before.
        self.last_heard = Instant::now();
        self.send(&HostMessage::Request { id, request })?;
        Ok(id)
    }

    fn send(&mut self, message: &HostMessage) -> Result<(), Error> {
        let mut bytes = Vec::new();
        encode_control(message, &mut bytes).map_err(|source| Error::Decode { device: self.device.clone(), source })?;
        self.send_bytes(bytes)
    }

    fn send_bytes(&mut self, mut bytes: Vec<u8>) -> Result<(), Error> {
        match self.transport.send(&mut bytes, Instant::now() + SEND) {
            Ok(()) => Ok(()),
            Err(SendError::Timeout) => Err(Error::AgentSilent { device: self.device.clone(), silence: SEND }),
            Err(SendError::Closed) => {
                // Its end is behind whatever it still said.
                let end = self.transport.close(Duration::from_secs(2));
                Err(self.ended(end))
            }
        }
    }

    /// The next thing that concerns request `id`, or `None` at `deadline`. With `watch`, the agent is pinged and must not be
    /// silent for long; without, it is timing and is left in peace.
    fn answer(&mut self, id: u32, deadline: Instant, watch: bool) -> Result<Option<Answer>, Error> {
        Ok(self.answer_any(|of| of == id, deadline, watch)?.map(|(_, answer)| answer))
    }

    /// The same for each request that `concerns` says yes to.
    fn answer_any(
        &mut self,
        concerns: impl Fn(u32) -> bool,
        deadline: Instant,
        watch: bool,
    ) -> Result<Option<(u32, Answer)>, Error> {
        loop {
            let now = Instant::now();
            let mut until = deadline;
            if watch {
                self.keep_watch(now)?;
                until = until.min(self.last_ping + PING);
            }
            let (id, answer) = match self.next_message(until)? {
                Some(AgentMessage::Reply { id, result }) => (id, Answer::Reply(result)),
                Some(AgentMessage::Ack { id, received }) => (id, Answer::Ack(received)),
                Some(AgentMessage::Progress { id, progress }) => (id, Answer::Progress(progress)),
                Some(AgentMessage::Tokens { id, tokens }) => (id, Answer::Tokens(tokens)),
                Some(AgentMessage::Hello(_)) => return Err(self.unexpected("it greeted twice")),
                other => {
                    if let Some(AgentMessage::Log(line)) = other {
                        self.note(&line);
                    }
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                    continue;
                }
            };
            if concerns(id) {
                return Ok(Some((id, answer)));
            }
            // A request that was given up may still be answered; one that was never made may not.
            if id == 0 || id >= self.next_id {
                return Err(self.unexpected(&format!("it answered request {id}, which was never made")));
            }
        }
    }

    fn keep_watch(&mut self, now: Instant) -> Result<(), Error> {
        // Bytes that leave are a sign of life, too: an answer may be stuck behind megabytes on a slow link.
        let moved = self.transport.bytes_moved();
        if moved.wrapping_sub(self.moved) >= BULK {
            self.moved = moved;
            self.last_heard = now;
        }
        let silence = now.saturating_duration_since(self.last_heard);
        if silence > SILENCE {
            return Err(Error::AgentSilent { device: self.device.clone(), silence });
        }
        if now.saturating_duration_since(self.last_ping) >= PING {
            self.last_ping = now;
            self.send(&HostMessage::Ping)?;
        }
        Ok(())
    }

    fn next_message(&mut self, deadline: Instant) -> Result<Option<AgentMessage>, Error> {
        loop {
            let decode = |source| Error::Decode { device: self.device.clone(), source };
            match self.decoder.next_frame().map_err(decode)? {
                Some(Frame::Control(body)) => return from_control(&body).map(Some).map_err(decode),
                Some(Frame::Chunk { .. }) => return Err(self.unexpected("it sent bulk data")),
                None => {}
            }
            match self.transport.receive(deadline) {
                Some(Event::Data(bytes)) => {
                    self.last_heard = Instant::now();
                    self.decoder.push(&bytes);
                }
                Some(Event::Ended(end)) => return Err(self.ended(end)),
                None => return Ok(None),
            }
        }
    }

    fn accept(&self, result: Result<Reply, edgewise_protocol::WireError>) -> Result<Reply, Error> {
        result.map_err(|e| Error::Device { device: self.device.clone(), code: e.code, message: printable(e.message.as_bytes()) })
    }

    fn ended(&self, end: End) -> Error {
        let device = self.device.clone();
        match end.exit {
            Exit::Lost(why) => Error::ConnectionLost { device, why },
            _ => Error::AgentDied { device, end: Box::new(end) },
        }
    }

    fn note(&mut self, line: &str) {
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(printable(line.as_bytes()));
    }

    fn unexpected(&self, what: &str) -> Error {
        Error::Unexpected { device: self.device.clone(), what: what.into() }
    }

    fn wrong_reply(&self, reply: &Reply) -> Error {
        let kind = match reply {
            Reply::Described(_) => "a description",
            Reply::Have(states) => return self.unexpected(&format!("it answered with the state of {} blobs", states.len())),
            Reply::Stored => "`stored`",
            Reply::Measured(_) => "a measurement",
            Reply::Examined(_) => "what it found about itself",
            Reply::Generated(_) => "a text",
        };
        self.unexpected(&format!("it answered with {kind} where something else was asked"))
    }

    fn cancelled(&self, cancel: &AtomicBool) -> Result<(), Error> {
        if cancel.load(Ordering::Relaxed) { Err(Error::Cancelled { device: self.device.clone() }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upload_tests;
