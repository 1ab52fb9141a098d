use super::*;
use proptest::prelude::*;

fn key(key_type: &str, fill: u8) -> HostKey {
    HostKey::from_blob(&[&(key_type.len() as u32).to_be_bytes()[..], key_type.as_bytes(), &[0, 0, 0, 4], &[fill; 4]].concat())
        .unwrap()
}

fn line(hosts: &str, key: &HostKey) -> String {
    format!("{hosts} {} {}\n", key.key_type(), STANDARD.encode(key.blob()))
}

fn address(host: &str, port: u16) -> Address {
    Address { user: "u".into(), host: host.into(), port }
}

fn check(text: &str, host: &str, port: u16, key: &HostKey) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known_hosts");
    fs::write(&file, text).unwrap();
    KnownHosts::new(dir.path().join("own"), Some(file)).check(&address(host, port), key).unwrap()
}

#[test]
fn plain_lists_patterns_and_ports() {
    let k = key("ssh-ed25519", 1);
    for (hosts, host, port, known) in [
        ("pi", "pi", 22, true),
        ("pi", "PI", 22, true),
        ("Pi", "pi", 22, true),
        ("a,pi,b", "pi", 22, true),
        ("*.local", "pi.local", 22, true),
        ("p?.local", "pi.local", 22, true),
        ("p?.local", "p.local", 22, false),
        ("*.local,!pi.local", "pi.local", 22, false),
        ("!pi.local,*.local", "pi.local", 22, false),
        ("*.local,!pi.local", "nano.local", 22, true),
        ("!nano.local", "pi.local", 22, false),
        ("[pi]:2222", "pi", 2222, true),
        ("[pi]:2222", "pi", 22, false),
        ("[pi]:2222", "pi", 2223, false),
        ("pi", "pi", 2222, true),
        ("", "pi", 22, false),
    ] {
        let expected = if known { Verdict::Known } else { Verdict::Unknown };
        assert_eq!(check(&line(hosts, &k), host, port, &k), expected, "{hosts} for {host}:{port}");
    }
}

#[test]
fn a_portless_entry_is_not_held_against_another_port() {
    assert_eq!(check(&line("pi", &key("ssh-ed25519", 1)), "pi", 2222, &key("ssh-ed25519", 2)), Verdict::Unknown);
}

/// Made by `ssh-keygen -H`, whose hashes depend on nothing of ours.
#[test]
fn hashed_names_of_ssh_keygen_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts");
    let k = key("ssh-ed25519", 3);
    // ssh-keygen drops keys that it cannot parse, so the blob must be a whole ed25519 key.
    let whole = HostKey::from_blob(&[&[0, 0, 0, 11][..], b"ssh-ed25519", &[0, 0, 0, 32], &[9; 32]].concat()).unwrap();
    fs::write(&file, line("pi.local", &whole) + &line("[pi.local]:8022", &whole)).unwrap();
    let Ok(done) = std::process::Command::new("ssh-keygen").arg("-H").arg("-f").arg(&file).output() else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "ssh-keygen is needed in CI");
        std::io::stderr().write_all(b"skipped: no ssh-keygen\n").unwrap();
        return;
    };
    assert!(done.status.success(), "{done:?}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("|1|") && !text.contains("pi.local"), "{text}");
    assert_eq!(check(&text, "pi.local", 22, &whole), Verdict::Known);
    assert_eq!(check(&text, "pi.local", 8022, &whole), Verdict::Known);
    assert_eq!(check(&text, "pi.locax", 22, &whole), Verdict::Unknown);
    assert!(matches!(check(&text, "pi.local", 22, &k), Verdict::Changed(_)));
}

#[test]
fn a_changed_key_names_file_line_and_fingerprint() {
    let (old, new) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
    let text = format!("# a comment\n\n{}", line("pi", &old));
    let Verdict::Changed(expected) = check(&text, "pi", 22, &new) else { panic!("not changed") };
    assert_eq!(expected.len(), 1);
    assert_eq!((expected[0].line, expected[0].fingerprint.as_str()), (3, old.fingerprint().as_str()));
    assert!(expected[0].file.ends_with("known_hosts"));
}

