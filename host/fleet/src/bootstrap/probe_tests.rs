use super::*;
use proptest::prelude::*;
use std::{fs, process::Command};

fn facts(machine: &str, bits: u32, glibc: Option<(u32, u32)>) -> DeviceFacts {
    DeviceFacts { system: "Linux".into(), machine: machine.into(), bits: Some(bits), glibc, ..DeviceFacts::default() }
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
fn android_tells_what_it_is() {
    let probe = |lines: &str| parse(format!("{BEGIN}\nsystem=Linux\nmachine=aarch64\n{lines}\n{END}\n").as_bytes()).unwrap();
    let phone = probe("bits=\nandroid=14\nabis=arm64-v8a,armeabi-v7a,armeabi\nphone=Pixel 7");
    let android = Android { release: "14".into(), model: "Pixel 7".into(), abis: phone.android.clone().unwrap().abis };
    assert_eq!(android.abis, ["arm64-v8a", "armeabi-v7a", "armeabi"]);
    assert_eq!((phone.bits, phone.android.as_ref()), (Some(64), Some(&android)));
    assert_eq!(phone.describe(), "Android 14 (Pixel 7), aarch64, 64-bit userland, bionic");
    assert_eq!(probe("android=13\nabis=armeabi-v7a,armeabi\nphone=Go").bits, Some(32));
    assert_eq!(probe("bits=64\nandroid=13\nabis=armeabi-v7a").bits, Some(64), "what was asked of it outweighs what it lists");
    let none = probe("android=\nabis=\nphone=");
    assert_eq!((none.android, none.bits), (None, None));
}

#[test]
fn features_and_the_boards_name_are_read_as_kernels_write_them() {
    let probe = |lines: &str| parse(format!("{BEGIN}\nmachine=armv7l\n{lines}\n{END}\n").as_bytes()).unwrap();
    let pi =
        probe("model=Raspberry Pi 2 Model B Rev 1.1\0\nfeatures=: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4\nmusl=1");
    assert_eq!(pi.model.as_deref(), Some("Raspberry Pi 2 Model B Rev 1.1"));
    assert_eq!(pi.features.len(), 9);
    assert!(pi.features.iter().any(|feature| feature == "vfpv3") && pi.musl);
    assert!(pi.describe().ends_with("musl"), "{}", pi.describe());
    assert_eq!(probe("model=\nfeatures=").model, None);
}

/// The script as it runs in every shell that a device may have, on this machine.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn every_shell_reads_the_processors_features() {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")).unwrap();
    let expected: Vec<&str> = flags.split_whitespace().filter(|word| *word != ":").collect();
    for shell in [&["dash"][..], &["bash"], &["mksh"], &["busybox", "sh"]] {
        let Ok(out) = Command::new(shell[0]).args(&shell[1..]).arg("-c").arg(script(&[])).output() else { continue };
        let facts = parse(&out.stdout).unwrap_or_else(|| panic!("{shell:?}: {out:?}"));
        assert_eq!(facts.features, expected, "{shell:?}");
        assert!(out.stderr.is_empty(), "{shell:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
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
    fn hostile_answers_never_panic(lines in proptest::collection::vec("(dir|bits|libc|system|machine|uid|abis|android|model|features|class|ldd)?=?(usable\\||noexec\\|)?[0-9% |./a-z=]{0,30}", 0..12)) {
        let out = format!("{BEGIN}\nmachine=x\n{}\n{END}\n", lines.join("\n"));
        if let Some(facts) = parse(out.as_bytes()) {
            let _ = (facts.place("d", u64::MAX / 2), facts.describe());
        }
    }
}
