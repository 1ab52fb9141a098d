use super::*;
use proptest::prelude::*;

const MINE: &str = r#"# my boards
[device.jetson]          # under the desk
target = "jetson"
address = "nvidia@jetson.local" # wired

# the old one
[device."pi.3"]
target = "raspberry-pi"
address = "pi"
port = 2222
identity = "/keys/pi"
shares_host = true
agent = "/builds/agent"
store = "~/edgewise"
groups = ["lab", "arm"]
lease = "pi.rack"
ssh_config = false
"#;

fn entry(address: &str) -> DeviceEntry {
    DeviceEntry { target: "jetson".into(), address: address.into(), ..DeviceEntry::default() }
}

fn parse(text: &str) -> Result<Registry, Error> {
    Registry::parse(Path::new("/c/devices.toml"), text)
}

#[test]
fn a_file_is_read() {
    let registry = parse(MINE).unwrap();
    let names: Vec<_> = registry.list().into_iter().map(|device| device.name).collect();
    assert_eq!(names, ["local", "jetson", "pi.3"]);
    let pi = registry.get("pi.3").unwrap();
    let identity = Some("/keys/pi".into());
    assert_eq!(pi.place, Place::Ssh { address: "pi".into(), port: Some(2222), identity, ssh_config: false });
    assert_eq!((pi.groups, pi.lease.as_deref()), (vec!["lab".to_owned(), "arm".to_owned()], Some("pi.rack")));
    assert!(matches!(registry.get("jetson").unwrap().place, Place::Ssh { ssh_config: true, .. }));
    assert!(pi.shares_host && pi.store.as_deref() == Some("~/edgewise"));
    assert_eq!(registry.get("local").unwrap().place, Place::Local);
}

#[test]
fn phones_over_adb_have_a_serial_number_or_none() {
    let place =
        |address: &str| parse(&format!("[device.a]\ntarget='android'\naddress='{address}'\n")).map(|r| r.get("a").unwrap().place);
    assert_eq!(place("adb:R58M").unwrap(), Place::Adb { serial: Some("R58M".into()) });
    assert_eq!(place("adb:10.0.0.7:5555").unwrap(), Place::Adb { serial: Some("10.0.0.7:5555".into()) });
    assert_eq!(place("adb:").unwrap(), Place::Adb { serial: None });
    assert!(matches!(place("adb").unwrap(), Place::Ssh { .. }), "a host may have that name");
    for bad in ["adb:-s", "adb:a b"] {
        assert!(place(bad).is_err(), "{bad}");
    }
    assert!(parse("[device.a]\ntarget='android'\naddress='adb:x'\nport=22\n").unwrap_err().to_string().contains("adb knows"));
}

#[test]
fn patterns_and_groups_select_in_order_and_once() {
    let registry = parse(
        "[device.pi-5]\ntarget='t'\naddress='u@a'\ngroups=['lab']\n[device.jetson]\ntarget='t'\naddress='u@b'\n\
         groups=['lab','gpu']\n[device.pi-4]\ntarget='t'\naddress='u@c'\n",
    )
    .unwrap();
    let select = |patterns: &[&str], groups: &[&str]| {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        registry
            .select(&owned(patterns), &owned(groups))
            .map(|devices| devices.into_iter().map(|device| device.name).collect::<Vec<_>>())
    };
    assert_eq!(select(&["pi-*"], &[]).unwrap(), ["pi-4", "pi-5"]);
    assert_eq!(select(&["pi-5", "pi-?", "jetson"], &[]).unwrap(), ["jetson", "pi-4", "pi-5"]);
    assert_eq!(select(&["*"], &[]).unwrap(), ["jetson", "pi-4", "pi-5"], "boards only");
    assert_eq!(select(&["pi-4", "local"], &["gpu"]).unwrap(), ["local", "jetson", "pi-4"]);
    assert_eq!(select(&[], &["lab"]).unwrap(), ["jetson", "pi-5"]);
    assert!(select(&[], &[]).unwrap().is_empty());
    let error = select(&["pi-5", "nano*"], &[]).unwrap_err();
    assert_eq!(error.to_string(), "no device matches `nano*` (known: local, jetson, pi-4, pi-5)");
    let hint = |name: &str| select(&[name], &[]).unwrap_err().hint().unwrap();
    assert_eq!(hint("nano"), "register it: host device add nano --target TARGET --address USER@HOST");
    let address = "that is an address; give it a name: host device add NAME --target TARGET --address pi@nano";
    assert_eq!(hint("pi@nano"), address);
    assert!(matches!(select(&["nano"], &[]), Err(Error::UnknownDevice { .. })));
    let error = select(&[], &["attic"]).unwrap_err();
    assert_eq!(error.to_string(), "no device is in group `attic` (known: gpu, lab)");
}

