//! A folder of agent builds, and the manifest in it.
//!
//! Contract: a build is `TRIPLE/device-agent`. `agents.json`, which the build script writes, says which bytes those are that it
//! made, so that neither a broken copy nor half an update reaches a board. Builds that it does not name are the user's own and
//! used as they are; one that it names need not be there. Without a manifest all are the user's own.

use crate::{AgentBuild, Error};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

const MANIFEST: &str = "agents.json";
const SCHEMA: &str = "edgewise.agents/1";
const PROGRAM: &str = "device-agent";
/// More than a manifest of every triple there is.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Head {
    schema: String,
}

#[derive(Deserialize)]
struct Document {
    agents: Vec<Entry>,
}

/// What the manifest says of one build. It says more, for people.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Entry {
    triple: String,
    sha256: String,
    bytes: u64,
}

impl AgentBuild {
    /// The builds of a folder, by triple. A folder that is not there has none.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Manifest`], [`Error::BuildChanged`], [`Error::WrongBuild`].
    pub fn all_in(folder: &Path) -> Result<Vec<Self>, Error> {
        let failed = |source| Error::File { action: "read", path: folder.into(), source };
        let entries = match fs::read_dir(folder) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut promised = manifest(&folder.join(MANIFEST))?;
        let mut out = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let path = entry.path().join(PROGRAM);
            let Some(triple) = entry.file_name().to_str().map(str::to_owned).filter(|_| path.is_file()) else { continue };
            out.push(match promised.remove(&triple) {
                Some(entry) => Self::open_checked(&triple, &path, &entry.sha256, entry.bytes)?,
                None => Self::open(&triple, &path)?,
            });
        }
        out.sort_by(|a, b| a.triple().cmp(b.triple()));
        Ok(out)
    }
}