#[test]
fn another_type_is_no_contradiction() {
    let text = line("pi", &key("ssh-ed25519", 1));
    assert!(matches!(check(&text, "pi", 22, &key("ssh-rsa", 1)), Verdict::OtherKeyType(keys) if keys.len() == 1));
}

#[test]
fn markers_are_respected() {
    let k = key("ssh-ed25519", 1);
    let revoked = format!("{}@revoked {}", line("pi", &k), line("*", &k));
    assert!(matches!(check(&revoked, "pi", 22, &k), Verdict::Revoked { line: 2, .. }));
    assert!(matches!(check(&format!("@revoked {}", line("pi", &k)), "pi", 2222, &k), Verdict::Revoked { .. }));
    assert_eq!(check(&format!("@cert-authority {}", line("*", &k)), "pi", 22, &k), Verdict::Unknown);
    assert_eq!(check(&format!("@unheard-of {}", line("*", &k)), "pi", 22, &k), Verdict::Unknown);
}

#[test]
fn a_type_that_is_not_the_keys_own_is_refused() {
    let k = key("ssh-ed25519", 1);
    assert_eq!(check(&line("pi", &k).replace("ssh-ed25519", "ssh-rsa"), "pi", 22, &k), Verdict::Unknown);
}

#[test]
fn storing_appends_one_line_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("new/known_hosts");
    let hosts = KnownHosts::new(own.clone(), None);
    let (a, b) = (key("ssh-ed25519", 1), key("ssh-rsa", 2));
    hosts.store(&address("pi", 22), &a).unwrap();
    fs::write(&own, format!("# mine\n{}", fs::read_to_string(&own).unwrap().trim_end())).unwrap();
    hosts.store(&address("pi", 8022), &b).unwrap();
    assert_eq!(fs::read_to_string(&own).unwrap(), format!("# mine\n{}{}", line("pi", &a), line("[pi]:8022", &b)));
    assert_eq!(hosts.check(&address("pi", 22), &a).unwrap(), Verdict::Known);
    assert_eq!(hosts.check(&address("pi", 8022), &b).unwrap(), Verdict::Known);
    assert_eq!(hosts.key_types(&address("pi", 8022)).unwrap(), ["ssh-rsa", "ssh-ed25519"]);
    assert_eq!(hosts.key_types(&address("pi", 22)).unwrap(), ["ssh-ed25519"]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_not_an_empty_file() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = KnownHosts::new(dir.path().to_path_buf(), None);
    assert!(matches!(hosts.check(&address("pi", 22), &key("ssh-rsa", 1)), Err(Error::File { .. })));
}

#[test]
fn further_files_are_read_after_the_own_one_and_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let (own, further) = (dir.path().join("own"), dir.path().join("further"));
    let (old, new) = (key("ssh-ed25519", 1), key("ssh-ed25519", 2));
    fs::write(&further, line("pi", &old)).unwrap();
    let hosts = KnownHosts::new(own.clone(), None).and(&[further.clone(), own.clone(), further.clone(), dir.path().join("none")]);
    assert_eq!(hosts.others.len(), 2, "each file once");
    assert_eq!(hosts.check(&address("pi", 22), &old).unwrap(), Verdict::Known);
    assert!(matches!(hosts.check(&address("pi", 22), &new).unwrap(), Verdict::Changed(keys) if keys[0].file == further));
    hosts.store(&address("pi", 22), &new).unwrap();
    assert_eq!(fs::read_to_string(&further).unwrap(), line("pi", &old));
    assert_eq!(fs::read_to_string(&own).unwrap(), line("pi", &new));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_and_never_trust(bytes in proptest::collection::vec(any::<u8>(), 0..2000), host in "[a-z.*?!|,\\[\\]]{1,20}") {
        let k = key("ssh-ed25519", 1);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert_ne!(judge(&[(PathBuf::new(), text)], &lookup_name(&host, 22), &k), Verdict::Known);
    }

    #[test]
    fn hostile_lines_never_panic(lines in proptest::collection::vec("(@revoked |@cert-authority |\\|1\\|)?[a-z*?!,|=+/\\[\\]:]{0,30} ?ssh-(rsa|ed25519) [A-Za-z0-9+/=]{0,40}", 0..8)) {
        judge(&[(PathBuf::new(), lines.join("\n"))], "pi", &key("ssh-rsa", 1));
    }
}
