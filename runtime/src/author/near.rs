//! Suggestions for a mistyped name.

/// How many suggestions one message makes.
const NAMES_MAX: usize = 3;

/// The known names closest to `name`, nearest first. A name of up to five characters may differ by
/// one change, a longer one by one change for every three characters.
pub(crate) fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let chars: Vec<char> = name.chars().collect();
    let far = (chars.len() / 3).max(1);
    let mut near: Vec<(usize, &str)> = known
        .map(|known| (distance(&chars, &known.chars().collect::<Vec<_>>()), known))
        .filter(|(distance, _)| *distance <= far)
        .collect();
    near.sort_unstable();
    near.into_iter().take(NAMES_MAX).map(|(_, known)| known).collect()
}

/// A question that ends in a space, or an empty string if no known name is close.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = near(name, known).iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!("did you mean {}? ", names.join(" or ")) }
}

/// The edit distance: insertions, deletions, replacements and swaps of neighbouring characters.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = row[j] + usize::from(from != to);
            let mut least = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let known = ["square", "squares", "sum", "train", "überweisung"];
        let near = |name| near(name, known.into_iter());
        assert_eq!(near("sqare"), ["square"]);
        assert_eq!(near("squaer"), ["square", "squares"]);
        assert_eq!(near("smu"), ["sum"]);
        assert_eq!(near("uberweisung"), ["überweisung"]);
        assert_eq!(near("publish"), [""; 0]);
        assert_eq!(near(""), [""; 0]);
        assert_eq!(did_you_mean("trian", known.into_iter()), "did you mean `train`? ");
        assert_eq!(did_you_mean("publish", known.into_iter()), "");
    }
}
