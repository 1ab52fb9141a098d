use super::*;
use proptest::prelude::*;
use std::{fs, process::Command};

fn facts(machine: &str, bits: u32, glibc: Option<(u32, u32)>) -> DeviceFacts {
    DeviceFacts { system: "Linux".into(), machine: machine.into(), bits: Some(bits), glibc, ..DeviceFacts::default() }
}

fn builds(triples: &[(&str, &str)]) -> Vec<AgentBuild> {
    let dir = tempfile::tempdir().unwrap();
    let open = |(triple, content): &(&str, &str)| {
        let path = dir.path().join(triple);
        fs::write(&path, content).unwrap();
        AgentBuild::open(triple, &path).unwrap()
    };
    triples.iter().map(open).collect()
}

#[test]
fn the_script_runs_here_and_its_answer_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("a b/edge'wise\\n|");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let dirs = [good.to_str().unwrap().to_owned(), file.join("x").to_str().unwrap().to_owned(), "$UNSET_HERE/x".into()];
    let command = shell::command(&script(&dirs));
    let out = Command::new("sh").arg("-c").arg(format!("echo banner; {command}")).output().unwrap();
    let facts = parse(&out.stdout).unwrap_or_else(|| panic!("{out:?}"));
    assert_eq!(facts.system, String::from_utf8(Command::new("uname").output().unwrap().stdout).unwrap().trim());
    assert_eq!(facts.bits, Some(usize::BITS));
    let states: Vec<_> = facts.dirs.iter().map(|dir| (dir.path.as_str(), dir.state)).collect();
    assert_eq!(
        states,
        [(dirs[0].as_str(), DirState::Usable), (dirs[1].as_str(), DirState::ReadOnly), ("/dev/null/x", DirState::ReadOnly)]
    );
    assert!(facts.dirs[0].free.is_some_and(|free| free > 0), "{:?}", facts.dirs);
    assert!(!good.exists(), "the probe leaves nothing");
    assert_eq!(facts.place("d", 1000).unwrap(), dirs[0]);
}

#[test]
fn noise_around_the_markers_is_ignored() {
    let out = format!(
        "Welcome!\nsystem=Lies\n{BEGIN}\r\nsystem=Linux\r\nmachine=aarch64\r\nbits=32\r\nlibc=glibc 2.31\r\nuid=1000\r\n\
         home=/home/pi\r\ndir=usable|/dev/root disk 30000 20000 9000 70% /|/home/pi/.cache/edgewise\r\n{END}\r\nbye\n"
    );
    let facts = parse(out.as_bytes()).unwrap();
    assert_eq!(facts.describe(), "Linux aarch64, 32-bit userland, glibc 2.31");
    assert_eq!(facts.dirs, [Dir { path: "/home/pi/.cache/edgewise".into(), state: DirState::Usable, free: Some(9000 * 1024) }]);
    assert_eq!(parse(b"just noise"), None);
    assert_eq!(parse(format!("{BEGIN}\nmachine=x\n").as_bytes()), None, "a cut answer is none");
}

#[test]
fn a_system_without_getconf_is_told_by_its_programs() {
    let probe = |lines: &str| parse(format!("{BEGIN}\nsystem=Linux\nmachine=aarch64\n{lines}\n{END}\n").as_bytes()).unwrap();
    let without = |class: &str, ldd: &str| probe(&format!("bits=\nlibc=\nclass={class}\nldd={ldd}"));
    let facts = without("1", "ldd (Debian GLIBC 2.36-9+deb12u14) 2.36");
    assert_eq!((facts.bits, facts.glibc), (Some(32), Some((2, 36))));
    assert_eq!(without("2", "ldd (GNU libc) 2.31").glibc, Some((2, 31)));
    let musl = without("2", "musl libc (aarch64)");
    assert_eq!((musl.bits, musl.glibc), (Some(64), None));
    assert_eq!(without("127", "").bits, None);
    let both = probe("bits=64\nlibc=glibc 2.35\nclass=1\nldd=ldd (GNU libc) 2.31");
    assert_eq!((both.bits, both.glibc), (Some(64), Some((2, 35))));
}

