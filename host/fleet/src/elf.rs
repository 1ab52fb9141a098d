//! Which machine a program or a library is for, as its ELF header says.
//!
//! Contract: only the header and the program headers are looked at, and nothing in them is trusted. What is not ELF is `None`:
//! scripts and other systems' programs say nothing here. Source: the System V ABI, chapters "Object files" and "Program
//! loading"; the numbers of machines are those of its registry.

use crate::Error;
use std::{fmt, fs::File, io::Read, path::Path};

const MAGIC: &[u8] = b"\x7fELF";
/// Of a 64-bit file; that of a 32-bit one is shorter.
const HEADER: u64 = 64;
/// A program header that names the dynamic linker.
const PT_INTERP: u32 = 3;

/// A family of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// x86, of 64 bits or 32.
    X86,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm.
    Arm,
    /// RISC-V, of 64 bits or 32.
    RiscV,
    /// Another, by its number in the registry.
    Other(u16),
}

/// What a program or a library runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Platform {
    /// Its processors.
    pub arch: Arch,
    /// Bits of an address: 64 or 32.
    pub bits: u32,
}

/// An ELF file, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elf {
    pub(crate) platform: Platform,
    /// It names a dynamic linker, without which it does not start. Libraries mostly name none.
    pub(crate) interpreted: bool,
}

impl Platform {
    /// What the file is for; `None` if it is no ELF file or a damaged one.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read.
    pub fn of_file(path: &Path) -> Result<Option<Self>, Error> {
        let mut head = Vec::new();
        let read = File::open(path).and_then(|file| file.take(HEADER).read_to_end(&mut head));
        read.map_err(|source| Error::File { action: "read", path: path.into(), source })?;
        Ok(Reader::new(&head).and_then(|reader| reader.platform()))
    }

    /// What processors of that triple run; `None` if the triple is not known here.
    pub fn of_triple(triple: &str) -> Option<Self> {
        let (arch, bits) = match triple.split('-').next().unwrap_or_default() {
            "x86_64" => (Arch::X86, 64),
            "i386" | "i486" | "i586" | "i686" => (Arch::X86, 32),
            "aarch64" | "arm64" => (Arch::Aarch64, 64),
            arch if arch.starts_with("arm") || arch.starts_with("thumb") => (Arch::Arm, 32),
            arch if arch.starts_with("riscv64") => (Arch::RiscV, 64),
            arch if arch.starts_with("riscv32") => (Arch::RiscV, 32),
            _ => return None,
        };
        Some(Self { arch, bits })
    }

    /// Whether a program of that triple may run this or load it. Systems that have other formats run no ELF file; of processors
    /// that are not known here nothing is said against it.
    pub fn fits(self, triple: &str) -> bool {
        let elf = !["-darwin", "-ios", "-windows"].iter().any(|system| triple.contains(system));
        elf && Self::of_triple(triple).is_none_or(|wanted| wanted == self)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.arch, self.bits) {
            (Arch::X86, 64) => f.write_str("x86-64"),
            (Arch::Aarch64, 64) => f.write_str("aarch64"),
            (Arch::X86, bits) => write!(f, "{bits}-bit x86"),
            (Arch::Aarch64 | Arch::Arm, bits) => write!(f, "{bits}-bit Arm"),
            (Arch::RiscV, bits) => write!(f, "{bits}-bit RISC-V"),
            (Arch::Other(number), bits) => write!(f, "a {bits}-bit processor (number {number} of the ELF registry)"),
        }
    }
}

impl Elf {
    /// Whether the bytes claim to be ELF; if so they may still be damaged.
    pub(crate) fn is_claimed(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// A whole file; `None` if it is no ELF file or a damaged one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let reader = Reader::new(bytes)?;
        Some(Self { platform: reader.platform()?, interpreted: reader.interpreted()? })
    }
}

