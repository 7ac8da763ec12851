//! As much of Markdown as the documents use.

use std::collections::BTreeSet;

/// A fenced block of code.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    /// What stands behind the fence.
    pub(crate) language: &'a str,
    pub(crate) text: String,
}

/// The lines of a document, each with the language of the fenced block that it is in; `None`
/// outside. The fences themselves are left out.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (Option<&str>, &str)> {
    let mut inside = None;
    text.lines().filter_map(move |line| match (line.trim_start().strip_prefix("```"), inside) {
        (Some(_), Some(_)) => {
            inside = None;
            None
        }
        (Some(language), None) => {
            inside = Some(language);
            None
        }
        (None, inside) => Some((inside, line)),
    })
}

/// The fenced blocks.
pub(crate) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(language) => {
                blocks.push(Block { language, text: String::new() });
                is_open = true;
            }
            None => {
                if let Some(block) = blocks.last_mut().filter(|_| is_open) {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
        }
    }
    blocks.into_iter()
}

/// The text outside of fenced blocks, as one line a paragraph would be read: a link may be broken
/// between two lines.
fn prose(text: &str) -> String {
    let outside = lines(text).filter(|(inside, _)| inside.is_none());
    outside.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

/// What stands between single backticks outside of fenced blocks.
pub(crate) fn inline_code(text: &str) -> Vec<String> {
    let prose = prose(text);
    let paragraphs = prose.split("\n\n");
    let spans = paragraphs.flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    spans.map(|span| span.replace('\n', " ").replace("\\|", "|")).collect()
}

/// Where the links and images outside of code lead.
pub(crate) fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let mut without_code = String::new();
    for paragraph in prose.split("\n\n") {
        paragraph.split('`').step_by(2).for_each(|part| without_code.push_str(part));
        without_code.push('\n');
    }
    let behind = without_code.split("](").skip(1);
    behind.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of a document's headings, as mdBook and the usual sites make them.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let outside = lines(text).filter(|(inside, _)| inside.is_none());
    let headings = outside.filter_map(|(_, line)| line.strip_prefix('#'));
    let mut anchors = BTreeSet::new();
    for heading in headings {
        let title = heading.trim_start_matches('#').trim();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let mut unique = anchor.clone();
        let mut number = 0;
        while !anchors.insert(unique.clone()) {
            number += 1;
            unique = format!("{anchor}-{number}");
        }
    }
    anchors
}

#[test]
fn links_anchors_and_code_are_found() {
    let text = "# One & two\n\nSee [a](b.md#c) and `[no](x)`,\n[broken\nline](d.md).\n\n\
                ```rust\n# hidden\n[no](y)\n```\n\n## One & two\n\n`tidemill\nruns`\n";
    assert_eq!(links(text), ["b.md#c", "d.md"]);
    let anchors: Vec<String> = anchors(text).into_iter().collect();
    assert_eq!(anchors, ["one--two", "one--two-1"]);
    assert_eq!(inline_code(text), ["[no](x)", "tidemill runs"]);
    let block = blocks(text).next().unwrap();
    assert_eq!((block.language, block.text.as_str()), ("rust", "# hidden\n[no](y)\n"));
}
