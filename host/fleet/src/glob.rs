//! Patterns with `*` and `?`, as known-hosts files and selectors of devices use them.

/// `*` for any run, `?` for any one character. Backtracks to the last star only, so a hostile pattern costs no more than
/// its length times the name's.
pub(crate) fn matches_glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_and_questions_match_as_in_a_shell() {
        for (pattern, name, matches) in [
            ("pi*", "pi", true),
            ("pi*", "pi-4", true),
            ("pi*", "api", false),
            ("pi?", "pi", false),
            ("pi?", "pi4", true),
            ("*-4", "pi-4-4", true),
            ("p*i*4", "pi-4", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbXd", false),
        ] {
            assert_eq!(matches_glob(pattern, name), matches, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_wildcards_matches_only_itself(a in "[a-z.]{0,8}", b in "[a-z.]{0,8}") {
            prop_assert_eq!(matches_glob(&a, &b), a == b);
        }

        #[test]
        fn stars_match_what_they_replace(head in "[a-z]{0,5}", middle in "[a-z.]{0,9}", tail in "[a-z]{0,5}") {
            let name = format!("{head}{middle}{tail}");
            let questions = format!("{head}{}{tail}", "?".repeat(middle.len()));
            let starred = format!("{head}*{tail}");
            prop_assert!(matches_glob(&starred, &name));
            prop_assert!(matches_glob(&questions, &name));
        }
    }
}