/// What the manifest says, by triple; nothing where there is none.
fn manifest(path: &Path) -> Result<BTreeMap<String, Entry>, Error> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(Error::File { action: "read", path: path.into(), source }),
        Ok(_) => {}
    }
    parse(&bytes).map_err(|problem| Error::Manifest { path: path.into(), problem })
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if head.schema != SCHEMA {
        return Err(format!("its schema is `{}`, this program knows `{SCHEMA}`", head.schema));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let mut out = BTreeMap::new();
    for entry in document.agents {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if entry.sha256.len() != 64 || !entry.sha256.bytes().all(hex) {
            return Err(format!("`{}` of {} is no SHA-256", entry.sha256, entry.triple));
        }
        if let Some(twice) = out.insert(entry.triple.clone(), entry) {
            return Err(format!("it names {} twice", twice.triple));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn document(agents: &[(&str, &str, u64)]) -> String {
        let entry = |(triple, sha256, bytes): &(&str, &str, u64)| {
            format!(
                "{{\"triple\":\"{triple}\",\"sha256\":\"{sha256}\",\"bytes\":{bytes},\"runtimes\":[\"tract\",\"ort\"],\
                 \"glibc\":\"2.28\",\"toolchain\":\"cargo-zigbuild 0.24\"}}"
            )
        };
        let agents: Vec<_> = agents.iter().map(entry).collect();
        format!("{{\"schema\":\"{SCHEMA}\",\"version\":\"0.1.0\",\"agents\":[{}]}}", agents.join(","))
    }

    fn folder(builds: &[(&str, &str)], manifest: Option<&str>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (triple, content) in builds {
            fs::create_dir(dir.path().join(triple)).unwrap();
            fs::write(dir.path().join(triple).join(PROGRAM), content).unwrap();
        }
        if let Some(text) = manifest {
            fs::write(dir.path().join(MANIFEST), text).unwrap();
        }
        dir
    }

    #[test]
    fn builds_are_found_with_and_without_a_manifest() {
        let builds = [("x86_64-unknown-linux-musl", "abc"), ("aarch64-unknown-linux-gnu", "own")];
        let manifest = document(&[("x86_64-unknown-linux-musl", ABC, 3), ("armv7-unknown-linux-musleabihf", ABC, 3)]);
        let with = folder(&builds, Some(&manifest));
        fs::create_dir(with.path().join("empty")).unwrap();
        fs::write(with.path().join("notes"), "").unwrap();
        let found = AgentBuild::all_in(with.path()).unwrap();
        let seen: Vec<_> = found.iter().map(AgentBuild::triple).collect();
        assert_eq!(seen, ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-musl"]);
        assert_eq!(found[1].sha256(), ABC);
        let without = folder(&builds, None);
        assert_eq!(AgentBuild::all_in(without.path()).unwrap().len(), 2);
        assert_eq!(AgentBuild::all_in(&without.path().join("none")).unwrap(), []);
    }

    #[test]
    fn a_build_that_is_not_what_the_manifest_names_is_an_error() {
        let manifest = document(&[("x86_64-unknown-linux-musl", ABC, 3)]);
        let dir = folder(&[("x86_64-unknown-linux-musl", "abd")], Some(&manifest));
        let error = AgentBuild::all_in(dir.path()).unwrap_err();
        let Error::BuildChanged { path, expected, found } = &error else { panic!("{error}") };
        assert!(path.ends_with("x86_64-unknown-linux-musl/device-agent"));
        assert_eq!((expected.0.as_str(), expected.1, found.1), (ABC, 3, 3));
        assert!(error.to_string().contains(ABC) && error.to_string().contains(&found.0), "{error}");
    }

    #[test]
    fn a_broken_manifest_is_named_with_what_is_wrong() {
        let twice = document(&[("t-x", ABC, 3), ("t-x", ABC, 3)]);
        let upper = document(&[("t-x", &ABC.to_uppercase(), 3)]);
        for (text, problem) in [
            ("", "EOF"),
            ("{}", "schema"),
            ("{\"schema\":\"edgewise.agents/2\"}", "edgewise.agents/2"),
            ("{\"schema\":\"edgewise.agents/1\"}", "agents"),
            (&document(&[("t-x", ABC, 3)]).replace(":3", ":-3"), "-3"),
            (&document(&[("t-x", &ABC[1..], 3)]), "no SHA-256"),
            (upper.as_str(), "no SHA-256"),
            (twice.as_str(), "twice"),
            (&"[".repeat(100_000), "invalid type"),
            (&" ".repeat(MAX_BYTES as usize + 5), "more than"),
        ] {
            let dir = folder(&[], Some(text));
            let error = AgentBuild::all_in(dir.path()).unwrap_err();
            let said = error.to_string();
            assert!(matches!(&error, Error::Manifest { .. }), "{said}");
            assert!(said.contains(MANIFEST) && said.contains(problem), "{problem}: {said}");
            assert!(error.hint().unwrap().contains("scripts/build-agents"));
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_manifest_that_is_changed_never_panics(at in 0_usize..400, with in proptest::collection::vec(any::<u8>(), 0..8)) {
            let mut bytes = document(&[("aarch64-unknown-linux-gnu", ABC, 3), ("t-x", ABC, 1)]).into_bytes();
            let at = at.min(bytes.len());
            let end = (at + with.len()).min(bytes.len());
            bytes.splice(at..end, with);
            for entry in parse(&bytes).unwrap_or_default().into_values() {
                prop_assert!(entry.sha256.len() == 64);
            }
        }

        #[test]
        fn what_is_written_is_read(triples in proptest::collection::btree_set("[a-z0-9_]{1,9}-[a-z]{1,9}", 0..6), bytes: u64) {
            let agents: Vec<_> = triples.iter().map(|triple| (triple.as_str(), ABC, bytes)).collect();
            let parsed = parse(document(&agents).as_bytes()).unwrap();
            prop_assert!(parsed.keys().eq(triples.iter()));
            prop_assert!(parsed.values().all(|entry| entry.bytes == bytes));
        }
    }
}
