//! The form of a profile, and the embedded ones.

use crate::{Board, Error, Provider, Runtime, Sensor};
use serde::{Deserialize, Deserializer, de};
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

/// The glibc, as (major, minor), that agents for glibc systems are built against: they run with this one and all later ones.
/// The build script pins it.
pub const AGENT_GLIBC: (u32, u32) = (2, 28);

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
    /// The oldest glibc that boards of this kind have, as (major, minor); absent where no build for glibc is among the triples,
    /// or no agent is sent.
    #[serde(default, deserialize_with = "glibc")]
    pub glibc: Option<(u32, u32)>,
    /// Runtimes worth trying, the best first.
    pub runtimes: Vec<Runtime>,
    /// Execution providers to ask ONNX Runtime for, the best first. The processor is the last of them: it gets what the others
    /// leave.
    #[serde(default = "processor_only")]
    pub providers: Vec<Provider>,
    /// Threads of the runtime; 0 means all cores.
    pub threads: u16,
    /// Boards of this kind whose cores are known. Where several entries are of one model, a board is as one of them says.
    #[serde(default)]
    pub boards: Vec<Board>,
    /// What boards of this kind should tell about themselves.
    #[serde(default)]
    pub sensors: Vec<Sensor>,
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

fn processor_only() -> Vec<Provider> {
    vec![Provider::Cpu]
}

/// `2.31`.
fn glibc<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(u32, u32)>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = |part: &str| part.parse().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()));
    let parts = text.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    parts.map(Some).ok_or_else(|| de::Error::custom(format!("`{text}` is no version of glibc: such as `2.31` is")))
}

/// The embedded profile of that name, if there is one.
pub(crate) fn embedded(name: &str) -> Option<Result<Profile, Error>> {
    EMBEDDED.iter().find(|(known, _)| *known == name).map(|(known, text)| Profile::parse(known, text))
}

