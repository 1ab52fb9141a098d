//! What the pages of a Parquet file ask for, looked at before any is unpacked.
//!
//! Contract: the library sets aside as much memory as a page's header says, up to 2 GiB for every column, whatever the file's own
//! length; where there is less, that ends the program. A file that passes here asks for [`MOST`] at a time at most, and its pages
//! lie within it. Only headers are read.
//!
//! A header is a structure of Thrift's compact protocol (`PageHeader` in parquet-format's parquet.thrift).

use ::parquet::{errors::ParquetError, file::metadata::ParquetMetaData};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};

/// Bytes of the largest pages of all columns together. Writers aim at one MiB a page.
pub(super) const MOST: u64 = 1 << 30;
/// How deep structures may lie in each other. A header's lie three deep.
const DEEPEST: usize = 16;

/// Looks at the pages of every column.
pub(super) fn check(file: impl Read + Seek, metadata: &ParquetMetaData, most: u64) -> Result<(), ParquetError> {
    let mut file = BufReader::new(file);
    let length = file.seek(SeekFrom::End(0))?;
    for group in metadata.row_groups() {
        let mut together = 0;
        for column in group.columns() {
            let (start, bytes) = column.byte_range();
            let end = start.checked_add(bytes).filter(|end| *end <= length);
            let end = end.ok_or_else(|| ParquetError::General("a column lies behind the file's end".into()))?;
            let before = most.saturating_sub(together);
            together += largest(&mut file, start, end, before)?;
        }
    }
    Ok(())
}

/// The largest page of a column chunk, unpacked; an error as soon as one is larger than `most`.
fn largest(file: &mut (impl Read + Seek), start: u64, end: u64, most: u64) -> Result<u64, ParquetError> {
    let mut largest = 0;
    let mut at = start;
    while at < end {
        file.seek(SeekFrom::Start(at))?;
        let mut header = Header(Read::by_ref(file).take(end - at));
        let sizes = header.sizes().map_err(|error| ParquetError::General(format!("a page's header is damaged: {error}")))?;
        let left = header.0.limit();
        if sizes.packed > left {
            return Err(ParquetError::General("a page is longer than its column".into()));
        }
        if sizes.unpacked > most {
            let asked = sizes.unpacked >> 20;
            return Err(ParquetError::General(format!("pages take more than {} MiB unpacked, one of them {asked}", MOST >> 20)));
        }
        largest = largest.max(sizes.unpacked);
        at = end - left + sizes.packed;
    }
    Ok(largest)
}

/// Bytes of a page.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    unpacked: u64,
    packed: u64,
}

/// A header that is being read.
struct Header<R>(R);

impl<R: Read> Header<R> {
    fn sizes(&mut self) -> io::Result<Sizes> {
        let (mut unpacked, mut packed) = (None, None);
        let mut id = 0;
        while let Some((next, kind)) = self.field(id)? {
            id = next;
            match (id, kind) {
                (2, 5) => unpacked = Some(self.size()?),
                (3, 5) => packed = Some(self.size()?),
                _ => self.skip(kind, DEEPEST)?,
            }
        }
        match (unpacked, packed) {
            (Some(unpacked), Some(packed)) => Ok(Sizes { unpacked, packed }),
            _ => Err(damaged("it has no sizes")),
        }
    }

    /// The next field's id and kind; nothing at the structure's end.
    fn field(&mut self, last: i64) -> io::Result<Option<(i64, u8)>> {
        let byte = self.byte()?;
        Ok(match (byte >> 4, byte & 15) {
            (_, 0) => None,
            (0, kind) => Some((self.signed()?, kind)),
            (step, kind) => Some((last.saturating_add(i64::from(step)), kind)),
        })
    }

