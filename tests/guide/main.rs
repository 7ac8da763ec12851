//! Keeps the guide true: its pages are in the book and compiled, its links lead somewhere, and the
//! commands and options that it names exist.

#![expect(clippy::unwrap_used, reason = "a test")]

mod commands;
mod markdown;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A page that is longer than this is two pages.
const LINES_MAX: usize = 300;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All Markdown files below a folder.
fn markdown_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(markdown_in(&path));
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The pages of the guide, without its table of contents.
fn pages() -> Vec<(String, String)> {
    let files = markdown_in(&root().join("docs/guide"));
    let named = files.into_iter().map(|file| {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        (name, read(&file))
    });
    named.filter(|(name, _)| name != "SUMMARY.md").collect()
}

#[test]
fn the_book_has_every_page_once() {
    let summary = read(&root().join("docs/guide/SUMMARY.md"));
    let mut listed = markdown::links(&summary);
    let of_files: BTreeSet<String> = pages().into_iter().map(|(name, _)| name).collect();
    let of_summary: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(of_summary, of_files, "SUMMARY.md and the files of docs/guide differ");
    listed.dedup();
    assert_eq!(listed.len(), of_summary.len(), "SUMMARY.md lists a page twice");
}

#[test]
fn every_page_is_short_and_its_programs_are_compiled() {
    let compiled = read(&root().join("runtime/src/guide.rs"));
    for (name, text) in pages() {
        let lines = text.lines().count();
        assert!(lines < LINES_MAX, "{name} has {lines} lines: make it two pages");
        let has_programs = markdown::blocks(&text).any(|block| block.language.starts_with("rust"));
        let is_compiled = compiled.contains(&format!("\"{name}\""));
        assert!(is_compiled || !has_programs, "{name} is missing in runtime/src/guide.rs");
        for block in markdown::blocks(&text) {
            let skipped = block.language.starts_with("rust") && block.language.contains("ignore");
            assert!(!skipped, "{name} has a program that is not compiled: {}", block.text);
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut files = markdown_in(&root().join("docs"));
    files.push(root().join("README.md"));
    files.push(root().join("deploy/README.md"));
    let mut broken = Vec::new();
    for file in files {
        let text = read(&file);
        for link in markdown::links(&text) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            let is_markdown = target.extension().is_some_and(|ending| ending == "md");
            let leads = target.exists()
                && (anchor.is_empty()
                    || !is_markdown
                    || markdown::anchors(&read(&target)).contains(anchor));
            if !leads {
                broken.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_command_and_option_exists() {
    let known = commands::Known::of_this_build(&read(&root().join("README.md")));
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (name, text) in pages() {
        for said in commands::said(&text) {
            match known.check(&said) {
                Ok(is_command) => checked += usize::from(is_command),
                Err(why) => wrong.push(format!("{name}: `{said}`: {why}")),
            }
        }
    }
    assert!(wrong.is_empty(), "the guide names what there is not:\n{}", wrong.join("\n"));
    assert!(
        checked > 50,
        "only {checked} commands were found: does the guide write them otherwise?"
    );
}
