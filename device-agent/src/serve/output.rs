//! The one way out: whole frames, one after the other, and silence while a worker times.

use crate::{error::ServeError, limits::HEARTBEAT};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use edgewise_protocol::{AgentMessage, DecodeError, ErrorCode, MAGIC, WireError, encode_control};
use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The connection's sending half; shared by the dispatcher and the threads of long requests.
#[derive(Debug)]
pub(super) struct Output {
    file: Mutex<File>,
    quiet: AtomicBool,
}

impl Output {
    pub(super) fn new(file: File) -> Self {
        Self { file: Mutex::new(file), quiet: AtomicBool::new(false) }
    }

    /// Sends the magic and the first message.
    pub(super) fn greet(&self, hello: &AgentMessage) -> Result<(), ServeError> {
        let mut bytes = MAGIC.to_vec();
        encode_control(hello, &mut bytes).map_err(ServeError::Undecodable)?;
        self.write(&bytes).map_err(ServeError::Connection)
    }

    /// Sends one message. A reply that fits no frame is replaced by an error that says so.
    pub(super) fn send(&self, message: &AgentMessage) -> io::Result<()> {
        let mut bytes = Vec::new();
        if let Err(error) = encode_control(message, &mut bytes) {
            bytes.clear();
            encode_control(&too_large(message, &error), &mut bytes).map_err(io::Error::other)?;
        }
        self.write(&bytes)
    }

    /// Sends a heartbeat unless a worker times.
    pub(super) fn heartbeat(&self) -> io::Result<()> {
        if self.quiet.load(Ordering::Acquire) { Ok(()) } else { self.send(&AgentMessage::Heartbeat) }
    }

    /// Stops heartbeats, or lets them go on.
    pub(super) fn set_quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Release);
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // A thread that panicked while it held the lock wrote a frame whole or the connection is broken anyway.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(bytes)
    }

    /// Sends heartbeats until `stop` is closed or the connection fails.
    pub(super) fn beat(&self, stop: &Receiver<()>) {
        while stop.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) && self.heartbeat().is_ok() {}
    }
}

fn too_large(message: &AgentMessage, error: &DecodeError) -> AgentMessage {
    match message {
        AgentMessage::Reply { id, .. } => {
            AgentMessage::Reply { id: *id, result: Err(WireError { code: ErrorCode::Internal, message: error.to_string() }) }
        }
        _ => AgentMessage::Log(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgewise_protocol::{Decoder, Frame, from_control};
    use std::io::{Read, Seek};

    fn sent(act: impl FnOnce(&Output)) -> Vec<AgentMessage> {
        let mut file = tempfile::tempfile().unwrap();
        act(&Output::new(file.try_clone().unwrap()));
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        std::iter::from_fn(|| decoder.next_frame().unwrap())
            .map(|frame| match frame {
                Frame::Control(body) => from_control(&body).unwrap(),
                Frame::Chunk { .. } => panic!("a chunk"),
            })
            .collect()
    }

    #[test]
    fn no_heartbeat_while_quiet() {
        let got = sent(|output| {
            output.set_quiet(true);
            output.heartbeat().unwrap();
            output.send(&AgentMessage::Log("x".into())).unwrap();
            output.set_quiet(false);
            output.heartbeat().unwrap();
        });
        assert_eq!(got, [AgentMessage::Log("x".into()), AgentMessage::Heartbeat]);
    }

    #[test]
    fn a_reply_that_fits_no_frame_becomes_an_error() {
        let huge = WireError { code: ErrorCode::Io, message: "x".repeat(2 << 20) };
        let got = sent(|output| output.send(&AgentMessage::Reply { id: 7, result: Err(huge) }).unwrap());
        let [AgentMessage::Reply { id: 7, result: Err(error) }] = &got[..] else { panic!("{got:?}") };
        assert_eq!(error.code, ErrorCode::Internal);
    }
}
