use super::*;
use crate::{Android, Category};
use std::fs;

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

fn choose<'a>(facts: &DeviceFacts, target: &str, builds: &'a [AgentBuild]) -> Result<&'a AgentBuild, NoBuild> {
    let Profile { triples, .. } = Profile::find(target).unwrap();
    match facts.choose("d", &Offer { target, triples: &triples, builds, emulated: false }) {
        Ok(build) => Ok(build),
        Err(error) => {
            assert_eq!(error.category(), Category::Agent);
            let said = error.to_string();
            let Error::NoAgentBuild(no) = error else { panic!("{said}") };
            assert!(said.contains("no agent for `d`") && no.reasons.iter().all(|r| said.contains(&r.to_string())), "{said}");
            Err(*no)
        }
    }
}

/// The reasons, and what a person is told to do.
fn refused(facts: &DeviceFacts, target: &str, builds: &[AgentBuild]) -> (Vec<Mismatch>, String) {
    let no = choose(facts, target, builds).unwrap_err();
    let hint = no.hint();
    (no.reasons, hint)
}

const GNU64: &str = "aarch64-unknown-linux-gnu";
const MUSL64: &str = "aarch64-unknown-linux-musl";
const MUSL32: &str = "armv7-unknown-linux-musleabihf";
const GNU32: &str = "armv7-unknown-linux-gnueabihf";

fn not_at_hand(triple: &str) -> Mismatch {
    Mismatch::NotAtHand { triple: triple.into() }
}

#[test]
fn the_build_fits_processor_userland_and_libc() {
    let all = builds(&[
        (GNU64, "GLIBC_2.28\0"),
        (MUSL64, ""),
        (MUSL32, ""),
        ("x86_64-unknown-linux-gnu", "GLIBC_2.34\0"),
        ("x86_64-unknown-linux-musl", ""),
    ]);
    let triples: Vec<String> = all.iter().map(|build| build.triple().to_owned()).collect();
    let offer = |emulated| Offer { target: "any", triples: &triples, builds: &all, emulated };
    for (device, expected) in [
        (facts("aarch64", 64, Some((2, 31))), Some(GNU64)),
        (facts("aarch64", 64, Some((2, 27))), Some(MUSL64)),
        (facts("aarch64", 64, None), Some(MUSL64)),
        (facts("aarch64", 32, Some((2, 31))), Some(MUSL64)),
        (facts("armv7l", 32, Some((2, 31))), Some(MUSL32)),
        (facts("armv8l", 32, None), Some(MUSL32)),
        (facts("x86_64", 64, Some((2, 36))), Some("x86_64-unknown-linux-gnu")),
        (facts("amd64", 64, Some((2, 31))), Some("x86_64-unknown-linux-musl")),
        (facts("armv6l", 32, Some((2, 36))), None),
        (facts("riscv64", 64, Some((2, 36))), None),
        (DeviceFacts { system: "Darwin".into(), ..facts("arm64", 64, None) }, None),
    ] {
        match (device.choose("d", &offer(false)), expected) {
            (Ok(build), Some(triple)) => assert_eq!(build.triple(), triple, "{device:?}"),
            (Err(Error::NoAgentBuild(no)), None) => {
                assert_eq!(no.available.len(), all.len());
                assert!(matches!(no.reasons[..], [Mismatch::Target { .. }]), "{:?}", no.reasons);
            }
            (other, _) => panic!("{device:?}: {other:?}"),
        }
    }
    assert_eq!(facts("x86_64", 64, None).choose("d", &offer(true)).unwrap().triple(), GNU64);
    let none = Offer { builds: &[], ..offer(true) };
    let error = facts("x86_64", 64, None).choose("d", &none).unwrap_err();
    let Error::NoAgentBuild(no) = error else { panic!("{error}") };
    assert_eq!(no.reasons[0], not_at_hand(GNU64), "an emulator has no reason but that");
}

