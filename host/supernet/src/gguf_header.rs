//! What a GGUF header must not say, checked because the library goes wrong on it: an alignment of 0, by which it divides, and
//! shapes without elements (read through a pointer that is not aligned) or with more than a number holds.

use candle_core::quantized::gguf_file::TensorInfo;
use std::{
    collections::HashMap,
    io::{self, Read, Seek, SeekFrom},
};

const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// The library refuses arrays that are nested deeper.
const DEPTH: u32 = 64;

/// Whether the metadata set `general.alignment` to 0. A header that ends too early or makes no sense is left to the library to
/// refuse. Leaves the reader at an arbitrary position.
pub(crate) fn has_zero_alignment<R: Read + Seek>(reader: R) -> bool {
    Walk { reader, wide: true }.finds_zero().unwrap_or(false)
}

/// The first tensor by name with a shape that no weight has: without dimensions, without elements, or with too many to count.
pub(crate) fn impossible_shape(tensors: &HashMap<String, TensorInfo>) -> Option<&str> {
    let possible = |info: &TensorInfo| {
        let dims = info.shape.dims();
        // Eight bytes an element are the most that any type takes.
        !dims.is_empty() && !dims.contains(&0) && dims.iter().try_fold(8usize, |n, &d| n.checked_mul(d)).is_some()
    };
    tensors.iter().filter(|(_, info)| !possible(info)).map(|(name, _)| name.as_str()).min()
}

struct Walk<R> {
    reader: R,
    /// Lengths have 64 bits, from version 2 on.
    wide: bool,
}

impl<R: Read + Seek> Walk<R> {
    fn finds_zero(&mut self) -> io::Result<bool> {
        self.number(4)?;
        self.wide = self.number(4)? != 1;
        self.length()?;
        for _ in 0..self.length()? {
            let length = self.length()?;
            let mut key = Vec::new();
            (&mut self.reader).take(length).read_to_end(&mut key)?;
            let kind = self.number(4)? as u32;
            let named = key.iter().rposition(|byte| *byte != 0).map_or(&[][..], |last| &key[..=last]);
            match size(kind) {
                // The types that the library takes an alignment from: whole numbers of up to 32 bits.
                Some(bytes) if kind <= 5 && named == b"general.alignment" => {
                    if self.number(bytes)? == 0 {
                        return Ok(true);
                    }
                }
                _ => self.skip(kind, 0)?,
            }
        }
        Ok(false)
    }

    fn skip(&mut self, kind: u32, depth: u32) -> io::Result<()> {
        if let Some(bytes) = size(kind) {
            return self.advance(bytes);
        }
        match kind {
            STRING => {
                let length = self.length()?;
                self.advance(length)
            }
            ARRAY if depth < DEPTH => {
                let inner = self.number(4)? as u32;
                let count = self.length()?;
                match size(inner) {
                    Some(bytes) => self.advance(bytes.saturating_mul(count)),
                    None => (0..count).try_for_each(|_| self.skip(inner, depth + 1)),
                }
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn advance(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        self.reader.seek(SeekFrom::Current(bytes)).map(drop)
    }

    fn length(&mut self) -> io::Result<u64> {
        self.number(if self.wide { 8 } else { 4 })
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, bytes: u64) -> io::Result<u64> {
        let mut buffer = [0; 8];
        self.reader.read_exact(&mut buffer[..bytes as usize])?;
        Ok(u64::from_le_bytes(buffer))
    }
}

/// Bytes of a value of this type, where they are always as many.
fn size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Shape, quantized::GgmlDType};
    use std::io::Cursor;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
    }

    fn header(entries: &[Vec<u8>]) -> Vec<u8> {
        let counts = [0u64.to_le_bytes(), (entries.len() as u64).to_le_bytes()].concat();
        [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), counts, entries.concat()].concat()
    }

    #[test]
    fn a_zero_is_found_behind_values_of_every_kind() {
        let strings = [&STRING.to_le_bytes()[..], &2u64.to_le_bytes(), &text("a"), &text("general.alignment")].concat();
        let nested = [&ARRAY.to_le_bytes()[..], &1u64.to_le_bytes(), &4u32.to_le_bytes(), &1u64.to_le_bytes(), &[1; 4]].concat();
        let mut entries = vec![
            entry("a", 0, &[1]),
            entry("b", 6, &[1; 4]),
            entry("c", 10, &[1; 8]),
            entry("d", STRING, &text("general.alignment")),
            entry("e", ARRAY, &strings),
            entry("f", ARRAY, &nested),
            entry("general.alignment", 4, &[32, 0, 0, 0]),
        ];
        assert!(!has_zero_alignment(Cursor::new(header(&entries))));
        // Trailing nul bytes of a key do not count.
        for (key, kind, value) in [("general.alignment", 4, &[0; 4][..]), ("general.alignment\0", 1, &[0])] {
            entries.push(entry(key, kind, value));
            let bytes = header(&entries);
            assert!(has_zero_alignment(Cursor::new(&bytes)), "{key:?}");
            for cut in 0..bytes.len() {
                assert!(!has_zero_alignment(Cursor::new(&bytes[..cut])), "{cut}");
            }
            entries.pop();
        }
    }

    #[test]
    fn impossible_shapes_are_named() {
        let info = |dims: Vec<usize>| TensorInfo { ggml_dtype: GgmlDType::F32, shape: Shape::from(dims), offset: 0 };
        let mut tensors = HashMap::from([("good".to_owned(), info(vec![2, 3]))]);
        assert_eq!(impossible_shape(&tensors), None);
        tensors.insert("vast".into(), info(vec![1 << 40, 1 << 40]));
        assert_eq!(impossible_shape(&tensors), Some("vast"));
        tensors.insert("void".into(), info(vec![3, 0]));
        tensors.remove("vast");
        assert_eq!(impossible_shape(&tensors), Some("void"));
        tensors.insert("flat".into(), info(vec![]));
        assert_eq!(impossible_shape(&tensors), Some("flat"));
    }
}
