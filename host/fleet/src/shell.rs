//! Text for the device's shell.
//!
//! The login shell that gets an exec request may be sh, dash, mksh, fish or csh. Every command is therefore one line,
//! `exec sh -c '...'`, in quotes that all of them read alike; only the sh inside sees real script.

/// One word, quoted so that POSIX shells, fish and csh give back the same bytes.
///
/// Quotes, backslashes and exclamation marks stand outside the single quotes: fish gives the first two a meaning inside, and
/// csh looks for the last in its history even there.
pub(crate) fn quote(word: &str) -> String {
    let mut out = String::with_capacity(word.len() + 2);
    out.push('\'');
    for c in word.chars() {
        match c {
            '\'' => out.push_str(r"'\''"),
            '\\' => out.push_str(r"'\\'"),
            '!' => out.push_str(r"'\!'"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// An exec request that runs `script` in sh, whatever the login shell is. `script` must be one line.
pub(crate) fn command(script: &str) -> String {
    debug_assert!(!script.contains('\n'), "csh takes no newline in quotes");
    format!("exec sh -c {}", quote(script))
}

/// A directory of a profile as a word of the inner sh: `~` and a leading `$NAME` are expanded there, nothing else is.
///
/// An unset variable becomes a path below `/dev/null`, where nothing can be made, so that the candidate drops out instead
/// of turning into a directory of the root.
pub(crate) fn dir_word(dir: &str) -> String {
    if let Some(rest) = dir.strip_prefix("~/") {
        return format!("\"${{HOME:-/dev/null}}\"/{}", quote(rest));
    }
    if let Some((name, rest)) = dir.strip_prefix('$').and_then(|rest| rest.split_once('/'))
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    {
        return format!("\"${{{name}:-/dev/null}}\"/{}", quote(rest));
    }
    quote(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn sh(script: &str) -> Vec<u8> {
        let out = Command::new("sh").arg("-c").arg(script).env("HOME", "/h o'me").env_remove("NOWHERE").output().unwrap();
        assert!(out.status.success(), "{script}: {out:?}");
        out.stdout
    }

    /// Every shell of this machine that may be somebody's login shell, with its words before a command.
    fn shells() -> Vec<Vec<&'static str>> {
        let all = [vec!["sh"], vec!["dash"], vec!["bash"], vec!["mksh"], vec!["busybox", "sh"], vec!["fish"], vec!["tcsh"]];
        let there = |words: &Vec<&str>| Command::new(words[0]).arg("-c").arg("true").output().is_ok();
        let found: Vec<_> = all.iter().filter(|words| there(words)).cloned().collect();
        let promised = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!promised || found.len() == all.len(), "CI=true, but only {found:?} are there");
        found
    }

    /// What `printf %s WORD` prints in the inner sh of every login shell.
    fn comes_back(word: &str) -> Result<(), TestCaseError> {
        for shell in shells() {
            let run = command(&format!("printf %s {}", quote(word)));
            let out = Command::new(shell[0]).args(&shell[1..]).arg("-c").arg(run).output().unwrap();
            prop_assert_eq!(String::from_utf8_lossy(&out.stdout), word, "{:?}: {:?}", shell, out);
        }
        Ok(())
    }

    #[test]
    fn every_printable_character_comes_back_from_every_shell() {
        let ascii: String = (' '..='~').collect();
        comes_back(&ascii).unwrap();
        comes_back(&ascii.chars().rev().collect::<String>()).unwrap();
        comes_back("!! !$ !x 'a'!\\! ~root %1 *?[a-z]{a,b} $HOME `id` (x) é\u{1f600} \\n\\").unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_quoted_word_comes_back_from_every_shell(word in "[^\0\r\n]{0,40}") {
            let inner = format!("printf %s {}", quote(&word));
            prop_assert_eq!(sh(&inner), word.as_bytes());
            prop_assert_eq!(sh(&command(&inner)), word.as_bytes());
        }

        #[test]
        fn marks_that_shells_read_come_back_from_every_shell(word in "[!'\"\\\\$`~a {}()*?#;&|<>%^=-]{0,12}") {
            comes_back(&word)?;
        }
    }

    #[test]
    fn only_the_head_of_a_directory_is_expanded() {
        let expand = |dir| String::from_utf8(sh(&format!("printf %s {}", dir_word(dir)))).unwrap();
        assert_eq!(expand("~/.cache/$(id)"), "/h o'me/.cache/$(id)");
        assert_eq!(expand("$HOME/x"), "/h o'me/x");
        assert_eq!(expand("$NOWHERE/x"), "/dev/null/x");
        assert_eq!(expand("/tmp/a b`id`"), "/tmp/a b`id`");
        assert_eq!(expand("$(id)/x"), "$(id)/x");
    }
}
