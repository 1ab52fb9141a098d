use super::*;
use proptest::prelude::*;
use std::fs;

/// The answer of `ssh -G` with its usual lines and these.
fn ask(lines: &str, to: &str, port: Option<u16>) -> Result<Endpoint, String> {
    let text = format!("host x\nuser me\nhostname 10.0.0.9\n{lines}\nport 22\naddressfamily any\n");
    let to = Destination::parse(to, port).unwrap();
    Answer::parse(&text).endpoint(&to, 8022, &ssh())
}

fn ssh() -> OpenSsh {
    OpenSsh::new("ssh".into(), None)
}

fn home_dir() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap())
}

#[test]
fn the_port_is_the_registrys_then_the_configurations_then_the_profiles() {
    assert_eq!(ask("", "pi", None).unwrap().address.to_string(), "me@10.0.0.9:8022");
    assert_eq!(ask("port 2200", "pi", None).unwrap().address.port, 2200);
    // ssh was told the registry's port and gives it back.
    assert_eq!(ask("", "pi", Some(22)).unwrap().address.port, 22);
}

#[test]
fn what_the_lines_say_is_understood() {
    let endpoint = ask(
        "identityfile ~/.ssh/id_rsa\nidentityfile ~/keys/a b\nidentityfile /k/%r@%h-%n:%p%%\nidentitiesonly yes\n\
         identityagent ~/.agent\nhostkeyalias board-7\nconnecttimeout 3\n\
         userknownhostsfile /home/me/.ssh/kh /home/me/with space /x\nglobalknownhostsfile /etc/ssh/ssh_known_hosts ~/g\n\
         proxyjump u@j1:22,j2",
        "pi",
        None,
    )
    .unwrap();
    assert_eq!(
        endpoint.identities,
        [home_dir().join(".ssh/id_rsa"), home_dir().join("keys/a b"), "/k/me@10.0.0.9-pi:8022%".into()]
    );
    assert!(endpoint.identities_only);
    assert_eq!(endpoint.key_agent, KeyAgent::Socket(home_dir().join(".agent")));
    let files: Vec<PathBuf> = vec![
        "/home/me/.ssh/kh".into(),
        "/home/me/with space".into(),
        "/x".into(),
        "/etc/ssh/ssh_known_hosts".into(),
        home_dir().join("g"),
    ];
    assert_eq!(endpoint.known_hosts, files);
    assert_eq!((endpoint.key_address().host.as_str(), endpoint.key_address().port), ("board-7", 22));
    assert_eq!(endpoint.connect_timeout, Some(Duration::from_secs(3)));
    assert_eq!(endpoint.proxy, Some(Proxy::Jump { hops: "u@j1:22,j2".into(), ssh: ssh() }));
}

#[test]
fn defaults_and_none_are_no_configuration() {
    let endpoint = ask(
        "identityfile ~/.ssh/id_rsa\nidentityfile ~/.ssh/id_ed25519\nidentityagent SSH_AUTH_SOCK\nconnecttimeout none\n\
         proxycommand none\nproxyjump none\nuserknownhostsfile none\nidentitiesonly no",
        "pi",
        None,
    )
    .unwrap();
    let plain = Endpoint::from(Address { user: "me".into(), host: "10.0.0.9".into(), port: 8022 });
    assert_eq!(endpoint, plain);
    assert_eq!(ask("identityagent none", "pi", None).unwrap().key_agent, KeyAgent::Disabled);
    assert_eq!(ask("identityagent $NO_SUCH_VARIABLE", "pi", None).unwrap().key_agent, KeyAgent::Disabled);
}

#[test]
fn a_command_in_between_gets_its_tokens_and_others_are_refused() {
    let proxy = |text: &str| ask(&format!("proxycommand {text}"), "u2@pi", None).map(|endpoint| endpoint.proxy);
    assert_eq!(proxy("nc -X 5 %h %p '%%'").unwrap(), Some(Proxy::Command("nc -X 5 10.0.0.9 8022 '%'".into())));
    for bad in ["nc %C", "nc %", "nc %d"] {
        assert!(proxy(bad).unwrap_err().contains("not supported"), "{bad}");
    }
    let sly = "host x\nuser a;id\nhostname h\nport 22\nproxycommand nc %r\n";
    let sly = Answer::parse(sly).endpoint(&Destination::parse("pi", None).unwrap(), 22, &ssh());
    assert!(sly.unwrap_err().contains("login name"));
    assert!(ask("proxyusefdpass yes\nproxycommand nc %h", "pi", None).unwrap_err().contains("ProxyUseFdpass"));
}

#[test]
fn what_cannot_be_a_host_is_refused() {
    let answer = |text: &str| Answer::parse(text).endpoint(&Destination::parse("pi", None).unwrap(), 22, &ssh());
    for bad in [
        "",
        "user me\nport 22",
        "user me\nhostname -oX\nport 22",
        "user me\nhostname a,b\nport 22",
        "user me\nhostname a\nport 0",
    ] {
        assert!(answer(bad).is_err(), "{bad}");
    }
    assert!(ask("hostkeyalias a,b", "pi", None).is_err());
}

#[test]
fn a_missing_program_is_an_error_only_if_it_was_named() {
    let to = Destination::parse("me@pi", None).unwrap();
    let nowhere = OpenSsh { named: false, ..OpenSsh::new("/nowhere/ssh".into(), None) };
    assert_eq!(Endpoint::resolve(&to, Some(&nowhere), 8022).unwrap().address.to_string(), "me@pi:8022");
    let named = OpenSsh::new("/nowhere/ssh".into(), None);
    assert!(
        matches!(Endpoint::resolve(&to, Some(&named), 22), Err(Error::SshConfig { problem, .. }) if problem.contains("nowhere"))
    );
    assert_eq!(Endpoint::resolve(&to, None, 22).unwrap().address.to_string(), "me@pi:22");
}

#[test]
fn a_program_that_fails_is_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("ssh");
    fs::write(&program, "#!/bin/sh\necho \"line 5: bad \x1b[2J keyword\" >&2; exit 255\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let to = Destination::parse("me@pi", None).unwrap();
    let error = Endpoint::resolve(&to, Some(&OpenSsh::new(program, None)), 22).unwrap_err();
    assert!(error.to_string().contains("line 5: bad [2J keyword"), "{error}");
}

proptest! {
    #[test]
    fn hostile_answers_never_panic(lines in proptest::collection::vec("(user|hostname|port|identityfile|proxyjump|proxycommand|hostkeyalias|userknownhostsfile|identityagent) [%$~/a-z0-9 ,:@-]{0,20}", 0..12)) {
        let text = lines.join("\n");
        let _ = Answer::parse(&text).endpoint(&Destination::parse("pi", None).unwrap(), 22, &ssh());
    }

    #[test]
    fn paths_without_blanks_come_apart_again(paths in proptest::collection::vec("[/~][a-z./]{1,9}", 1..5)) {
        prop_assert_eq!(split_paths(&paths.join(" ")), paths);
    }
}