#[test]
fn a_device_of_another_kind_is_told_which_targets_it_fits() {
    let all = builds(&[(GNU64, "GLIBC_2.28\0"), ("x86_64-unknown-linux-gnu", "GLIBC_2.28\0")]);
    let pc = facts("x86_64", 64, Some((2, 36)));
    let (reasons, hint) = refused(&pc, "jetson", &all);
    let wrong = Mismatch::Target { target: "jetson".into(), is_for: vec!["aarch64".into()], device: "x86_64".into() };
    assert_eq!(reasons, [wrong]);
    assert!(hint.contains("`target`") && hint.ends_with("linux-x86_64"), "{hint}");

    let targets = |facts: &DeviceFacts, target: &str| choose(facts, target, &all).unwrap_err().targets;
    let arm = facts("aarch64", 64, Some((2, 36)));
    assert_eq!(targets(&arm, "linux-x86_64"), ["linux-aarch64"]);
    let model = |name: &str| DeviceFacts { model: Some(name.into()), ..arm.clone() };
    assert_eq!(targets(&model("Raspberry Pi 5 Model B Rev 1.0"), "linux-x86_64"), ["raspberry-pi"]);
    assert_eq!(targets(&model("NVIDIA Jetson Orin Nano Developer Kit"), "linux-x86_64"), ["jetson"]);
    assert_eq!(targets(&model("Some Board"), "linux-x86_64"), ["linux-aarch64"]);
    let phone = DeviceFacts { android: Some(Android::default()), ..model("Some Phone") };
    assert_eq!(targets(&DeviceFacts { glibc: None, ..phone }, "linux-x86_64"), ["android"]);
    assert_eq!(targets(&facts("armv7l", 32, Some((2, 31))), "jetson"), ["raspberry-pi-32"]);
    // Where no target would do, nobody is sent from one to the next.
    let (_, hint) = refused(&facts("armv6l", 32, Some((2, 31))), "raspberry-pi-32", &all);
    assert!(!hint.contains("`target`") && hint.contains("`agent`"), "{hint}");
    let said = refused(&facts("armv6l", 32, None), "raspberry-pi-32", &all).0[0].to_string();
    assert!(said.contains("older than ARMv7"), "{said}");
}

#[test]
fn a_system_of_32_bits_on_a_kernel_of_64_gets_no_build_for_its_libraries() {
    let pi = facts("aarch64", 32, Some((2, 31)));
    let (reasons, hint) = refused(&pi, "raspberry-pi", &builds(&[(GNU64, "GLIBC_2.28\0")]));
    assert_eq!(reasons, [Mismatch::Userland { triple: GNU64.into() }, not_at_hand(MUSL64)]);
    assert!(reasons[0].to_string().contains("programs are 32-bit"), "{}", reasons[0]);
    assert!(hint.contains(&format!("scripts/build-agents {MUSL64}")), "{hint}");
    let both = builds(&[(GNU64, "GLIBC_2.28\0"), (MUSL64, "")]);
    assert_eq!(choose(&pi, "raspberry-pi", &both).unwrap().triple(), MUSL64);
    assert_eq!(choose(&pi, "raspberry-pi-32", &builds(&[(GNU32, "GLIBC_2.28\0")])).unwrap().triple(), GNU32);
}

#[test]
fn a_glibc_that_is_too_old_is_told_with_both_versions() {
    let new = builds(&[(GNU64, "GLIBC_2.34\0")]);
    let (reasons, hint) = refused(&facts("aarch64", 64, Some((2, 31))), "jetson", &new);
    let old = Mismatch::Glibc { triple: GNU64.into(), needed: (2, 34), there: (2, 31) };
    assert_eq!(reasons, [old, not_at_hand(MUSL64)]);
    assert!(reasons[0].to_string().contains("needs glibc 2.34, the device has 2.31"), "{}", reasons[0]);
    assert!(hint.contains(&format!("scripts/build-agents {GNU64} ")) && hint.contains("2.28"), "{hint}");
    // Older than what any agent for glibc is built against: only the static one is of use.
    let (_, hint) = refused(&facts("aarch64", 64, Some((2, 27))), "jetson", &new);
    assert!(hint.contains(&format!("scripts/build-agents {MUSL64}")), "{hint}");
    let (reasons, _) = refused(&facts("aarch64", 64, Some((2, 27))), "jetson", &[]);
    assert_eq!(
        reasons[0],
        Mismatch::Glibc { triple: GNU64.into(), needed: AGENT_GLIBC, there: (2, 27) },
        "building it is no help"
    );
}

