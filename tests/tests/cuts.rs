//! A line to a board that breaks, at every step of the conversation: the command goes on by itself or says how to go on, and
//! nothing is measured twice.

use edgewise_tests::{
    Fault, Home, ONCE, Proxy, Rig, Run, SMOLLM2, Sshd, Towards, file_from, holds, measuring, no_seat_twice, records, text, trials,
};
use std::{fs, path::Path, time::Duration};

/// What of the uploads is there must go on from where the line broke: this much may be sent again, of a hundred.
const AGAIN_PERCENT: u64 = 2;

/// Demands success, or a failure that says what to do.
fn ended_well(run: &Run, what: &str) -> bool {
    assert!(run.status.code().is_some_and(|code| [0, 10, 12, 13].contains(&code)), "{what}: {run:#?}");
    assert!(!run.stderr.contains("panicked"), "{what}: {}", run.stderr);
    assert!(run.status.success() || run.stderr.contains("error: "), "{what}: {}", run.stderr);
    run.status.success()
}

/// From the first byte of the handshake to the agent's greeting.
#[test]
fn a_deployment_that_is_cut_anywhere_can_be_repeated() {
    let Some(rig) = Rig::new() else { return };
    let deploy = || rig.host("deploy --runtime tract --json").run();
    let before = rig.proxy.forwarded(Towards::Device);
    deploy().ok();
    let whole = rig.proxy.forwarded(Towards::Device) - before;
    let agent = fs::metadata(edgewise_tests::agent()).expect("it was built").len();
    assert!((agent..agent + agent / 10).contains(&whole), "{whole} bytes to send an agent of {agent}");
    // Version strings, key exchange, authentication, the probe, the upload, its end, the check, and the greeting.
    let to_device = [0, 20, 600, 2_000, 4_000, 8_000, whole / 2, whole - 20_000, whole - 3_000];
    let cuts = to_device.map(|at| (Towards::Device, at)).into_iter().chain([20, 1_500, 3_500].map(|at| (Towards::Host, at)));
    for (towards, at) in cuts {
        let what = format!("cut after {at} bytes towards {towards:?}");
        rig.nothing_runs();
        fs::remove_dir_all(&rig.store).expect("the board's folder is there");
        rig.proxy.after(towards, at, Fault::Cut);
        let run = deploy();
        rig.proxy.disarm();
        if ended_well(&run, &what) {
            continue;
        }
        let again = deploy().checked().json();
        assert_eq!(text(&again, "/devices/0/device"), "board", "{what}: {again}");
        let agents = rig.store.join("agents");
        let left: Vec<_> = fs::read_dir(&agents).expect("the agent is there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 1, "{what}: half an agent stays: {left:?}");
    }
}

/// From the agent's greeting to the last result.
#[test]
fn a_search_that_is_cut_anywhere_measures_each_candidate_once() {
    let Some(rig) = Rig::new() else { return };
    let model = || [rig.store.join("store/blobs"), rig.store.join("store/parts")];
    rig.deploy();
    let clean = rig.home.path("clean.study");
    let begun = [Towards::Device, Towards::Host].map(|towards| rig.proxy.forwarded(towards));
    rig.search(&clean, "--budget 1").run().ok();
    let [to_device, to_host] = [rig.proxy.forwarded(Towards::Device) - begun[0], rig.proxy.forwarded(Towards::Host) - begun[1]];
    assert!(to_device > 7_000_000, "the super-network travelled: {to_device} bytes");
    let expected = records(&clean).remove(0);

    // The greeting, the description, the super-network, the order; then the answers to them, and the result.
    let down = [5_000, to_device / 3, to_device - 40_000, to_device - 1_500].map(|at| (Towards::Device, at));
    let up = [to_host / 5, to_host / 2, to_host - 3_000, to_host - 100].map(|at| (Towards::Host, at));
    for (number, (towards, at)) in down.into_iter().chain(up).enumerate() {
        let what =
            format!("cut after {at} of {} bytes towards {towards:?}", if towards == Towards::Host { to_host } else { to_device });
        rig.nothing_runs();
        for folder in model() {
            // There are no parts where nothing broke.
            let _ = fs::remove_dir_all(folder);
        }
        let study = rig.home.path(&format!("{number}.study"));
        let fired = rig.proxy.fired();
        rig.proxy.after(towards, at, Fault::Cut);
        let run = rig.search(&study, "--budget 1").run();
        rig.proxy.disarm();
        let stored = if study.exists() { trials(&study) } else { Vec::new() };
        if !ended_well(&run, &what) {
            rig.search(&study, "--budget 1").run().ok();
        }
        // What comes last may be a few bytes shorter this time.
        assert!(rig.proxy.fired() > fired || at + 200 > to_host && towards == Towards::Host, "{what}: it was never cut");
        holds(&study, &stored);
        assert_eq!(no_seat_twice(&study), 1, "{what}");
        let found = records(&study).remove(0);
        assert_eq!((&found.id, &found.artifact, found.failures.len()), (&expected.id, &expected.artifact, 0), "{what}");
        assert_eq!(found.quality, expected.quality, "{what}");
    }
}

/// TCP's own sum does not see it, ssh's does.
#[test]
fn a_bit_that_flips_on_the_way_changes_nothing() {
    let Some(rig) = Rig::new() else { return };
    rig.deploy();
    let study = rig.home.path("flipped.study");
    let fired = rig.proxy.fired();
    rig.proxy.after(Towards::Device, 3 << 20, Fault::Flip);
    let found = rig.search(&study, "--budget 1").run().checked().json();
    assert_eq!(rig.proxy.fired(), fired + 1);
    assert_eq!(text(&found, "/candidates/0/status"), "ok");
    assert_eq!(no_seat_twice(&study), 1);
}

/// A line of a megabyte per second with 30 ms each way, which breaks twice on the way.
#[test]
fn an_upload_goes_on_where_the_line_broke() {
    let Some(rig) = Rig::new() else { return };
    rig.deploy();
    let study = rig.home.path("resumed.study");
    rig.proxy.slow(Duration::from_millis(30), 4 << 20);
    let begun = rig.proxy.forwarded(Towards::Device);
    let fired = rig.proxy.fired();
    rig.proxy.after(Towards::Device, 2 << 20, Fault::Cut);
    rig.proxy.after(Towards::Device, 5 << 20, Fault::Cut);
    rig.search(&study, "--budget 1").run().ok();
    assert_eq!(rig.proxy.fired(), fired + 2, "the line broke twice");
    let sent = rig.proxy.forwarded(Towards::Device) - begun;
    let size = bytes_of(&rig.store.join("store/blobs"));
    assert!(size > 7_000_000, "{size} bytes are the super-network");
    // Three connections greet; ssh wraps what they carry; what was on its way when the line broke is lost.

    assert!(sent < size + size / 10, "{sent} bytes for a super-network of {size}");
    assert_eq!(no_seat_twice(&study), 1);
}

fn bytes_of(folder: &Path) -> u64 {
    let size = |entry: fs::DirEntry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() { bytes_of(&entry.path()) } else { meta.len() })
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(size).sum()
}

