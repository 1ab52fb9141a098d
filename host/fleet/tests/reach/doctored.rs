//! Boards that are of another kind than was said, or whose system is too old for what is at hand: servers on which `uname`,
//! `getconf` and their like tell what such boards tell.
#![cfg(target_arch = "x86_64")]

use crate::common::{Server, Setup, program, route, script_agent, server, server_with, write_program};
use edgewise_fleet::{AgentBuild, Connect, DeployReport, Error, Mismatch, NoBuild, SshRoute};
use edgewise_targets::Profile;
use std::{fs, path::Path};

/// What a board's programs tell.
struct Tale<'a> {
    machine: &'a str,
    bits: u32,
    glibc: Option<&'a str>,
    /// Answers of `getprop`, which only Android has.
    properties: &'a [(&'a str, &'a str)],
}

const OLD_PI: Tale<'static> = Tale { machine: "aarch64", bits: 64, glibc: Some("2.27"), properties: &[] };

struct Doctored {
    server: Server,
    _tools: tempfile::TempDir,
}

impl Doctored {
    fn new(tale: &Tale<'_>) -> Option<Self> {
        let Tale { machine, bits, glibc, properties } = tale;
        let uname = program("uname")?;
        let tools = tempfile::tempdir().unwrap();
        let tool = |name: &str, text: &str| write_program(&tools.path().join(name), &format!("#!/bin/sh\n{text}\n"));
        tool("uname", &format!("if [ \"$1\" = -m ]; then echo {machine}; else exec {} \"$@\"; fi", uname.display()));
        let libc = glibc.map_or("exit 1".to_owned(), |version| format!("echo glibc {version}"));
        tool("getconf", &format!("case \"$1\" in LONG_BIT) echo {bits};; GNU_LIBC_VERSION) {libc};; *) exit 1;; esac"));
        tool("ldd", "exit 1");
        if !properties.is_empty() {
            let cases: Vec<String> = properties.iter().map(|(name, value)| format!("{name}) echo '{value}';; ")).collect();
            tool("getprop", &format!("case \"$1\" in {}*) ;; esac", cases.concat()));
        }
        let login = format!("PATH={}:$PATH; export PATH; eval \"$SSH_ORIGINAL_COMMAND\"", tools.path().display());
        let server = server_with(&Setup { login: &login, ..Setup::default() })?;
        Some(Self { server, _tools: tools })
    }

    /// A build that names what it needs and is never run.
    fn build(&self, triple: &str, names: &str) -> AgentBuild {
        let path = self.server.path(triple);
        fs::write(&path, format!("#!/bin/sh\nexit 1\n\0{names}\0")).unwrap();
        AgentBuild::open(triple, &path).unwrap()
    }

    fn route(&self, target: &str, builds: Vec<AgentBuild>) -> SshRoute {
        let placeholder = self.build("x86_64-unknown-linux-musl", "");
        SshRoute {
            builds,
            profile: Profile::find(target).unwrap(),
            ..route(&self.server, placeholder, &self.server.path("store"))
        }
    }

    /// Why it gets no agent, and what a person is told to do.
    fn refuses(&self, target: &str, builds: Vec<AgentBuild>) -> (Box<NoBuild>, String) {
        let refused = refused(&self.route(target, builds));
        assert!(!self.server.path("store").exists(), "nothing stays on a board that gets no agent");
        refused
    }

    fn takes(&self, target: &str, builds: Vec<AgentBuild>) -> DeployReport {
        self.route(target, builds).deploy("pi").unwrap_or_else(|e| panic!("{e}\n{}", self.server.log())).unwrap()
    }
}

fn refused(route: &SshRoute) -> (Box<NoBuild>, String) {
    let error = route.deploy("pi").unwrap_err();
    let hint = error.hint().unwrap_or_default();
    let Error::NoAgentBuild(no) = error else { panic!("{error}") };
    (no, hint)
}

const GNU: &str = "aarch64-unknown-linux-gnu";
const MUSL: &str = "aarch64-unknown-linux-musl";

