//! Text that comes from a run, a file or a bucket, made safe to show on a terminal.
//!
//! A terminal acts on control characters, and lays text out otherwise than it reads where there are
//! marks of direction: a run could clear the screen, or show another reason than the log has. Every
//! command passes what it prints through here, and no other place decides what is safe.

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line: what a terminal acts on is shown as `\u{1b}`, and what ends a line as a space.
pub fn line(text: &str) -> Cow<'_, str> {
    replaced(text, acts, |c, into| match c {
        '\t' | '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => into.push(' '),
        c => shown(c, into),
    })
}

/// Lines that are put together already: as [`line()`], but each `\n` stays.
pub fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c != '\n' && acts(c), shown)
}

/// A JSON document: what a terminal acts on is escaped within its strings, where alone it can be,
/// so that the document means the same.
pub fn json(document: &str) -> Cow<'_, str> {
    replaced(
        document,
        |c| c != '\n' && acts(c),
        |c, into| {
            write!(into, "\\u{:04x}", u32::from(c)).expect("writing to a string cannot fail");
        },
    )
}

/// A log's line, which keeps the colours that the log itself gives it.
pub fn coloured(text: &str) -> Cow<'_, str> {
    let Some((first, rest)) = text.split_once('\u{1b}') else { return lines(text) };
    let mut safe = lines(first).into_owned();
    for part in rest.split('\u{1b}') {
        let colour = part.strip_prefix('[').and_then(|code| {
            let (code, after) = code.split_once('m')?;
            let is_code = code.bytes().all(|byte| byte.is_ascii_digit() || byte == b';');
            is_code.then_some((code, after))
        });
        match colour {
            Some((code, after)) => {
                write!(safe, "\u{1b}[{code}m{}", lines(after)).expect("a string takes it");
            }
            None => write!(safe, "\\u{{1b}}{}", lines(part)).expect("a string takes it"),
        }
    }
    safe.into()
}

/// Whether a terminal does more with this character than show it.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shown(c: char, into: &mut String) {
    write!(into, "\\u{{{:x}}}", u32::from(c)).expect("writing to a string cannot fail");
}

fn replaced(
    text: &str,
    is_bad: impl Fn(char) -> bool,
    replace: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.chars().any(&is_bad) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) { replace(c, &mut safe) } else { safe.push(c) }
    }
    safe.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "a\u{1b}[31m\u{7}\u{9b}\u{7f}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\r\nb";

    #[test]
    fn what_a_terminal_acts_on_is_shown() {
        let safe = "a\\u{1b}[31m\\u{7}\\u{9b}\\u{7f}\\u{202e}\\u{2066}\\u{200f}\\u{61c}";
        assert_eq!(line(HOSTILE), format!("{safe}   b"));
        assert_eq!(lines(HOSTILE), format!("{safe}\\u{{2028}}\\u{{d}}\nb"));
        let plain = "überall „gut“ → 10 × 2, 東京, 👍🏽";
        assert!(matches!(line(plain), Cow::Borrowed(text) if text == plain));
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE, 1.5] });
        let document = serde_json::to_string_pretty(&value).unwrap();
        let safe = json(&document);
        assert!(!safe.chars().any(|c| c != '\n' && acts(c)), "{safe:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }

    #[test]
    fn colours_pass_and_nothing_else() {
        assert_eq!(coloured("\u{1b}[2m10:00\u{1b}[0m ok\n"), "\u{1b}[2m10:00\u{1b}[0m ok\n");
        assert_eq!(
            coloured("\u{1b}[2Jx\u{1b}]0;t\u{7}\u{1b}"),
            "\\u{1b}[2Jx\\u{1b}]0;t\\u{7}\\u{1b}"
        );
    }
}
