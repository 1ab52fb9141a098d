//! The way in: a thread that turns standard input into messages.

use crate::limits::INBOX;
use crossbeam_channel::{Receiver, Sender};
use edgewise_protocol::{DecodeError, Decoder, Frame, HostMessage, from_control};
use std::{
    io::{self, Read},
    thread,
};

/// What came in.
#[derive(Debug)]
pub(super) enum Incoming {
    Message(HostMessage),
    Chunk {
        id: u32,
        bytes: Vec<u8>,
    },
    /// The host closed the connection.
    End,
    /// The last thing that comes.
    Undecodable(DecodeError),
    /// The last thing that comes.
    Failed(io::Error),
}

/// Reads on a thread. The channel is short: a host that sends faster than the disk writes is slowed down by its pipe.
pub(super) fn read(mut input: impl Read + Send + 'static) -> Receiver<Incoming> {
    let (sender, receiver) = crossbeam_channel::bounded(INBOX);
    thread::spawn(move || {
        let last = pump(&mut input, &sender);
        // Nobody listens any more if serving has ended.
        let _ = sender.send(last);
    });
    receiver
}

fn pump(input: &mut impl Read, sender: &Sender<Incoming>) -> Incoming {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Incoming::End,
            Ok(n) => decoder.push(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Incoming::Failed(e),
        }
        loop {
            let incoming = match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Chunk { id, bytes })) => Incoming::Chunk { id, bytes },
                Ok(Some(Frame::Control(body))) => match from_control(&body) {
                    Ok(message) => Incoming::Message(message),
                    Err(e) => return Incoming::Undecodable(e),
                },
                Err(e) => return Incoming::Undecodable(e),
            };
            if sender.send(incoming).is_err() {
                return Incoming::End;
            }
        }
    }
}
