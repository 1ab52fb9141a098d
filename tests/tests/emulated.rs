//! Agents for other processors, built as they are for boards and run by an emulator behind a real sshd: deployed, searched on,
//! and made to write, through the same commands as a board.

use edgewise_tests::{
    AGENTS, Home, ONNX_RUNTIME_AARCH64, SYSROOT_AARCH64, Sshd, count, file_from, folder_from, ids, list, measuring, number, skip,
    text, tool,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A board that is an emulator behind the machine's own sshd.
struct Board {
    home: Home,
    _server: Sshd,
}

impl Board {
    /// A board named `board` with this build of the agent alone; `runner` are the words of its emulator.
    fn new(triple: &str, runtimes: &str, runner: impl FnOnce(&Home) -> Option<Vec<String>>) -> Option<Self> {
        let agents = folder_from(AGENTS)?;
        let server = Sshd::start()?;
        let home = Home::with_demo();
        let runner = runner(&home)?;
        let build = agents.join(triple).join("device-agent");
        assert!(build.is_file(), "{AGENTS} has no build for {triple}");
        // Of static builds with tract, and of those with ONNX Runtime as well.
        let most = if triple.contains("-musl") { 12_000_000 } else { 18_000_000 };
        let bytes = fs::metadata(&build).expect("it is there").len();
        assert!(bytes <= most, "the agent for {triple} has grown to {bytes} bytes");
        fs::create_dir_all(home.path("agents").join(triple)).expect("the home can be written");
        for file in ["agents.json", &format!("{triple}/device-agent")] {
            fs::copy(agents.join(file), home.path("agents").join(file)).expect("the home can be written");
        }
        home.file(
            "targets/emulated.toml",
            format!(
                "name = \"emulated\"\ndescription = \"{triple} under an emulator\"\ntriples = [\"{triple}\"]\n\
                 runtimes = {runtimes}\nthreads = 1\nport = 22\nciphers = []\nremote_dirs = [\"~/.cache/edgewise\"]\n\
                 runner = {runner:?}\n"
            ),
        );
        server.board_of(&home, "board", "emulated", server.port, "");
        Some(Self { home, _server: server })
    }

    /// Deploys, searches, writes, and compares each with the same on this machine.
    fn goes_through(&self, triple: &str, runtime: &str, words: &str) {
        let home = &self.home;
        let _turn = measuring();
        let deployed = home.host("deploy --json --device board").words(words).run().checked().json();
        assert_eq!(text(&deployed, "/devices/0/triple"), triple, "{deployed}");
        assert!(list(&deployed, "/devices/0/runtimes").iter().any(|r| r == runtime), "{deployed}");

        let study = home.path("refused.study");
        let search = |device: &str, study: &Path, more: &str| {
            // An emulated token takes as long as hundreds of them do here: the phases of a trial follow the prefill's time.
            let call = home.host("search --json --sampler random --budget 3 --workload prompt=1,gen=2 --trials 1");
            call.words(more).words("--device").words(device).arg("--study").arg(study)
        };
        // An emulator's latencies are nobody's, unless they are asked for.
        search("board", &study, words).run().fails(20).says(&["`board` is emulated", "--allow-emulated"]);
        assert!(!study.exists(), "nothing was begun");

        let native: Value = search("local", &home.path("native.study"), "--runtime tract").run().checked().json();
        let study = home.path("emulated.study");
        let there: Value = search("board", &study, &format!("--allow-emulated {words}")).run().checked().json();
        assert_eq!(ids(&there), ids(&native));
        for (emulated, native) in list(&there, "/candidates").iter().zip(list(&native, "/candidates")) {
            assert_eq!(text(emulated, "/status"), "ok", "{emulated}");
            assert_eq!(text(emulated, "/artifact_sha256"), text(native, "/artifact_sha256"));
            let measured = &list(emulated, "/measurements")[0];
            assert_eq!(text(measured, "/runtime"), runtime);
            assert!(list(measured, "/flags").iter().any(|flag| flag == "emulated"), "{measured}");
            // The logits are those of this machine's evaluation; the probe's own tolerance is wider.
            assert!(number(measured, "/probe_max_abs_diff") < 1e-3, "{measured}");
        }
        assert!(!list(&there, "/front/board").is_empty(), "{there}");

        let artifact = home.path("artifact");
        home.host("export").arg(&study).words("baseline -o").arg(&artifact).run().ok();
        let write = |device: &str, words: &str| -> Value {
            let call = home.host("run --json --max-tokens 6 --device").words(device).words(words);
            call.arg(&artifact).arg("But soft, what light").run().checked().json()
        };
        let (here, there) = (write("local", "--runtime tract"), write("board", words));
        assert_eq!(text(&there, "/text"), text(&here, "/text"));
        assert!(there["emulated"] == true && here["emulated"] == false && count(&there, "/tokens") == 6, "{there}");
    }
}

fn emulator(name: &str) -> Option<String> {
    tool(&[&format!("{name}-static"), name]).map(|path| path.display().to_string())
}

#[test]
fn a_static_agent_for_64_bit_arm() {
    let triple = "aarch64-unknown-linux-musl";
    let Some(board) = Board::new(triple, "[\"tract\"]", |_| Some(vec![emulator("qemu-aarch64")?])) else { return };
    board.goes_through(triple, "tract", "--runtime tract");
    // It cannot load the other runtime, and says which build could.
    let run = board.home.host("deploy --device board --runtime ort").run();
    run.fails(12).says(&["built without ONNX Runtime", "aarch64-unknown-linux-gnu"]);
}

#[test]
fn a_static_agent_for_32_bit_arm() {
    let triple = "armv7-unknown-linux-musleabihf";
    let Some(board) = Board::new(triple, "[\"tract\"]", |_| Some(vec![emulator("qemu-arm")?])) else { return };
    board.goes_through(triple, "tract", "--runtime tract");
}

/// A system of the board's kind, as the emulator shows it to the agent: ONNX Runtime looks at the processor's features, which
/// the kernel of this machine would tell of another one.
fn sysroot(home: &Home) -> Option<PathBuf> {
    if !Path::new(SYSROOT_AARCH64).join("lib/libstdc++.so.6").exists() {
        skip(&format!("{SYSROOT_AARCH64} is not a whole system: libc6, libstdc++6 and libgcc-s1 for arm64-cross"));
        return None;
    }
    let root = home.path("sysroot");
    fs::create_dir_all(root.join("proc")).expect("the home can be written");
    symlink(Path::new(SYSROOT_AARCH64).join("lib"), root.join("lib")).expect("the home can be written");
    let cpu = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n\
               CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n";
    fs::write(root.join("proc/cpuinfo"), cpu).expect("the home can be written");
    Some(root)
}

#[test]
fn an_agent_for_64_bit_arm_with_onnx_runtime() {
    let triple = "aarch64-unknown-linux-gnu";
    let Some(library) = file_from(ONNX_RUNTIME_AARCH64) else { return };
    let runner = |home: &Home| {
        let root = sysroot(home)?;
        Some(vec![emulator("qemu-aarch64")?, "-L".into(), root.display().to_string()])
    };
    let Some(board) = Board::new(triple, "[\"ort\", \"tract\"]", runner) else { return };
    let library = library.display();
    board.goes_through(triple, "ort", &format!("--runtime ort --ort-library {library}"));
    // A library for another processor is named as such, and nothing is sent.
    let own = edgewise_tests::host();
    let run = board.home.host("deploy --device board --runtime ort --ort-library").arg(own).run();
    run.fails(12).says(&["is for x86-64", triple]);
}
