//! Whatever comes over the wire, cut anywhere: framing, both sides' messages, and the search for the magic.
#![no_main]

use edgewise_fuzz::seed;
use edgewise_protocol::{
    AgentMessage, Decoder, Frame, HostMessage, MAGIC, MAX_CHUNK, MAX_CONTROL, MagicScanner, Scan, encode_chunk, encode_control,
    from_control,
};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use std::{fs, path::Path};

fuzz_target!(init: seed(golden()), |data: &[u8]| {
    // The first byte cuts the stream.
    let Some((&cut, stream)) = data.split_first() else { return };
    let pieces = || stream.chunks(usize::from(cut).max(1));
    let mut decoder = Decoder::default();
    'stream: for piece in pieces() {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => check(&frame),
                Ok(None) => break,
                Err(_) => break 'stream,
            }
        }
    }
    let mut scanner = MagicScanner::default();
    let mut pushed = 0;
    for piece in pieces() {
        pushed += piece.len();
        match scanner.push(piece) {
            Scan::Pending => {}
            Scan::Found(rest) => {
                assert_eq!(scanner.noise().len() + MAGIC.len() + rest.len(), pushed);
                break;
            }
            Scan::Missing => break,
        }
    }
});

fn check(frame: &Frame) {
    match frame {
        Frame::Control(body) => {
            assert!(body.len() <= MAX_CONTROL);
            round_trip::<HostMessage>(body);
            round_trip::<AgentMessage>(body);
        }
        Frame::Chunk { id, bytes } => {
            assert!(bytes.len() <= MAX_CHUNK);
            let mut wire = Vec::new();
            encode_chunk(*id, bytes, &mut wire);
            assert_eq!(&only_frame(&wire), frame);
        }
    }
}

/// What can be read can be written, and is then read as the same. Bytes are compared, for not every number equals itself.
fn round_trip<T: Serialize + DeserializeOwned>(body: &[u8]) {
    let Ok(message) = from_control::<T>(body) else { return };
    let mut first = Vec::new();
    if encode_control(&message, &mut first).is_err() {
        return;
    }
    let Frame::Control(again) = only_frame(&first) else { panic!("a message became a chunk") };
    let mut second = Vec::new();
    encode_control(&from_control::<T>(&again).expect("it was just written"), &mut second).expect("it fitted before");
    assert_eq!(first, second);
}

fn only_frame(wire: &[u8]) -> Frame {
    let mut decoder = Decoder::default();
    decoder.push(wire);
    decoder.next_frame().expect("it was just written").expect("it is whole")
}

/// One message of each kind, as the protocol's own tests keep them.
fn golden() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-agent/protocol/tests/golden");
    let mut seeds: Vec<Vec<u8>> = fs::read_dir(folder)
        .expect("the protocol has golden messages")
        .map(|entry| {
            let text = fs::read_to_string(entry.expect("it is listed").path()).expect("it can be read");
            let digits: String = text.split_whitespace().collect();
            [vec![16], hex::decode(digits).expect("it is hexadecimal")].concat()
        })
        .collect();
    seeds.push([&[5][..], b"Welcome!\r\n", &MAGIC, b"rest"].concat());
    seeds
}