    /// Reads over a value. Every value of a list or map takes a byte at least, so their number is bounded by what is there.
    fn skip(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| damaged("it is nested too deep"))?;
        match kind {
            // Fields that are true or false have no more than their kind.
            1 | 2 => Ok(()),
            3 => self.byte().map(drop),
            4..=6 => self.number().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.number()?;
                self.pass(length)
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.number()? } else { u64::from(byte >> 4) };
                (0..count).try_for_each(|_| self.element(byte & 15, depth))
            }
            11 => {
                let count = self.number()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.element(kinds >> 4, depth)?;
                    self.element(kinds & 15, depth)
                })
            }
            12 => {
                let mut id = 0;
                while let Some((next, kind)) = self.field(id)? {
                    id = next;
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            13 => self.pass(16),
            _ => Err(damaged("it has a field of no known kind")),
        }
    }

    /// Reads over a value of a list or a map.
    fn element(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        self.skip(if matches!(kind, 1 | 2) { 3 } else { kind }, depth)
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut Read::by_ref(&mut self.0).take(bytes), &mut io::sink())?;
        if passed == bytes { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn size(&mut self) -> io::Result<u64> {
        u64::try_from(self.signed()?).map_err(|_| damaged("a size is negative"))
    }

    /// A number in zigzag form.
    fn signed(&mut self) -> io::Result<i64> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A number of seven bits a byte, the lowest first.
    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(number);
            }
        }
        Err(damaged("a number is too long"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::*;
    use std::{fs, fs::File, io::Cursor, path::Path};

    fn fixture() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mmlu.parquet")
    }

    fn sizes(bytes: &[u8]) -> io::Result<Sizes> {
        Header(bytes).sizes()
    }

    #[test]
    fn sizes_lie_between_other_fields() {
        // A flag, a list of two flags, a map from a byte to a text and a structure lie around them.
        let header = [
            0x15, 0, 0x15, 0x80, 0x04, 0x15, 0x54, 0x11, 0x19, 0x21, 1, 2, 0x1b, 1, 0x38, 7, 2, b'a', b'b', 0x1c, 0x15, 2, 0x18,
            1, 0, 0, 0,
        ];
        assert_eq!(sizes(&header).unwrap(), Sizes { unpacked: 256, packed: 42 });
        // A step of 0: the field's id is written out.
        assert_eq!(sizes(&[0x05, 4, 0x54, 0x15, 0x02, 0]).unwrap(), Sizes { unpacked: 42, packed: 1 });
    }

    #[test]
    fn what_a_header_may_not_say_is_told() {
        let error = |bytes: &[u8]| sizes(bytes).unwrap_err().to_string();
        assert_eq!(error(&[0x25, 2, 0]), "it has no sizes");
        assert_eq!(error(&[0x25, 1, 0x15, 2, 0]), "a size is negative");
        assert_eq!(error(&[0x25, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]), "a number is too long");
        assert_eq!(error(&[0x1f]), "it has a field of no known kind");
        assert_eq!(error(&[0x1c; 40]), "it is nested too deep");
        assert_eq!(sizes(&[0x18, 5, 1]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        // As many flags as a list can claim to have: it ends with the bytes.
        let mut many = vec![0x19, 0xf1];
        many.extend([255; 9]);
        many.push(1);
        assert_eq!(sizes(&many).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn columns_share_what_there_is() {
        let file = || File::open(fixture()).unwrap();
        let reader = SerializedFileReader::new(file()).unwrap();
        let columns = reader.metadata().row_group(0).columns();
        let one = |column: usize| {
            let (start, bytes) = columns[column].byte_range();
            largest(&mut BufReader::new(file()), start, start + bytes, MOST).unwrap()
        };
        let together: u64 = (0..columns.len()).map(one).sum();
        assert!(columns.len() > 1 && (0..columns.len()).all(|c| (1..together).contains(&one(c))));
        check(file(), reader.metadata(), together).unwrap();
        assert!(check(file(), reader.metadata(), together - 1).unwrap_err().to_string().contains("MiB unpacked"));
        // Nothing may lie behind the end.
        let bytes = fs::read(fixture()).unwrap();
        let error = check(Cursor::new(&bytes[..40]), reader.metadata(), MOST).unwrap_err();
        assert!(error.to_string().contains("behind the file's end"), "{error}");
    }

    proptest! {
        /// Every answer is sizes or an error, and comes soon.
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = sizes(&bytes);
        }
    }
}
