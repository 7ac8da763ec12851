//! How many columns of a terminal a text takes, and texts cut to fit into so many.
//!
//! Counts character by character, as terminals do: a wide character (`東`, `👍`) takes two columns,
//! and a combining one none, because it is drawn onto the character before it.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar as _;

/// How many columns a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(of).sum()
}

/// The beginning of a text; an ellipsis stands for the rest.
pub(super) fn cut_end(text: &str, columns_max: usize) -> Cow<'_, str> {
    if columns(text) <= columns_max {
        return text.into();
    }
    format!("{}…", beginning(text, columns_max.saturating_sub(1))).into()
}

/// The beginning and the end of a text; an ellipsis stands for what is between them.
pub(super) fn cut_middle(text: &str, columns_max: usize) -> Cow<'_, str> {
    if columns(text) <= columns_max {
        return text.into();
    }
    let kept = columns_max.saturating_sub(1);
    let head = kept / 2;
    format!("{}…{}", beginning(text, head), end(text, kept - head)).into()
}

/// As much of the beginning as fits.
fn beginning(text: &str, columns_max: usize) -> &str {
    let mut taken = 0;
    let too_far = text.char_indices().find(|(_, c)| {
        taken += of(*c);
        taken > columns_max
    });
    too_far.map_or(text, |(at, _)| &text[..at])
}

/// As much of the end as fits, from a character that is not drawn onto one that is cut off.
fn end(text: &str, columns_max: usize) -> &str {
    let (mut taken, mut begins) = (0, text.len());
    for (at, c) in text.char_indices().rev() {
        taken += of(c);
        if taken > columns_max {
            break;
        }
        if of(c) > 0 {
            begins = at;
        }
    }
    &text[begins..]
}

/// What a terminal acts on takes none; it is shown as plain text before it comes here.
fn of(c: char) -> usize {
    c.width().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_columns_and_combining_ones_none() {
        for (text, taken) in [("", 0), ("team", 4), ("東京", 4), ("👍", 2), ("e\u{301}tude", 5)]
        {
            assert_eq!(columns(text), taken, "{text}");
        }
    }

    #[test]
    fn what_fits_is_not_cut() {
        for text in ["東京", "e\u{301}tud", ""] {
            assert_eq!(cut_end(text, 4), text);
            assert_eq!(cut_middle(text, 4), text);
        }
    }

    #[test]
    fn a_cut_takes_characters_whole_with_what_is_drawn_onto_them() {
        assert_eq!(cut_end("東京都庁", 7), "東京都…");
        assert_eq!(cut_end("東京都庁", 6), "東京…", "half of a character is not shown");
        assert_eq!(cut_end("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
        assert_eq!(cut_middle("東京都庁前", 7), "東…前", "three columns are left on each side");
        assert_eq!(cut_middle("abcde\u{301}", 3), "a…e\u{301}");
        assert_eq!(cut_middle("abcde\u{301}f", 3), "a…f");
        assert_eq!(cut_middle("東京", 1), "…");
        assert_eq!(cut_end("東京", 0), "…");
    }
}
