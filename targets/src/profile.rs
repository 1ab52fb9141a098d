//! The form of a profile, and the embedded ones.

use crate::Error;
use serde::Deserialize;
use std::path::Path;

/// File name (for errors) and text of every embedded profile, in the order they are listed to people.
const EMBEDDED: [(&str, &str); 7] = [
    ("local", include_str!("../local.toml")),
    ("raspberry-pi", include_str!("../raspberry-pi.toml")),
    ("raspberry-pi-32", include_str!("../raspberry-pi-32.toml")),
    ("jetson", include_str!("../jetson.toml")),
    ("android", include_str!("../android.toml")),
    ("linux-x86_64", include_str!("../linux-x86_64.toml")),
    ("linux-aarch64", include_str!("../linux-aarch64.toml")),
];

/// What can run a model on a board of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// ONNX Runtime, a shared library on the device.
    Ort,
    /// tract, built into the agent.
    Tract,
}

impl Runtime {
    /// The name used in profiles, on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ort => "ort",
            Self::Tract => "tract",
        }
    }
}

/// What a kind of board needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// How it is named in `devices.toml` and on the command line.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Builds of the agent that run there, the best first.
    pub triples: Vec<String>,
    /// Runtimes worth trying, the best first.
    pub runtimes: Vec<Runtime>,
    /// Threads of the runtime; 0 means all cores.
    pub threads: u16,
    /// Where its sshd listens unless the device says otherwise.
    pub port: u16,
    /// SSH ciphers in order of preference; others that are secure come after them.
    pub ciphers: Vec<String>,
    /// Where on the device the agent and its store may live, tried in order. Absolute, or below `~` or an environment
    /// variable of the device (`$NAME/...`), and then left out where that is unset.
    pub remote_dirs: Vec<String>,
    /// ONNX Runtime's shared library on the device, where it is not found by itself.
    #[serde(default)]
    pub ort_library: Option<String>,
    /// Words put before the agent's path to run it, such as an emulator and its options. The device's own processor then
    /// does not limit which build is chosen.
    #[serde(default)]
    pub runner: Option<Vec<String>>,
}

impl Profile {
    /// Every embedded profile, in the order they are listed to people.
    ///
    /// # Panics
    /// Never in a tested build: a test parses every embedded file.
    pub fn all() -> Vec<Self> {
        EMBEDDED.iter().map(|(name, text)| Self::parse(name, text).expect("embedded profiles are tested")).collect()
    }

    /// The embedded profile of that name.
    ///
    /// # Errors
    /// [`Error::Unknown`], which lists the known names.
    pub fn find(name: &str) -> Result<Self, Error> {
        match EMBEDDED.iter().find(|(known, _)| *known == name) {
            Some((known, text)) => Self::parse(known, text),
            None => Err(Error::Unknown { name: name.into(), known: EMBEDDED.iter().map(|(known, _)| (*known).into()).collect() }),
        }
    }

    /// A profile from the user's own file.
    ///
    /// # Errors
    /// Each variant but [`Error::Unknown`]; all name the file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(origin: &str, text: &str) -> Result<Self, Error> {
        let profile: Self =
            toml::from_str(text).map_err(|source| Error::Parse { origin: origin.into(), source: Box::new(source) })?;
        match profile.problem() {
            None => Ok(profile),
            Some((field, problem)) => Err(Error::Value { origin: origin.into(), field, problem }),
        }
    }

    fn problem(&self) -> Option<(&'static str, String)> {
        if self.name.is_empty() {
            return Some(("name", "is empty".into()));
        }
        if self.triples.is_empty() {
            return Some(("triples", "is empty: no build of the agent would fit".into()));
        }
        if self.runtimes.is_empty() {
            return Some(("runtimes", "is empty: nothing would run a model".into()));
        }
        if self.port == 0 {
            return Some(("port", "is 0".into()));
        }
        if self.runner.as_ref().is_some_and(|words| words.first().is_none_or(String::is_empty)) {
            return Some(("runner", "names no program".into()));
        }
        if self.remote_dirs.is_empty() && self.name != "local" {
            return Some(("remote_dirs", "is empty: the agent would have no place".into()));
        }
        let bad = self.remote_dirs.iter().find(|dir| !is_remote_dir(dir))?;
        Some(("remote_dirs", format!("holds `{bad}`, which is neither absolute nor below `~/` or `$NAME/`")))
    }
}

