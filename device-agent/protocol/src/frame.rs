//! Framing: `u32` little-endian length, one byte of kind, body.
//!
//! Control frames hold a postcard message; chunk frames hold `u32` request number and raw bytes, so that bulk data is never
//! copied through a serialiser. A length over the kind's limit is refused before a byte of the body is stored.

use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// What the agent writes first. Bytes that no login banner prints, so that noise before it can be told apart.
pub const MAGIC: [u8; 8] = *b"\x01EDGW\n\xf0\x0f";
/// How much noise (login banners, shell warnings) before the magic is tolerated, in bytes.
pub const MAX_NOISE: usize = 64 << 10;
/// Largest body of a control frame, in bytes.
pub const MAX_CONTROL: usize = 1 << 20;
/// Largest payload of a chunk frame, in bytes.
pub const MAX_CHUNK: usize = 256 << 10;
/// Bytes of a chunk frame that come before its payload: length, kind, request number.
pub const CHUNK_HEADER: usize = 9;

const KIND_CONTROL: u8 = 1;
const KIND_CHUNK: u8 = 2;

/// One frame as it came from the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A postcard message; decode it with [`from_control`].
    Control(Vec<u8>),
    /// Raw bytes that belong to the request with this number.
    Chunk {
        /// The request that announced the bytes.
        id: u32,
        /// At most [`MAX_CHUNK`] bytes.
        bytes: Vec<u8>,
    },
}

/// Why bytes from the wire were refused. The connection cannot go on after one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// The kind byte is none that this version knows.
    UnknownKind(u8),
    /// The announced length is over the limit of its kind, or too short to hold its own header.
    BadLength {
        /// The announced length.
        length: u32,
        /// The kind byte.
        kind: u8,
    },
    /// The body is not a message of the expected type.
    BadMessage(String),
    /// The message would not fit a control frame.
    TooLarge(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "frame of unknown kind {kind}"),
            Self::BadLength { length, kind } => write!(f, "frame of kind {kind} announces a length of {length} bytes"),
            Self::BadMessage(why) => write!(f, "undecodable message: {why}"),
            Self::TooLarge(size) => write!(f, "message of {size} bytes does not fit a frame of {MAX_CONTROL} bytes"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends `message` as a control frame.
///
/// # Errors
/// [`DecodeError::TooLarge`] if it does not fit [`MAX_CONTROL`].
pub fn encode_control<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let body = postcard::to_stdvec(message).map_err(|e| DecodeError::BadMessage(e.to_string()))?;
    if body.len() > MAX_CONTROL {
        return Err(DecodeError::TooLarge(body.len()));
    }
    out.extend_from_slice(&(body.len() as u32 + 1).to_le_bytes());
    out.push(KIND_CONTROL);
    out.extend_from_slice(&body);
    Ok(())
}

/// Appends `bytes` as one chunk frame of request `id`.
///
/// # Panics
/// If `bytes` is longer than [`MAX_CHUNK`]: the sender cuts its data.
pub fn encode_chunk(id: u32, bytes: &[u8], out: &mut Vec<u8>) {
    assert!(bytes.len() <= MAX_CHUNK, "chunk of {} bytes", bytes.len());
    out.extend_from_slice(&(bytes.len() as u32 + 5).to_le_bytes());
    out.push(KIND_CHUNK);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Decodes the body of a control frame; bytes left over are an error, since they mean another version's type.
///
/// # Errors
/// [`DecodeError::BadMessage`].
pub fn from_control<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let (message, rest) = postcard::take_from_bytes(body).map_err(|e| DecodeError::BadMessage(e.to_string()))?;
    if rest.is_empty() { Ok(message) } else { Err(DecodeError::BadMessage(format!("{} bytes left over", rest.len()))) }
}

/// Turns a byte stream, cut anywhere, into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        // Consumed bytes are dropped only when they outweigh the rest, so that each byte is moved a bounded number of times.
        if self.start > 0 && self.start >= self.buffer.len() - self.start {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// [`DecodeError::UnknownKind`], [`DecodeError::BadLength`]; the stream cannot be trusted after that.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        let pending = &self.buffer[self.start..];
        let Some((head, rest)) = pending.split_at_checked(5) else { return Ok(None) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let kind = head[4];
        let bad = DecodeError::BadLength { length, kind };
        let body = (length as usize).checked_sub(1).ok_or_else(|| bad.clone())?;
        let limit = match kind {
            KIND_CONTROL => MAX_CONTROL,
            KIND_CHUNK => MAX_CHUNK + 4,
            other => return Err(DecodeError::UnknownKind(other)),
        };
        if body > limit || (kind == KIND_CHUNK && body < 4) {
            return Err(bad);
        }
        let Some((body_bytes, _)) = rest.split_at_checked(body) else { return Ok(None) };
        let frame = if kind == KIND_CONTROL {
            Frame::Control(body_bytes.to_vec())
        } else {
            let (id, bytes) = body_bytes.split_at(4);
            Frame::Chunk { id: u32::from_le_bytes([id[0], id[1], id[2], id[3]]), bytes: bytes.to_vec() }
        };
        self.start += 5 + body;
        Ok(Some(frame))
    }
}

