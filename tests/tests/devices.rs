//! Devices: the registry, and real SSH to a real sshd.

use edgewise_tests::{Home, KeyAgent, PACKAGE_INDEX, Rig, Sshd, count, eventually, find, ids, list, measuring, skip, text};
use serde_json::Value;
use std::{fs, net::TcpListener, os::unix::fs::MetadataExt, path::Path};

const QUICK: &str = "--workload prompt=16,gen=8 --runtime tract --trials 1";

#[test]
fn the_registry_goes_round() {
    let home = Home::new();
    let key = home.file("key", "not looked into yet");
    home.host("device add jetson --target jetson --address nvidia@jetson.local --port 2222 --identity").arg(&key).run().ok();
    home.host("device add pi.3 --target raspberry-pi --address pi@10.0.0.7 --shares-host").run().ok();
    let listed = home.host("device list --json").run().checked().json();
    assert_eq!(text(&listed, "/schema"), "edgewise.devices/1");
    let device = |i: usize| {
        let d = &list(&listed, "/devices")[i];
        (text(d, "/name"), text(d, "/target"), d["address"].as_str(), d["port"].as_u64(), d["shares_host"].as_bool())
    };
    assert_eq!(device(0), ("local", "local", None, None, Some(true)));
    assert_eq!(device(1), ("jetson", "jetson", Some("nvidia@jetson.local"), Some(2222), Some(false)));
    assert_eq!(device(2), ("pi.3", "raspberry-pi", Some("pi@10.0.0.7"), None, Some(true)));
    let people = home.host("device list").run().checked().stdout;
    assert!(people.contains("nvidia@jetson.local:2222") && people.contains("this machine"), "{people}");

    home.host("device add jetson --target jetson --address a@b").run().fails_unhinted(2).says(&["jetson", "already"]);
    home.host("device add x --target jetson --address a@b --identity nowhere").run().fails_unhinted(2).says(&["nowhere"]);
    home.host("device remove jetson").run().ok();
    home.host("device remove jetson").run().fails_unhinted(2).says(&["jetson", "pi.3"]);
    let listed = home.host("device list --json").run().checked().json();
    assert_eq!(list(&listed, "/devices").len(), 2);

    let other = home.file("boards.toml", "[device.a]\ntarget = \"jetson\"\naddress = \"u@h\"\n");
    let listed = home.host("device list --json --devices").arg(&other).run().checked().json();
    assert_eq!(text(&listed, "/devices/1/name"), "a");
    let broken = home.file("broken.toml", "[device.a]\ntarget = \"jetson\"\nadress = \"u@h\"\n");
    home.host("device list --devices").arg(&broken).run().fails_unhinted(2).says(&["broken.toml:3", "adress"]);
}

#[test]
fn who_does_not_answer_is_exit_10() {
    let home = Home::with_demo();
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback interface");
        listener.local_addr().expect("it is bound").port()
    };
    home.host("device add off --target jetson --address pi@127.0.0.1 --port").arg(port.to_string()).run().ok();
    let place = format!("127.0.0.1:{port}");
    home.host("device trust off --yes").run().fails(10).says(&[&place]);
    home.host("deploy --device off").run().fails(10).says(&[&place]);
    home.host("search --budget 1 --device off").run().fails(10).says(&[&place]);
}

