//! An agent in this process, over a transport of plain queues, that does as a test's script says.

use crate::{End, Event, Exit, SendError, Transport, transport::Queues};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use edgewise_protocol::{
    AgentHello, AgentMessage, Decoder, ErrorCode, Frame, HostMessage, MAGIC, PROTOCOL_VERSION, Reply, Request, WireError,
    encode_control, from_control,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The host's end.
pub(super) struct FakeTransport {
    queues: Queues,
    moved: Arc<AtomicU64>,
    pub(super) quiet: Arc<AtomicBool>,
}

/// The agent's end.
pub(super) struct Fake {
    from_host: Receiver<Vec<u8>>,
    to_host: Sender<Event>,
    moved: Arc<AtomicU64>,
    decoder: Decoder,
    /// Set by the client while the agent says that it times.
    pub(super) quiet: Arc<AtomicBool>,
}

/// Starts an agent that runs `script` after it greeted with `noise` before its magic.
pub(super) fn fake(noise: &'static [u8], script: impl FnOnce(&mut Fake) + Send + 'static) -> FakeTransport {
    // Two messages in the queue: the window must do its work without a deep one.
    let (outgoing, from_host) = bounded(2);
    let (to_host, incoming) = unbounded();
    let moved = Arc::new(AtomicU64::new(0));
    let quiet = Arc::new(AtomicBool::new(false));
    let mut agent =
        Fake { from_host, to_host, moved: Arc::clone(&moved), decoder: Decoder::default(), quiet: Arc::clone(&quiet) };
    thread::spawn(move || {
        agent.raw(noise);
        // In two pieces: a stream may be cut anywhere.
        agent.raw(&MAGIC[..3]);
        agent.raw(&MAGIC[3..]);
        agent.say(&AgentMessage::Hello(hello()));
        script(&mut agent);
        agent.end(Exit::Code(0));
    });
    FakeTransport { queues: Queues::new(outgoing, incoming), moved, quiet }
}

pub(super) fn hello() -> AgentHello {
    AgentHello { oldest: PROTOCOL_VERSION, newest: PROTOCOL_VERSION, version: "9".into(), triple: "t".into(), pid: 7 }
}

impl Fake {
    pub(super) fn raw(&self, bytes: &[u8]) {
        let _ = self.to_host.send(Event::Data(bytes.to_vec()));
    }

    pub(super) fn say(&self, message: &AgentMessage) {
        let mut bytes = Vec::new();
        encode_control(message, &mut bytes).unwrap();
        self.raw(&bytes);
    }

    pub(super) fn reply(&self, id: u32, reply: Reply) {
        self.say(&AgentMessage::Reply { id, result: Ok(reply) });
    }

    pub(super) fn fail(&self, id: u32, code: ErrorCode, message: &str) {
        self.say(&AgentMessage::Reply { id, result: Err(WireError { code, message: message.into() }) });
    }

    pub(super) fn end(&self, exit: Exit) {
        let _ = self.to_host.send(Event::Ended(End { exit, stderr: "last words".into() }));
    }

    /// The next frame, unless none comes for `patience` or the host is gone.
    pub(super) fn frame(&mut self, patience: Duration) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let bytes = self.from_host.recv_timeout(patience).ok()?;
            self.moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.decoder.push(&bytes);
        }
    }

    /// The next message that is not a ping; pings are answered.
    pub(super) fn message(&mut self) -> Option<HostMessage> {
        loop {
            match self.frame(Duration::from_secs(20))? {
                Frame::Control(body) => match from_control(&body).unwrap() {
                    HostMessage::Ping => self.say(&AgentMessage::Heartbeat),
                    message => return Some(message),
                },
                Frame::Chunk { .. } => {}
            }
        }
    }

    /// The next request.
    pub(super) fn request(&mut self) -> Option<(u32, Request)> {
        loop {
            if let HostMessage::Request { id, request } = self.message()? {
                return Some((id, request));
            }
        }
    }
}

impl Transport for FakeTransport {
    fn send(&mut self, message: &mut Vec<u8>, deadline: Instant) -> Result<(), SendError> {
        self.queues.send(message, deadline)
    }

    fn receive(&mut self, deadline: Instant) -> Option<Event> {
        self.queues.receive(deadline)
    }

    fn bytes_moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn set_quiet(&mut self, quiet: bool) {
        self.quiet.store(quiet, Ordering::SeqCst);
    }

    fn close(&mut self, _patience: Duration) -> End {
        self.queues.finish();
        loop {
            if let Some(end) = self.queues.end() {
                return end.clone();
            }
            self.receive(Instant::now() + Duration::from_secs(20));
        }
    }
}
