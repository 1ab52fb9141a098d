//! The number in a solution, as lm-evaluation-harness reads it from GSM8K's.

/// Stands before the answer in the data set's own solutions.
const MARK: &str = "#### ";

/// The number after the first mark that has one.
pub(crate) fn strict(text: &str) -> Option<&str> {
    text.match_indices(MARK).find_map(|(at, _)| {
        let rest = &text[at + MARK.len()..];
        let sign = usize::from(rest.starts_with('-'));
        let length = run(&rest[sign..], |b| b.is_ascii_digit() || b == b'.' || b == b',');
        (length > 0).then(|| &rest[..sign + length])
    })
}

/// The last number anywhere: two or more of digits, points, commas and dollar signs, or one digit; a minus belongs to it.
pub(crate) fn flexible(text: &str) -> Option<&str> {
    let (mut found, mut at) = (None, 0);
    while at < text.len() {
        if !text.is_char_boundary(at) {
            at += 1;
            continue;
        }
        let rest = &text[at..];
        let sign = usize::from(rest.starts_with('-'));
        let length = run(&rest[sign..], |b| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'$'));
        if length >= 2 || length == 1 && rest.as_bytes()[sign].is_ascii_digit() {
            found = Some(&rest[..sign + length]);
            at += sign + length;
        } else {
            at += 1;
        }
    }
    found
}

/// Without what does not change a number's value: commas, dollar signs, what stands before the mark, a full stop at the end.
pub(crate) fn normalised(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !matches!(c, ',' | '$')).collect();
    let number = plain.rfind(MARK).map_or(plain.as_str(), |at| &plain[at + MARK.len()..]);
    number.strip_suffix('.').unwrap_or(number).to_lowercase()
}

fn run(text: &str, of: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|b| of(*b)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_found() {
        assert_eq!(strict("so #### x and #### -1,200.5 apples #### 7"), Some("-1,200.5"));
        assert_eq!(strict("####7"), None);
        for (text, last) in [
            ("it is 7", Some("7")),
            ("from 3 to -12 é", Some("-12")),
            ("costs $1,250.", Some("$1,250.")),
            ("7 - 4 = 3 dollars $", Some("3")),
            ("no - number", None),
            ("he waits ...", Some("...")),
        ] {
            assert_eq!(flexible(text), last, "{text}");
        }
        assert_eq!(normalised("we get 5 #### 4\n#### $1,250."), "1250");
        assert_eq!(normalised("-3.50"), "-3.50");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), tail in "[-#$., 0-9é]{0,20}") {
            let text = text + &tail;
            for found in [strict(&text), flexible(&text)].into_iter().flatten() {
                prop_assert!(!normalised(found).contains(','));
            }
        }
    }
}