/// `/x`, `~/x` or `$NAME/x`, in characters that no shell or protocol has trouble with.
fn is_remote_dir(dir: &str) -> bool {
    let below = |rest: &str| !rest.is_empty() && !rest.chars().any(char::is_control);
    if let Some(rest) = dir.strip_prefix("~/").or_else(|| dir.strip_prefix('/')) {
        return below(rest);
    }
    dir.strip_prefix('$').and_then(|rest| rest.split_once('/')).is_some_and(|(name, rest)| {
        name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            && below(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded_and_parses() {
        let mut files: Vec<String> = std::fs::read_dir(env!("CARGO_MANIFEST_DIR"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".toml").map(String::from))
            .filter(|name| name != "Cargo" && name != "Cross")
            .collect();
        let mut profiles: Vec<String> = Profile::all().into_iter().map(|profile| profile.name).collect();
        files.sort();
        profiles.sort();
        assert_eq!(files, profiles);
    }

    #[test]
    fn a_profile_is_found_by_the_name_it_has() {
        for (name, _) in EMBEDDED {
            assert_eq!(Profile::find(name).unwrap().name, name);
        }
        assert_eq!(Profile::find("android").unwrap().port, 8022);
    }

    #[test]
    fn every_triple_but_the_local_ones_can_be_cross_built() {
        let cross: toml::Table = toml::from_str(include_str!("../Cross.toml")).unwrap();
        let images = cross["target"].as_table().unwrap();
        for profile in Profile::all().iter().filter(|profile| profile.name != "local") {
            for triple in &profile.triples {
                assert!(images.contains_key(triple), "{triple} of {} is not in Cross.toml", profile.name);
            }
        }
    }

    #[test]
    fn an_unknown_target_lists_the_known_ones() {
        let message = Profile::find("raspberry").unwrap_err().to_string();
        assert!(message.contains("unknown target `raspberry`"), "{message}");
        assert!(message.contains("raspberry-pi") && message.contains("jetson"), "{message}");
    }

    fn parse(change: impl Fn(String) -> String) -> Result<Profile, Error> {
        Profile::parse("mine.toml", &change(include_str!("../jetson.toml").into()))
    }

    #[test]
    fn a_misspelt_key_is_refused_with_its_line() {
        let error = parse(|text| text.replace("threads =", "thread =")).unwrap_err();
        let Error::Parse { origin, source } = error else { panic!("{error:?}") };
        assert_eq!(origin, "mine.toml");
        assert!(source.to_string().contains("thread"), "{source}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for (from, to, field) in [
            ("port = 22", "port = 0", "port"),
            ("[\"ort\", \"tract\"]", "[]", "runtimes"),
            ("\"/var/tmp/edgewise\"", "\"var/tmp\"", "remote_dirs"),
            ("\"/var/tmp/edgewise\"", "\"$(reboot)/x\"", "remote_dirs"),
            ("threads = 0", "threads = 0\nrunner = []", "runner"),
        ] {
            match parse(|text| text.replace(from, to)) {
                Err(Error::Value { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{from} -> {to}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_users_file_is_read_and_its_absence_names_it() {
        let missing = Profile::load(Path::new("/nowhere/board.toml")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/board.toml"), "{missing}");
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/jetson.toml");
        assert_eq!(Profile::load(Path::new(own)).unwrap(), Profile::find("jetson").unwrap());
    }
}