/// What [`MagicScanner::push`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// Not yet; push more.
    Pending,
    /// Found; these bytes came after it and belong to the [`Decoder`].
    Found(Vec<u8>),
    /// More than [`MAX_NOISE`] bytes without it.
    Missing,
}

/// Finds [`MAGIC`] behind whatever a login shell prints first.
#[derive(Debug, Default)]
pub struct MagicScanner {
    seen: Vec<u8>,
}

impl MagicScanner {
    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) -> Scan {
        // The magic may straddle two pushes.
        let from = self.seen.len().saturating_sub(MAGIC.len() - 1);
        self.seen.extend_from_slice(bytes);
        if let Some(at) = self.seen[from..].windows(MAGIC.len()).position(|w| w == MAGIC) {
            let rest = self.seen.split_off(from + at + MAGIC.len());
            self.seen.truncate(from + at);
            return Scan::Found(rest);
        }
        if self.seen.len() > MAX_NOISE { Scan::Missing } else { Scan::Pending }
    }

    /// What came before the magic, for an error's text.
    pub fn noise(&self) -> &[u8] {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let chunk =
            (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..2000)).prop_map(|(id, bytes)| Frame::Chunk { id, bytes });
        let control =
            proptest::collection::vec(any::<u8>(), 0..500).prop_map(|b| Frame::Control(postcard::to_stdvec(&b).unwrap()));
        proptest::collection::vec(prop_oneof![chunk, control], 0..12)
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(frames in frames(), cuts in proptest::collection::vec(1usize..700, 1..40)) {
            let mut wire = Vec::new();
            for frame in &frames {
                match frame {
                    Frame::Chunk { id, bytes } => encode_chunk(*id, bytes, &mut wire),
                    Frame::Control(body) => encode_control(&from_control::<Vec<u8>>(body).unwrap(), &mut wire).unwrap(),
                }
            }
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            let mut rest = &wire[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                decoder.push(now);
                rest = later;
                while let Some(frame) = decoder.next_frame().unwrap() { got.push(frame); }
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(frame)) = decoder.next_frame() {
                if let Frame::Control(body) = frame {
                    let _ = from_control::<crate::AgentMessage>(&body);
                    let _ = from_control::<crate::HostMessage>(&body);
                }
            }
        }

        #[test]
        fn the_magic_is_found_behind_noise(noise in proptest::collection::vec(any::<u8>(), 0..3000), tail in proptest::collection::vec(any::<u8>(), 0..50), cut in 1usize..64) {
            prop_assume!(!noise.windows(MAGIC.len()).any(|w| w == MAGIC));
            let wire: Vec<u8> = noise.iter().chain(&MAGIC).chain(&tail).copied().collect();
            let mut scanner = MagicScanner::default();
            let mut after = None;
            for piece in wire.chunks(cut) {
                match &mut after {
                    None => if let Scan::Found(rest) = scanner.push(piece) { after = Some(rest) },
                    Some(rest) => rest.extend_from_slice(piece),
                }
            }
            prop_assert_eq!(after.unwrap(), tail);
        }
    }

    #[test]
    fn lengths_are_refused_before_the_body_comes() {
        for (length, kind) in [(0, KIND_CONTROL), (MAX_CONTROL as u32 + 2, KIND_CONTROL), (u32::MAX, KIND_CHUNK), (4, KIND_CHUNK)]
        {
            let mut decoder = Decoder::default();
            decoder.push(&u32::to_le_bytes(length));
            decoder.push(&[kind]);
            assert_eq!(decoder.next_frame(), Err(DecodeError::BadLength { length, kind }));
        }
    }

    #[test]
    fn noise_without_magic_is_bounded() {
        let mut scanner = MagicScanner::default();
        assert_eq!(scanner.push(&vec![b'x'; MAX_NOISE]), Scan::Pending);
        assert_eq!(scanner.push(b"x"), Scan::Missing);
    }
}
