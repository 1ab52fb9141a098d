//! Text into markup. What comes from outside passes [`escape`] exactly once.

use std::fmt::Write as _;

/// Text as it may stand between tags and in quoted attributes.
///
/// Characters that no page may hold, and those that turn the direction of the text around them (a name could so disguise
/// itself), become U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Appends formatted markup; the arguments are escaped by the caller or are numbers.
pub(crate) fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a string has no way to fail.
    let _ = out.write_fmt(args);
}

/// `push(out, format_args!(...))`.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => { $crate::markup::push($out, format_args!($($arg)*)) };
}
pub(crate) use put;

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_gets_out_of_text_or_attributes() {
        assert_eq!(escape("<script>\"'&"), "&lt;script&gt;&quot;&#39;&amp;");
        assert_eq!(escape("a\0b\u{1b}[31m\u{202e}c\n"), "a\u{fffd}b\u{fffd}[31m\u{fffd}c\n");
        assert_eq!(escape("é 漢 ≤"), "é 漢 ≤");
    }
}