pub(crate) fn embedded_names() -> Vec<String> {
    EMBEDDED.iter().map(|(known, _)| (*known).into()).collect()
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
        embedded(name).unwrap_or_else(|| Err(Error::Unknown { name: name.into(), known: embedded_names() }))
    }

    /// The boards that `model`, a device tree's name for a board, may be: none if that model is not known.
    pub fn boards_of<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a Board> {
        self.boards.iter().filter(move |board| board.is(model))
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
        if let Some(bad) = self.triples.iter().find(|triple| !is_triple(triple)) {
            return Some(("triples", format!("holds `{bad}`, which is no target triple")));
        }
        if self.runtimes.is_empty() {
            return Some(("runtimes", "is empty: nothing would run a model".into()));
        }
        if self.providers.last() != Some(&Provider::Cpu) {
            return Some(("providers", "does not end with `CPU`, which gets what the others leave".into()));
        }
        if let Some(twice) = repeated(&self.providers) {
            return Some(("providers", format!("holds `{}` twice", twice.name())));
        }
        if let Some(twice) = repeated(&self.sensors) {
            return Some(("sensors", format!("holds `{}` twice", twice.name())));
        }
        if let Some(problem) = self.boards.iter().find_map(Board::problem) {
            return Some(("boards", problem));
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

/// The first that also stands further on.
fn repeated<T: PartialEq + Copy>(list: &[T]) -> Option<T> {
    list.iter().enumerate().find(|(at, one)| list[at + 1..].contains(one)).map(|(_, one)| *one)
}

/// `aarch64-unknown-linux-gnu`: also the name of a folder, on the host and on the device.
fn is_triple(text: &str) -> bool {
    text.contains('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
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
    fn builds_for_glibc_run_on_every_board_that_a_profile_promises() {
        for profile in Profile::all().iter().filter(|profile| profile.name != "local") {
            let for_glibc = profile.triples.iter().any(|triple| triple.contains("-gnu"));
            assert_eq!(profile.glibc.is_some(), for_glibc, "{}", profile.name);
            assert!(profile.glibc.is_none_or(|floor| floor >= AGENT_GLIBC), "{}: {:?}", profile.name, profile.glibc);
        }
        assert_eq!(Profile::find("jetson").unwrap().glibc, Some((2, 31)));
    }

    #[test]
    fn boards_are_known_by_what_their_device_trees_say() {
        let cores = |target: &str, model: &str| {
            let profile = Profile::find(target).unwrap();
            profile.boards_of(model).map(Board::processors).collect::<Vec<_>>()
        };
        assert_eq!(cores("raspberry-pi", "Raspberry Pi 5 Model B Rev 1.0"), ["4 x Cortex-A76"]);
        assert_eq!(cores("raspberry-pi", "Raspberry Pi 400 Rev 1.0"), ["4 x Cortex-A72"]);
        assert_eq!(cores("raspberry-pi", "Raspberry Pi Compute Module 4 Rev 1.1"), ["4 x Cortex-A72"]);
        assert_eq!(cores("raspberry-pi", "Raspberry Pi Zero 2 W Rev 1.0"), ["4 x Cortex-A53"]);
        assert_eq!(cores("raspberry-pi-32", "Raspberry Pi 2 Model B Rev 1.1"), ["4 x Cortex-A7"]);
        assert_eq!(cores("jetson", "NVIDIA Jetson Orin Nano Developer Kit"), ["4 + 2 x Cortex-A78AE"]);
        assert_eq!(cores("jetson", "NVIDIA Jetson AGX Orin Developer Kit").len(), 2, "sold with 8 cores and with 12");
        assert!(cores("jetson", "Raspberry Pi 5 Model B Rev 1.0").is_empty());
    }

    #[test]
    fn what_a_file_does_not_say_has_the_plainest_meaning() {
        let text = "name = \"x\"\ndescription = \"\"\ntriples = [\"riscv64gc-unknown-linux-gnu\"]\nruntimes = [\"tract\"]\n\
                    threads = 0\nport = 22\nciphers = []\nremote_dirs = [\"/x\"]\n";
        let profile = Profile::parse("x.toml", text).unwrap();
        assert_eq!(profile.providers, [Provider::Cpu]);
        assert_eq!((profile.glibc, profile.boards.len(), profile.sensors.len()), (None, 0, 0));
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
            ("[\"CUDA\", \"CPU\"]", "[\"CPU\", \"CUDA\"]", "providers"),
            ("[\"CUDA\", \"CPU\"]", "[]", "providers"),
            ("[\"CUDA\", \"CPU\"]", "[\"CUDA\", \"CUDA\", \"CPU\"]", "providers"),
            ("[\"cpufreq\", ", "[\"cpufreq\", \"cpufreq\", ", "sensors"),
            ("model = \"Orin Nano\"", "model = \"\"", "boards"),
            ("cores = 4", "cores = 0", "boards"),
            ("aarch64-unknown-linux-gnu", "../aarch64-gnu", "triples"),
            ("aarch64-unknown-linux-gnu", "", "triples"),
        ] {
            match parse(|text| text.replace(from, to)) {
                Err(Error::Value { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{from} -> {to}: {other:?}"),
            }
        }
    }

    #[test]
    fn words_and_versions_that_are_none_are_refused() {
        for (from, to) in [
            ("\"CUDA\"", "\"cuda\""),
            ("\"cpufreq\"", "\"clock\""),
            ("\"2.31\"", "\"2\""),
            ("\"2.31\"", "\"2.31.1\""),
            ("\"2.31\"", "\"+2.31\""),
            ("\"2.31\"", "\"glibc 2.31\""),
            ("\"2.31\"", "\"2.99999999999\""),
            ("\"2.31\"", "2.31"),
            ("cores = 4", "cores = 70000"),
            ("cores = 4", "core = 4"),
        ] {
            let changed = parse(|text| text.replace(from, to));
            assert!(matches!(changed, Err(Error::Parse { .. })), "{from} -> {to}: {changed:?}");
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