#[test]
fn a_device_without_a_library_is_told_which() {
    let glibc_only = builds(&[(GNU64, "GLIBC_2.28\0")]);
    let alpine = DeviceFacts { musl: true, ..facts("aarch64", 64, None) };
    let (reasons, hint) = refused(&alpine, "linux-aarch64", &glibc_only);
    assert_eq!(reasons[0], Mismatch::Libc { triple: GNU64.into(), needed: "glibc", there: "musl".into() });
    assert!(hint.contains(MUSL64), "{hint}");
    // A target of the user's own without a static build.
    let offer = |triples: &[String]| {
        alpine.choose("d", &Offer { target: "mine", triples, builds: &glibc_only, emulated: false }).map(drop)
    };
    let error = offer(&[GNU64.to_owned()]).unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("put {MUSL64} into the target's `triples`")), "{hint}");
    let error = offer(&["aarch64-linux-android".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("needs bionic, the device has musl"), "{error}");
}

#[test]
fn a_program_that_loads_musl_needs_it_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    fs::write(&path, crate::elf::fixture::elf(183, true, false, &[3])).unwrap();
    let loads = [AgentBuild::open(MUSL64, &path).unwrap()];
    let debian = facts("aarch64", 64, Some((2, 36)));
    let (reasons, _) = refused(&debian, "android", &loads);
    assert_eq!(reasons, [Mismatch::Libc { triple: MUSL64.into(), needed: "musl", there: "glibc 2.36".into() }]);
    assert!(choose(&DeviceFacts { musl: true, ..debian }, "android", &loads).is_ok());
}

#[test]
fn what_is_not_built_is_named_for_the_build_script() {
    let (reasons, hint) = refused(&facts("aarch64", 64, Some((2, 36))), "raspberry-pi", &builds(&[(MUSL32, "")]));
    assert_eq!(reasons, [not_at_hand(GNU64), not_at_hand(MUSL64)]);
    assert!(hint.contains(&format!("scripts/build-agents {GNU64};")) && hint.contains("`agent`"), "{hint}");
}

#[test]
fn an_arm_without_its_floating_point_unit_is_told_so() {
    let all = builds(&[(MUSL32, ""), (GNU32, "GLIBC_2.28\0")]);
    let with = |features: &str| DeviceFacts {
        features: features.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        ..facts("armv7l", 32, Some((2, 31)))
    };
    let (reasons, _) = refused(&with("half thumb fastmult edsp tls"), "raspberry-pi-32", &all);
    assert_eq!(reasons[0], Mismatch::Feature { triple: MUSL32.into(), feature: "VFPv3" });
    assert!(reasons[0].to_string().contains("VFPv3"));
    for enough in ["half vfp vfpv3 vfpv3d16 tls", "thumb neon vfp", "fp asimd evtstrm", "fpu sse2 avx2", ""] {
        assert!(choose(&with(enough), "raspberry-pi-32", &all).is_ok(), "{enough}");
    }
}

#[test]
fn agents_for_another_system_are_of_no_use() {
    let apple = builds(&[("x86_64-apple-darwin", "")]);
    let triples = ["x86_64-apple-darwin".to_owned()];
    let pc = facts("x86_64", 64, Some((2, 36)));
    let error = pc.choose("d", &Offer { target: "mac", triples: &triples, builds: &apple, emulated: false }).unwrap_err();
    assert!(error.to_string().contains("target `mac` is for x86_64 (x86_64-apple-darwin), the device is x86_64"), "{error}");
    let mac = DeviceFacts { system: "Darwin".into(), ..facts("x86_64", 64, None) };
    assert!(mac.choose("d", &Offer { target: "mac", triples: &triples, builds: &apple, emulated: false }).is_ok());
    let (reasons, hint) = refused(&mac, "linux-x86_64", &apple);
    assert!(reasons[0].to_string().ends_with("the device is Darwin x86_64"), "{}", reasons[0]);
    assert!(!hint.contains("`target`"), "{hint}");
}