#[test]
fn a_host_key_is_never_trusted_unasked() {
    let Some(server) = Sshd::start() else { return };
    let home = Home::with_demo();
    server.register(&home, "board", Some("user"), &home.path("board"));
    let unknown = |words: &str| home.host(words).run().fails(11).says(&["SHA256:", "host device trust"]).stderr.clone();
    unknown("deploy --device board");
    unknown("search --budget 1 --device board");
    assert!(!home.path("known_hosts").exists(), "a refusal stores nothing");
    // Nobody at the terminal is a no.
    home.host("device trust board").run().fails(11).says(&["SHA256:", "not stored"]);
    assert!(!home.path("known_hosts").exists());

    let trusted = home.host("device trust board --yes --json").run().checked().json();
    assert_eq!((text(&trusted, "/schema"), text(&trusted, "/key_type")), ("edgewise.trust/1", "ssh-ed25519"));
    assert!(home.path("known_hosts").exists());
    home.host("device trust board").run().checked().says(&["trusted already"]);

    server.register(&home, "stranger", Some("stranger"), &home.path("board"));
    home.host("deploy --device stranger").run().fails(10).says(&["stranger: refused"]);

    let line = fs::read_to_string(home.path("known_hosts")).expect("it was stored");
    let place = line.split(' ').next().expect("a line begins with the host");
    let other = fs::read_to_string(server.path("stranger.pub")).expect("it was made");
    fs::write(home.path("known_hosts"), format!("{place} {other}")).expect("the home can be written");
    home.host("deploy --device board").run().fails(11).says(&["has changed", text(&trusted, "/fingerprint"), "known_hosts"]);
    home.host("device trust board --yes").run().fails(11).says(&["another key", "line 1"]);
    assert!(!home.path("board").exists(), "nothing reached the board");
}

/// Everything of an agent's file that a new upload would change.
fn agent_file(store: &Path) -> (u64, i64, i64) {
    let find = || {
        let folders = fs::read_dir(store.join("agents")).ok()?.flatten().map(|e| e.path().join("device-agent"));
        folders.filter_map(|p| fs::metadata(p).ok()).map(|m| (m.ino(), m.mtime(), m.mtime_nsec())).next()
    };
    eventually("there is an agent on the board", find)
}

#[test]
fn a_board_over_ssh_gives_what_this_machine_gives() {
    let Some(server) = Sshd::start() else { return };
    let home = Home::with_demo();
    let store = home.path("a board's folder");
    server.register(&home, "board", Some("user"), &store);
    home.host("device trust board --yes").run().ok();
    let _turn = measuring();
    let search = |device: &str| {
        let call = home.host("search --json --budget 3 --seed 5 --device").arg(device).words(QUICK);
        call.run().checked().json()
    };
    let (local, remote) = (search("local"), search("board"));
    assert_eq!(ids(&local), ids(&remote));
    let same = |key: &str| {
        for (a, b) in list(&local, "/candidates").iter().zip(list(&remote, "/candidates")) {
            assert_eq!(a[key], b[key], "{key}");
        }
    };
    same("artifact_sha256");
    same("quality");
    same("status");
    let sent = |search: &Value, candidate: &str| count(find(search, candidate), "/measurements/0/bytes_sent");
    let baseline = text(&remote, "/baseline");
    // Two bytes for each of its parameters.
    let bytes = 2 * count(&remote, "/model/parameters");
    assert!(sent(&remote, baseline) >= bytes, "the super-network travelled");
    assert_eq!(text(&remote, "/devices/0/target"), "linux-x86_64");

    let before = agent_file(&store);
    let again = search("board");
    assert_eq!(ids(&again), ids(&remote));
    assert!(sent(&again, baseline) < 64 << 10, "it was there already: {} bytes", sent(&again, baseline));
    assert_eq!(agent_file(&store), before, "the agent was sent again");
    let deployed = home.host("deploy --device board --json").run().checked().json();
    assert_eq!((count(&deployed, "/devices/0/bytes_sent"), agent_file(&store)), (0, before));

    let artifact = home.path("artifact");
    home.host("export baseline -o").arg(&artifact).run().ok();
    let call = home.host("measure --json --device local --device board").words(QUICK).arg(&artifact);
    let both = call.run().checked().json();
    let names: Vec<&str> = list(&both, "/measurements").iter().map(|m| text(m, "/device")).collect();
    assert_eq!(names, ["local", "board"]);
}