/// Half a gigabyte, cut at two fifths, the search ended and begun again. Slow: it takes a minute.
#[test]
fn half_a_gigabyte_is_not_sent_twice() {
    let Some(model) = file_from(SMOLLM2) else { return };
    let Some(server) = Sshd::start() else { return };
    let home = Home::new();
    let proxy = Proxy::to(server.port);
    let store = server.board(&home, "board", proxy.port, "");
    let _turn = measuring();
    home.host("deploy --device board --runtime tract").run().ok();
    let study = home.path("large.study");
    let search = || {
        let call = home.host("search --json --budget 1 --device board").words(ONCE).arg("--model").arg(&model);
        call.arg("--study").arg(&study)
    };
    // Two bytes for each parameter.
    let about = 2 * 134_515_008;
    let begun = proxy.forwarded(Towards::Device);
    proxy.after(Towards::Device, about * 2 / 5, Fault::Cut);
    // Not only the connection: the host is gone as well.
    let running = search().start();
    edgewise_tests::eventually("the line broke", || (proxy.fired() == 1).then_some(()));
    running.signal(libc::SIGKILL);
    assert!(!running.finish().status.success());
    edgewise_tests::eventually("the agent is gone", || edgewise_tests::agents_of(&store).is_empty().then_some(()));
    search().run().ok();
    let sent = proxy.forwarded(Towards::Device) - begun;
    let size = bytes_of(&store.join("store/blobs"));
    assert!(size > about - about / 20, "{size} bytes are the super-network");
    assert!((size..size + size * AGAIN_PERCENT / 100).contains(&sent), "{sent} bytes for a super-network of {size}");
}