#[test]
fn the_build_fits_processor_userland_and_libc() {
    let all = builds(&[
        ("aarch64-unknown-linux-gnu", "GLIBC_2.28\0"),
        ("aarch64-unknown-linux-musl", ""),
        ("armv7-unknown-linux-musleabihf", ""),
        ("x86_64-unknown-linux-gnu", "GLIBC_2.34\0"),
        ("x86_64-unknown-linux-musl", ""),
    ]);
    let triples: Vec<String> = all.iter().map(|build| build.triple().to_owned()).collect();
    for (device, expected) in [
        (facts("aarch64", 64, Some((2, 31))), Some("aarch64-unknown-linux-gnu")),
        (facts("aarch64", 64, Some((2, 27))), Some("aarch64-unknown-linux-musl")),
        (facts("aarch64", 64, None), Some("aarch64-unknown-linux-musl")),
        (facts("aarch64", 32, Some((2, 31))), Some("aarch64-unknown-linux-musl")),
        (facts("armv7l", 32, Some((2, 31))), Some("armv7-unknown-linux-musleabihf")),
        (facts("armv8l", 32, None), Some("armv7-unknown-linux-musleabihf")),
        (facts("x86_64", 64, Some((2, 36))), Some("x86_64-unknown-linux-gnu")),
        (facts("x86_64", 64, Some((2, 31))), Some("x86_64-unknown-linux-musl")),
        (facts("riscv64", 64, Some((2, 36))), None),
        (DeviceFacts { system: "Darwin".into(), ..facts("arm64", 64, None) }, None),
    ] {
        match (device.choose("d", &triples, &all, false), expected) {
            (Ok(build), Some(triple)) => assert_eq!(build.triple(), triple, "{device:?}"),
            (Err(Error::NoAgentBuild { available, .. }), None) => assert_eq!(available.len(), all.len()),
            (other, _) => panic!("{device:?}: {other:?}"),
        }
    }
    let emulated = facts("x86_64", 64, None).choose("d", &triples, &all, true).unwrap();
    assert_eq!(emulated.triple(), "aarch64-unknown-linux-gnu");
}

#[test]
fn each_reason_for_having_no_place_is_told_apart() {
    let dir = |path: &str, state, free| Dir { path: path.into(), state, free };
    let place = |dirs: Vec<Dir>| DeviceFacts { dirs, ..facts("x86_64", 64, None) }.place("d", 10 << 20).map(str::to_owned);
    let big = Some(1 << 40);
    assert_eq!(place(vec![dir("/a", DirState::Usable, Some(5)), dir("/b", DirState::Usable, big)]).unwrap(), "/b");
    assert_eq!(place(vec![dir("/a", DirState::Usable, None)]).unwrap(), "/a");
    let noexec = place(vec![dir("/a", DirState::NoExec, big), dir("/b", DirState::ReadOnly, big)]).unwrap_err();
    assert!(matches!(&noexec, Error::NoExec { dirs, .. } if dirs == &["/a"]), "{noexec}");
    assert!(matches!(place(vec![dir("/a", DirState::ReadOnly, big)]), Err(Error::ReadOnly { .. })));
    let full = place(vec![dir("/a", DirState::Usable, Some(4096)), dir("/b", DirState::NoExec, big)]).unwrap_err();
    assert!(matches!(&full, Error::NoSpace { dir, free: 4096, .. } if dir == "/a"), "{full}");
    assert!(matches!(place(vec![dir("/a", DirState::ReadOnly, Some(0))]), Err(Error::NoSpace { .. })));
}

proptest! {
    #[test]
    fn hostile_answers_never_panic(lines in proptest::collection::vec("(dir|bits|libc|system|machine|uid)?=?(usable\\||noexec\\|)?[0-9% |./a-z=]{0,30}", 0..12)) {
        let out = format!("{BEGIN}\nmachine=x\n{}\n{END}\n", lines.join("\n"));
        if let Some(facts) = parse(out.as_bytes()) {
            let _ = facts.place("d", u64::MAX / 2);
        }
    }
}