#[test]
fn a_board_of_another_kind_than_was_said() {
    let Some(server) = server() else { return };
    let route = SshRoute {
        profile: Profile::find("jetson").unwrap(),
        ..route(&server, script_agent(&server, ""), Path::new("/proc/nowhere/store"))
    };
    let (no, hint) = refused(&route);
    let [Mismatch::Target { target, is_for, device }] = &no.reasons[..] else { panic!("{no:?}") };
    assert_eq!((target.as_str(), is_for[..].join(" "), device.as_str()), ("jetson", "aarch64".into(), "x86_64"));
    assert!(hint.contains("`target`") && hint.ends_with("linux-x86_64"), "{hint}");

    let Some(board) = Doctored::new(&Tale { machine: "armv7l", bits: 32, ..OLD_PI }) else { return };
    let (no, hint) = board.refuses("raspberry-pi", vec![board.build(MUSL, "")]);
    assert!(matches!(&no.reasons[..], [Mismatch::Target { device, .. }] if device == "armv7l"), "{no:?}");
    assert!(hint.ends_with("raspberry-pi-32"), "{hint}");
}

#[test]
fn a_system_of_32_bits_under_a_kernel_of_64() {
    let Some(board) = Doctored::new(&Tale { bits: 32, glibc: Some("2.31"), ..OLD_PI }) else { return };
    let glibc = board.build(GNU, "GLIBC_2.28");
    let (no, hint) = board.refuses("raspberry-pi", vec![glibc.clone()]);
    assert_eq!(no.reasons, [Mismatch::Userland { triple: GNU.into() }, Mismatch::NotAtHand { triple: MUSL.into() }]);
    assert!(no.system.contains("aarch64, 32-bit userland"), "{}", no.system);
    assert!(hint.contains(&format!("scripts/build-agents {MUSL}")), "{hint}");
    // With a static build at hand that one is taken.
    let report = board.takes("raspberry-pi", vec![glibc, board.build(MUSL, "")]);
    assert_eq!((report.triple.as_str(), report.facts.bits), (MUSL, Some(32)));
}

#[test]
fn a_glibc_that_is_too_old() {
    let Some(board) = Doctored::new(&OLD_PI) else { return };
    let (no, hint) = board.refuses("raspberry-pi", vec![board.build(GNU, "GLIBC_2.28")]);
    let old = Mismatch::Glibc { triple: GNU.into(), needed: (2, 28), there: (2, 27) };
    assert_eq!(no.reasons, [old, Mismatch::NotAtHand { triple: MUSL.into() }]);
    assert!(hint.contains(&format!("scripts/build-agents {MUSL}")), "{hint}");
    assert_eq!(board.takes("raspberry-pi", vec![board.build(GNU, "GLIBC_2.28"), board.build(MUSL, "")]).triple, MUSL);

    // A build that was made on a newer system than agents should be.
    let Some(board) = Doctored::new(&Tale { glibc: Some("2.31"), ..OLD_PI }) else { return };
    let (no, hint) = board.refuses("raspberry-pi", vec![board.build(GNU, "GLIBC_2.34")]);
    assert!(matches!(no.reasons[0], Mismatch::Glibc { needed: (2, 34), there: (2, 31), .. }), "{no:?}");
    assert!(hint.contains(&format!("scripts/build-agents {GNU} ")), "{hint}");
}

#[test]
fn a_board_for_which_nothing_was_built() {
    let Some(board) = Doctored::new(&Tale { glibc: Some("2.36"), ..OLD_PI }) else { return };
    let (no, hint) = board.refuses("linux-aarch64", vec![board.build("armv7-unknown-linux-musleabihf", "")]);
    assert_eq!(no.reasons, [GNU, MUSL].map(|triple| Mismatch::NotAtHand { triple: triple.into() }));
    assert!(hint.contains(&format!("scripts/build-agents {GNU};")), "{hint}");
    assert_eq!(no.available, ["armv7-unknown-linux-musleabihf"]);
}

#[test]
fn a_phone_tells_that_it_is_one() {
    let properties = [
        ("ro.build.version.release", "14"),
        ("ro.product.cpu.abilist", "arm64-v8a,armeabi-v7a,armeabi"),
        ("ro.product.model", "Pixel 7"),
    ];
    let Some(phone) = Doctored::new(&Tale { glibc: None, properties: &properties, ..OLD_PI }) else { return };
    let report = phone.takes("android", vec![phone.build(MUSL, "")]);
    let android = report.facts.android.clone().unwrap();
    assert_eq!((android.release.as_str(), android.model.as_str(), android.abis.len()), ("14", "Pixel 7", 3));
    assert!(
        report.facts.describe().starts_with("Android 14 (Pixel 7), aarch64, 64-bit userland, "),
        "{}",
        report.facts.describe()
    );
    let said = phone.route("linux-x86_64", vec![]).deploy("pi").unwrap_err();
    assert!(said.hint().unwrap().ends_with("android"), "{said}");
}