#[test]
fn an_ssh_agent_opens_the_door() {
    let Some(server) = Sshd::start() else { return };
    let Some(keys) = KeyAgent::start(&server.path("user")) else { return };
    let home = Home::new();
    server.register(&home, "board", None, &home.path("board"));
    home.host("device trust board --yes").run().ok();
    home.host("deploy --device board --runtime tract").run().fails(10).says(&["ssh agent: none runs"]);
    let deploy = home.host("deploy --device board --runtime tract --json").env("SSH_AUTH_SOCK", keys.socket());
    let deployed = deploy.run().checked().json();
    assert_eq!(text(&deployed, "/schema"), "edgewise.deploy/1");
    assert!(count(&deployed, "/devices/0/bytes_sent") > 1 << 20, "the agent travelled: {}", server.log());
    // A key that the server does not know, in another agent.
    let Some(strange) = KeyAgent::start(&server.path("stranger")) else { return };
    let deploy = home.host("deploy --device board").env("SSH_AUTH_SOCK", strange.socket());
    deploy.run().fails(10).says(&["authorized_keys"]);
}

#[test]
fn targets_can_be_the_users_own() {
    let home = Home::new();
    let built_in = home.host("target list --json").run().checked().json();
    assert_eq!(text(&built_in, "/schema"), "edgewise.targets/1");
    let names =
        |document: &Value| -> Vec<String> { list(document, "/targets").iter().map(|t| text(t, "/name").to_owned()).collect() };
    for name in ["local", "raspberry-pi", "raspberry-pi-32", "jetson", "android", "linux-x86_64", "linux-aarch64"] {
        assert!(names(&built_in).iter().any(|n| n == name), "{built_in}");
    }
    home.host("target list").run().checked().says(&["targets"]);

    home.file(
        "targets/toaster.toml",
        "name = \"toaster\"\ndescription = \"a toaster\"\ntriples = [\"armv7-unknown-linux-musleabihf\"]\nruntimes = [\"tract\"]\n\
         threads = 2\nport = 2222\nciphers = []\nremote_dirs = [\"/data/edgewise\"]\n",
    );
    let with = home.host("target list --json").run().checked().json();
    let toaster = list(&with, "/targets").iter().find(|t| text(t, "/name") == "toaster").expect("it is listed");
    assert!(text(toaster, "/file").ends_with("targets/toaster.toml"), "{toaster}");
    home.host("device add kitchen --target toaster --address me@kitchen").run().ok();
    home.host("device add bath --target bathtub --address me@bath").run().fails_unhinted(2).says(&["bathtub", "toaster"]);
    home.file("targets/toaster.toml", "name = \"toaster\"\nthreads = \"many\"\n");
    home.host("deploy --device kitchen").run().fails_unhinted(2).says(&["toaster.toml"]);
    home.host("target list").run().fails_unhinted(2).says(&["toaster.toml"]);
}

/// Without a package index: what is missing is told, with where it was looked for.
#[test]
fn onnx_runtime_that_cannot_be_fetched_is_said() {
    let Some(rig) = Rig::new() else { return };
    let deploy = |words: &str| rig.host("deploy").words(words).env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", "/nowhere").run();
    let without = deploy("--runtime ort");
    without.fails(12).says(&["cannot run ort", "--fetch-ort"]);
    deploy("--runtime ort --fetch-ort").fails(12).says(&["cannot fetch ONNX Runtime", "onnxruntime==", "--runtime tract"]);
    assert!(!rig.home.path("cache/onnxruntime").exists(), "nothing is left of it");
    deploy("--runtime tract --fetch-ort").ok();
}

#[test]
fn onnx_runtime_is_fetched_for_a_board_that_lacks_it() {
    if std::env::var_os(PACKAGE_INDEX).is_none() {
        return skip(&format!("{PACKAGE_INDEX} is not set: the package index is not asked"));
    }
    let Some(rig) = Rig::new() else { return };
    let deploy = |words: &str| rig.host("deploy --json").words(words).run().checked().json();
    let without = deploy("");
    assert_eq!(without["devices"][0]["runtimes"], serde_json::json!(["tract"]), "{without}");
    let with = deploy("--runtime ort --fetch-ort");
    assert_eq!(with["devices"][0]["runtimes"], serde_json::json!(["ort"]), "{with}");
    assert!(count(&with, "/devices/0/bytes_sent") > 1 << 20, "the library was sent: {with}");
    // It is in the cache now, and on the board.
    let again = deploy("");
    assert!(list(&again, "/devices/0/runtimes").contains(&"ort".into()), "{again}");
    assert_eq!(count(&again, "/devices/0/bytes_sent"), 0, "{again}");
}
