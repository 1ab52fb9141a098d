//! Whatever comes over the wire, cut anywhere: framing, both sides' messages, the search for the magic, and names of blobs.
#![no_main]

use edgewise_fuzz::seed;
use edgewise_protocol::{
    AgentMessage, BlobId, DecodeError, Decoder, Frame, HostMessage, MAGIC, MAX_CHUNK, MAX_CONTROL, MagicScanner, Scan,
    encode_chunk, encode_control, from_control,
};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use std::{fs, path::Path};

/// The first byte says what the rest is: a stream, unless it is one of these.
const HOST: u8 = b'h';
const AGENT: u8 = b'a';
const NAME: u8 = b'n';

fuzz_target!(init: seed(golden()), |data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else { return };
    match kind {
        HOST => round_trip::<HostMessage>(rest),
        AGENT => round_trip::<AgentMessage>(rest),
        NAME => name(rest),
        // The byte is the number of cuts, which come first.
        cuts => {
            let (cuts, stream) = rest.split_at(rest.len().min(usize::from(cuts)));
            framing(cuts, stream);
            scanning(cuts, stream);
        }
    }
});

/// Pieces of `stream`, as long as `cuts` say over and over; empty ones among them.
fn pieces<'a>(cuts: &[u8], mut stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &cut in cuts.iter().cycle().take(if cuts.iter().all(|&cut| cut == 0) { 0 } else { usize::MAX }) {
        if stream.is_empty() {
            break;
        }
        let (piece, rest) = stream.split_at(stream.len().min(usize::from(cut)));
        pieces.push(piece);
        stream = rest;
    }
    pieces.push(stream);
    pieces
}

fn framing(cuts: &[u8], stream: &[u8]) {
    let whole = frames(&[stream]);
    assert_eq!(frames(&pieces(cuts, stream)), whole, "frames depend on the cuts");
    whole.0.iter().for_each(check);
}

fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, Option<DecodeError>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(e) => return (frames, Some(e)),
            }
        }
    }
    (frames, None)
}

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
    let (frames, error) = frames(&[wire]);
    assert_eq!((frames.len(), error), (1, None));
    frames.into_iter().next().expect("there is one")
}

/// The magic is found where it is first, or nowhere, whatever the cuts.
fn scanning(cuts: &[u8], stream: &[u8]) {
    let mut scanner = MagicScanner::default();
    let mut pushed = 0;
    let first = stream.windows(MAGIC.len()).position(|window| window == MAGIC);
    for piece in pieces(cuts, stream) {
        pushed += piece.len();
        match scanner.push(piece) {
            Scan::Pending => assert!(first.is_none_or(|at| at + MAGIC.len() > pushed)),
            Scan::Found(rest) => {
                assert_eq!((Some(scanner.noise().len()), scanner.noise()), (first, &stream[..first.unwrap_or_default()]));
                assert_eq!(scanner.noise().len() + MAGIC.len() + rest.len(), pushed);
                assert_eq!(rest, stream[pushed - rest.len()..pushed]);
                return;
            }
            Scan::Missing => return,
        }
    }
}

/// A blob has one name, but for the case of its letters.
fn name(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(blob) = text.parse::<BlobId>() {
        assert_eq!(blob.to_string(), text.to_ascii_lowercase());
    }
}

/// One message of each kind, as the protocol's own tests keep them, as streams and without their frames.
fn golden() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../device-agent/protocol/tests/golden");
    let mut seeds = vec![
        [&[1, 5][..], b"Welcome!\r\n", &MAGIC, b"rest"].concat(),
        [&[NAME][..], "0123456789abcdef".repeat(4).as_bytes()].concat(),
    ];
    for entry in fs::read_dir(folder).expect("the protocol has golden messages") {
        let text = fs::read_to_string(entry.expect("it is listed").path()).expect("it can be read");
        let digits: String = text.split_whitespace().collect();
        let wire = hex::decode(digits).expect("it is hexadecimal");
        if let Frame::Control(body) = only_frame(&wire) {
            seeds.extend([HOST, AGENT].map(|kind| [&[kind], &body[..]].concat()));
        }
        seeds.push([&[2, 16, 3], &wire[..]].concat());
    }
    seeds
}