#[test]
fn adding_and_removing_keeps_comments() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("devices.toml");
    fs::write(&file, MINE).unwrap();
    let mut registry = Registry::load(dir.path()).unwrap();
    let new = DeviceEntry { port: Some(8022), store: Some("/data/e".into()), ..entry("u0_a1@phone") };
    registry.add("phone", new.clone()).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(MINE) && text.contains("[device.phone]\ntarget = \"jetson\""), "{text}");
    assert_eq!(Registry::load(dir.path()).unwrap().devices["phone"], new);
    registry.remove("phone").unwrap();
    registry.remove("jetson").unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("# the old one") && !text.contains("phone") && !text.contains("nvidia"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn a_registry_that_does_not_exist_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("a/b");
    let mut registry = Registry::load(&home).unwrap();
    assert_eq!(registry.list().len(), 1);
    registry.add("pi", entry("pi@pi.local")).unwrap();
    assert_eq!(
        fs::read_to_string(home.join("devices.toml")).unwrap(),
        "[device.pi]\ntarget = \"jetson\"\naddress = \"pi@pi.local\"\n"
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    for (text, line, words) in [
        ("[device.a]\ntarget='x'\naddress='u@h'\nadress='u@h'\n", 4, "adress"),
        ("[device.a]\ntarget='x'\naddress='u@h'\n[device.b]\ntarget='x'\n", 4, "address"),
        ("[devices.a]\n", 1, "devices"),
        ("[device.a]\ntarget='x'\naddress='u@h'\nport=70000\n", 4, "70000"),
        ("[device.a]\ntarget='x'\naddress='u@h'\nport=0\n", 1, "port 0"),
        ("\n[device.local]\ntarget='x'\naddress='u@h'\n", 2, "built in"),
        ("\n[device.A]\ntarget='x'\naddress='u@h'\n", 2, "lower-case"),
        ("[device.a]\ntarget='x'\naddress='u@h o'\n", 1, "spaces"),
        ("[device.a]\ntarget='x'\naddress='u@h'\nstore='rel'\n", 1, "absolute"),
        ("[device.a]\ntarget='x'\naddress='u@h'\ngroups=['A b']\n", 1, "groups"),
        ("[device.a]\ntarget='x'\naddress='u@h'\nlease='/x'\n", 1, "leases"),
        ("device = 3\n", 1, "device"),
        ("[device.a\n", 1, ""),
    ] {
        match parse(text) {
            Err(Error::Registry { line: found, problem, path }) => {
                assert_eq!(found, line, "{text}: {problem}");
                assert!(problem.contains(words) || text.starts_with("device"), "{text}: {problem}");
                assert_eq!(path, Path::new("/c/devices.toml"));
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn names_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = Registry::load(dir.path()).unwrap();
    for name in ["local", "", "-a", ".a", "A", "a b", "ä", "a/b", "a\"b"] {
        assert!(matches!(registry.add(name, entry("u@h")), Err(Error::DeviceName { .. })), "{name}");
    }
    registry.add("a", entry("u@h")).unwrap();
    assert!(matches!(registry.add("a", entry("u@h")), Err(Error::DeviceName { .. })));
    assert!(matches!(registry.remove("local"), Err(Error::DeviceName { .. })));
    let error = registry.remove("b").unwrap_err();
    assert!(error.to_string().contains("known: local, a"), "{error}");
    assert!(error.hint().unwrap().contains("device add b"));
}

proptest! {
    #[test]
    fn hostile_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn hostile_tables_never_panic(body in "(\\[device\\.[a-z\"']{0,4}\\]\n)?([a-z_]{0,8} ?= ?[0-9\"'a-z{}\\[\\]]{0,8}\n){0,4}") {
        let _ = parse(&body);
    }

    #[test]
    fn hostile_selectors_never_panic(patterns in proptest::collection::vec("[a-z*?.-]{0,6}", 0..4), groups in proptest::collection::vec("\\PC{0,4}", 0..3)) {
        if let Ok(devices) = parse(MINE).unwrap().select(&patterns, &groups) {
            prop_assert!(devices.windows(2).all(|pair| pair[0].name < pair[1].name || pair[0].name == LOCAL));
        }
    }

    #[test]
    fn what_is_added_is_read_back(name in "[a-z0-9][a-z0-9._-]{0,8}", user in "[a-z\"'\\\\]{1,6}", host in "[a-z.]{1,9}", store in proptest::option::of("/[^\\p{C}]{0,9}"), groups in proptest::collection::vec("[a-z0-9][a-z0-9._-]{0,5}", 0..3), lease in proptest::option::of("[a-z0-9]{1,5}"), ssh_config in proptest::option::of(any::<bool>())) {
        prop_assume!(name != LOCAL);
        let dir = tempfile::tempdir().unwrap();
        let new = DeviceEntry { store, groups, lease, ssh_config, ..entry(&format!("{user}@{host}")) };
        Registry::load(dir.path()).unwrap().add(&name, new.clone()).unwrap();
        prop_assert_eq!(&Registry::load(dir.path()).unwrap().devices[&name], &new);
    }
}
