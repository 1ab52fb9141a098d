//! The grammar of the command line, by the real program. What the commands do is tested in the workspace's `tests`; that this
//! package has an integration test is also what makes `cargo test` build the program for them.

use std::process::{Command, Output};

fn host(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_host")).args(words).output().expect("host can be started")
}

#[test]
fn help_names_every_command_and_version_says_which() {
    let help = host(&["--help"]);
    let text = String::from_utf8(help.stdout).expect("help is text");
    for command in ["search", "front", "report", "export", "measure", "deploy", "device", "prepare", "finetune", "evaluate"] {
        assert!(text.contains(&format!("\n  {command} ")), "{command} is missing: {text}");
        let one = host(&[command, "--help"]);
        assert!(one.status.success() && one.stderr.is_empty(), "{command}");
    }
    let version = host(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), concat!("host ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_command_is_a_usage_error() {
    let nothing = host(&[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(nothing.stdout.is_empty() && String::from_utf8_lossy(&nothing.stderr).contains("Usage"));
}
