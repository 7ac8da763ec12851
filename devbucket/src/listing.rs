//! Which keys a page of a listing has. Pure, over the sorted keys of a bucket.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// At the first key.
    Start,
    /// At the first key after this one. Keys after it count even if they roll up into a prefix
    /// that this key has, too (`start-after`).
    After(String),
    /// After all keys with this prefix, which an earlier page rolled up.
    AfterPrefix(String),
}

/// What a request asks of a page.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pub(crate) prefix: &'a str,
    /// Keys are rolled up to the first of these after the prefix; empty for none.
    pub(crate) delimiter: &'a str,
    pub(crate) from: From,
    /// The most keys and prefixes, counted together.
    pub(crate) limit: usize,
}

/// A page, its keys and prefixes each in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<'a, V> {
    pub(crate) keys: Vec<(&'a str, &'a V)>,
    pub(crate) prefixes: Vec<String>,
    /// Where the next page begins, if there is more.
    pub(crate) next: Option<From>,
}

/// The page that `query` asks for.
pub(crate) fn page<'a, V>(objects: &'a BTreeMap<String, V>, query: &Query<'_>) -> Page<'a, V> {
    let mut page = Page { keys: Vec::new(), prefixes: Vec::new(), next: None };
    let mut from = query.from.clone();
    let mut last = None;
    while let Some((key, value)) = next(objects, query.prefix, &from) {
        if page.keys.len() + page.prefixes.len() >= query.limit {
            page.next = last;
            return page;
        }
        from = match rolled_up(key, query) {
            None => {
                page.keys.push((key, value));
                From::After(key.to_owned())
            }
            Some(prefix) => {
                page.prefixes.push(prefix.to_owned());
                From::AfterPrefix(prefix.to_owned())
            }
        };
        last = Some(from.clone());
    }
    page
}

/// The first key with the prefix at or after `from`.
fn next<'a, V>(
    objects: &'a BTreeMap<String, V>,
    prefix: &str,
    from: &From,
) -> Option<(&'a str, &'a V)> {
    let beyond;
    let bound = match from {
        From::Start => Bound::Included(prefix),
        From::After(key) if key.as_str() < prefix => Bound::Included(prefix),
        From::After(key) => Bound::Excluded(key.as_str()),
        From::AfterPrefix(rolled) => {
            beyond = after_all_with(rolled)?;
            Bound::Included(beyond.as_str())
        }
    };
    let (key, value) = objects.range::<str, _>((bound, Bound::Unbounded)).next()?;
    key.starts_with(prefix).then_some((key.as_str(), value))
}

/// The smallest text that is greater than every text with this prefix, in the order of UTF-8.
fn after_all_with(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Skips the surrogates, which no text contains.
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn rolled_up<'a>(key: &'a str, query: &Query<'_>) -> Option<&'a str> {
    if query.delimiter.is_empty() {
        return None;
    }
    let found = key[query.prefix.len()..].find(query.delimiter)?;
    Some(&key[..query.prefix.len() + found + query.delimiter.len()])
}

/// A text that tells [`resumed`] where to continue. Clients do not look into it.
pub(crate) fn token(from: &From) -> String {
    let (kind, text) = match from {
        From::Start => ('s', ""),
        From::After(key) => ('k', key.as_str()),
        From::AfterPrefix(prefix) => ('p', prefix.as_str()),
    };
    let mut token = String::from(kind);
    token.extend(text.bytes().map(|byte| format!("{byte:02x}")));
    token
}

/// Reads a [`token`]; `None` for any other text.
pub(crate) fn resumed(token: &str) -> Option<From> {
    let mut chars = token.chars();
    let kind = chars.next()?;
    let digits = chars.as_str();
    let bytes: Option<Vec<u8>> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect();
    let text = String::from_utf8(bytes?).ok()?;
    match kind {
        's' => Some(From::Start),
        'k' => Some(From::After(text)),
        'p' => Some(From::AfterPrefix(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn bucket(keys: &[&str]) -> BTreeMap<String, ()> {
        keys.iter().map(|key| ((*key).to_owned(), ())).collect()
    }

    fn query<'a>(prefix: &'a str, delimiter: &'a str, from: From, limit: usize) -> Query<'a> {
        Query { prefix, delimiter, from, limit }
    }

    fn keys<'a>(page: &Page<'a, ()>) -> Vec<&'a str> {
        page.keys.iter().map(|(key, _)| *key).collect()
    }

    #[test]
    fn keys_are_rolled_up_to_the_delimiter_after_the_prefix() {
        let objects = bucket(&["a", "a/1", "a/2", "a/b/3", "b"]);
        let page = page(&objects, &query("a/", "/", From::Start, 10));
        assert_eq!(keys(&page), ["a/1", "a/2"]);
        assert_eq!(page.prefixes, ["a/b/"]);
        assert_eq!(page.next, None);
    }

    #[test]
    fn a_start_inside_a_prefix_still_shows_that_prefix() {
        let objects = bucket(&["a/1", "a/2", "b"]);
        let page = page(&objects, &query("", "/", From::After("a/1".to_owned()), 10));
        assert_eq!(page.prefixes, ["a/"]);
        assert_eq!(keys(&page), ["b"]);
    }

    #[test]
    fn nothing_is_more_than_the_last_key() {
        let objects = bucket(&["a", "b"]);
        assert_eq!(page(&objects, &query("", "", From::Start, 2)).next, None);
        assert_eq!(
            page(&objects, &query("", "", From::Start, 1)).next,
            Some(From::After("a".into()))
        );
    }

    fn key() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop_oneof![Just('a'), Just('b'), Just('/'), Just('\u{d7ff}'), Just('\u{10ffff}')],
            1..6,
        )
        .prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn the_pages_together_are_the_whole_listing(
            keys in prop::collection::btree_set(key(), 0..30),
            prefix in prop_oneof![Just(String::new()), key()],
            delimiter in prop_oneof![Just(""), Just("/"), Just("ab")],
            limit in 1_usize..5,
        ) {
            let objects: BTreeMap<String, ()> = keys.iter().map(|key| (key.clone(), ())).collect();
            let (mut seen, mut rolled) = (Vec::new(), Vec::new());
            let mut from = From::Start;
            loop {
                let page = page(&objects, &query(&prefix, delimiter, from, limit));
                seen.extend(page.keys.iter().map(|(key, ())| (*key).to_owned()));
                rolled.extend(page.prefixes.iter().cloned());
                match page.next {
                    None => break,
                    Some(next) => from = resumed(&token(&next)).expect("our own token"),
                }
            }
            let matching = keys.iter().filter(|key| key.starts_with(&prefix));
            let (mut expected, mut prefixes) = (Vec::new(), BTreeSet::new());
            for key in matching {
                match key[prefix.len()..].split_once(delimiter).filter(|_| !delimiter.is_empty()) {
                    Some((head, _)) => drop(prefixes.insert(format!("{prefix}{head}{delimiter}"))),
                    None => expected.push(key.clone()),
                }
            }
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(rolled, prefixes.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_token_of_a_stranger_panics(text in ".{0,12}") {
            let _read = resumed(&text);
        }
    }
}