/// Numbers in the file's own order of bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    wide: bool,
    big: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let [class, order] = *bytes.strip_prefix(MAGIC)?.first_chunk()?;
        let wide = match class {
            1 => false,
            2 => true,
            _ => return None,
        };
        let big = match order {
            1 => false,
            2 => true,
            _ => return None,
        };
        Some(Self { bytes, wide, big })
    }

    fn number<const N: usize>(&self, at: u64) -> Option<u64> {
        let mut bytes: [u8; N] = *self.bytes.get(usize::try_from(at).ok()?..)?.first_chunk()?;
        if self.big {
            bytes.reverse();
        }
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn word(&self, at: u64) -> Option<u64> {
        if self.wide { self.number::<8>(at) } else { self.number::<4>(at) }
    }

    fn platform(&self) -> Option<Platform> {
        let arch = match self.number::<2>(18)? as u16 {
            3 | 62 => Arch::X86,
            40 => Arch::Arm,
            183 => Arch::Aarch64,
            243 => Arch::RiscV,
            other => Arch::Other(other),
        };
        Some(Platform { arch, bits: if self.wide { 64 } else { 32 } })
    }

    /// Whether one of the program headers names a dynamic linker; `None` if they are not all there.
    fn interpreted(&self) -> Option<bool> {
        let (table, sizes) = if self.wide { (32, 54) } else { (28, 42) };
        let (table, size, count) = (self.word(table)?, self.number::<2>(sizes)?, self.number::<2>(sizes + 2)?);
        for n in 0..count {
            let header = table.checked_add(n * size)?;
            if self.number::<4>(header)? == u64::from(PT_INTERP) {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// Headers of small programs, for tests.
#[cfg(test)]
pub(crate) mod fixture {
    /// An ELF file that consists of headers: of a processor by its number, with program headers of these kinds.
    pub(crate) fn elf(machine: u16, wide: bool, big: bool, kinds: &[u32]) -> Vec<u8> {
        let order = |mut bytes: Vec<u8>| {
            if big {
                bytes.reverse();
            }
            bytes
        };
        let word = |value: u32| order(if wide { u64::from(value).to_le_bytes().to_vec() } else { value.to_le_bytes().to_vec() });
        let half = |value: u16| order(value.to_le_bytes().to_vec());
        let full = |value: u32| order(value.to_le_bytes().to_vec());
        let (header, entry) = if wide { (64, 56) } else { (52, 32) };
        let mut out = b"\x7fELF".to_vec();
        out.extend([if wide { 2 } else { 1 }, if big { 2 } else { 1 }, 1, 0]);
        out.resize(16, 0);
        out.extend([half(2), half(machine), full(1), word(0), word(header), word(0), full(0)].concat());
        out.extend([half(header as u16), half(entry), half(kinds.len() as u16), half(0), half(0), half(0)].concat());
        assert_eq!(out.len(), header as usize);
        for kind in kinds {
            let end = out.len() + usize::from(entry);
            out.extend(full(*kind));
            out.resize(end, 0);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{fixture::elf, *};
    use proptest::prelude::*;

    const X86_64: Platform = Platform { arch: Arch::X86, bits: 64 };
    const AARCH64: Platform = Platform { arch: Arch::Aarch64, bits: 64 };
    const ARM: Platform = Platform { arch: Arch::Arm, bits: 32 };

    #[test]
    fn headers_of_every_class_and_order_are_read() {
        for (machine, wide, big, platform, words) in [
            (62, true, false, X86_64, "x86-64"),
            (183, true, false, AARCH64, "aarch64"),
            (183, true, true, AARCH64, "aarch64"),
            (40, false, false, ARM, "32-bit Arm"),
            (40, false, true, ARM, "32-bit Arm"),
            (3, false, false, Platform { arch: Arch::X86, bits: 32 }, "32-bit x86"),
            (243, true, false, Platform { arch: Arch::RiscV, bits: 64 }, "64-bit RISC-V"),
        ] {
            for (kinds, interpreted) in [(&[][..], false), (&[1, 2, 6][..], false), (&[6, 3, 1][..], true)] {
                let bytes = elf(machine, wide, big, kinds);
                assert_eq!(Elf::parse(&bytes), Some(Elf { platform, interpreted }), "{machine} {kinds:?}");
                assert_eq!(platform.to_string(), words);
            }
        }
    }

    #[test]
    fn a_damaged_file_is_none() {
        let whole = elf(62, true, false, &[1, 3]);
        for cut in 0..64 {
            assert_eq!(Elf::parse(&whole[..cut]), None, "{cut}");
        }
        let mut strange = whole.clone();
        strange[4] = 3;
        assert_eq!(Elf::parse(&strange), None);
        let mut far = elf(62, true, false, &[1, 3]);
        far[32..40].fill(0xff);
        assert_eq!(Elf::parse(&far), None);
        assert_eq!(Elf::parse(b"#!/bin/sh\n"), None);
        assert!(Elf::is_claimed(&whole[..5]) && !Elf::is_claimed(b"#!/bin/sh\n"));
    }

    #[test]
    fn a_platform_fits_the_triples_of_its_processor() {
        for triple in
            ["x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl", "x86_64-linux-android", "loongarch64-unknown-linux-gnu"]
        {
            assert!(X86_64.fits(triple), "{triple}");
        }
        for triple in
            ["aarch64-unknown-linux-gnu", "armv7-unknown-linux-musleabihf", "i686-unknown-linux-gnu", "x86_64-apple-darwin"]
        {
            assert!(!X86_64.fits(triple), "{triple}");
        }
        assert!(ARM.fits("armv7-unknown-linux-musleabihf") && ARM.fits("thumbv7neon-unknown-linux-gnueabihf"));
        assert!(!ARM.fits("aarch64-unknown-linux-musl") && !AARCH64.fits("armv7-unknown-linux-gnueabihf"));
        let x32 = Platform { arch: Arch::X86, bits: 32 };
        assert!(!x32.fits("x86_64-unknown-linux-gnu") && x32.fits("i686-unknown-linux-gnu"));
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn this_very_program_is_recognised() {
        let path = std::env::current_exe().unwrap();
        let platform = Platform::of_file(&path).unwrap().unwrap();
        assert_eq!(platform, Platform::of_triple(std::env::consts::ARCH).unwrap());
        assert_eq!(Elf::parse(&std::fs::read(&path).unwrap()).map(|elf| elf.platform), Some(platform));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(Platform::of_file(&source).unwrap(), None);
        assert!(matches!(Platform::of_file(Path::new("/nowhere/lib.so")), Err(Error::File { .. })));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Elf::parse(&bytes);
            let _ = Elf::parse(&[MAGIC, &bytes].concat());
        }

        #[test]
        fn no_header_that_is_changed_panics(at in 4_usize..200, byte: u8, wide: bool, big: bool) {
            let mut bytes = elf(183, wide, big, &[1, 2, 3]);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = Elf::parse(&bytes);
        }
    }
}
