//! The result as JUnit XML, which CI systems show: a suite a workflow, a case a run. Pure.
//!
//! Ids and messages may hold anything that a run put there. What a terminal would act on is shown
//! as an escape, so that what XML does not allow is not in the document either.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use tidemill_model::terminal;

use super::words;
use crate::checked::Checked;

type Xml = Writer<Vec<u8>>;

/// What every document has on top of its cases.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) source: String,
    pub(super) app: String,
}

/// The document of runs that were replayed.
pub(super) fn of_runs(head: &Head, runs: &[Checked]) -> io::Result<Vec<u8>> {
    let mut suites: BTreeMap<&str, Vec<&Checked>> = BTreeMap::new();
    for run in runs {
        suites.entry(&run.workflow).or_default().push(run);
    }
    let part = runs.iter().filter(|run| !run.agrees).count();
    document((runs.len(), part, 0), |xml| {
        for (workflow, runs) in suites {
            suite(xml, head, workflow, &runs)?;
        }
        Ok(())
    })
}

/// The document of a replay that could not be made.
pub(super) fn of_error(head: &Head, error: &str) -> io::Result<Vec<u8>> {
    let counts = (1, 0, 1);
    document(counts, |xml| {
        let suite = counted(xml, "testsuite", "replay", counts);
        suite.write_inner_content(|xml| {
            properties(xml, head)?;
            let case = xml.create_element("testcase").with_attribute(("name", "replay"));
            case.with_attribute(("classname", "tidemill")).write_inner_content(|xml| {
                let element = xml.create_element("error");
                element.with_attribute(("message", &*line(error))).write_empty()?;
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(())
    })
}

/// A document with these counts: cases, failures, errors.
fn document(
    counts: (usize, usize, usize),
    content: impl FnOnce(&mut Xml) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    counted(&mut xml, "testsuites", "tidemill replay", counts).write_inner_content(content)?;
    let mut document = xml.into_inner();
    document.push(b'\n');
    Ok(document)
}

fn counted<'a>(
    xml: &'a mut Xml,
    element: &'a str,
    name: &str,
    (cases, failures, errors): (usize, usize, usize),
) -> quick_xml::writer::ElementWriter<'a, Vec<u8>> {
    xml.create_element(element)
        .with_attribute(("name", &*line(name)))
        .with_attribute(("tests", cases.to_string().as_str()))
        .with_attribute(("failures", failures.to_string().as_str()))
        .with_attribute(("errors", errors.to_string().as_str()))
}

fn suite(xml: &mut Xml, head: &Head, workflow: &str, runs: &[&Checked]) -> io::Result<()> {
    let part = runs.iter().filter(|run| !run.agrees).count();
    counted(xml, "testsuite", workflow, (runs.len(), part, 0)).write_inner_content(|xml| {
        properties(xml, head)?;
        runs.iter().try_for_each(|run| case(xml, run))
    })?;
    Ok(())
}

fn properties(xml: &mut Xml, head: &Head) -> io::Result<()> {
    xml.create_element("properties").write_inner_content(|xml| {
        for (name, value) in [("source", &head.source), ("app", &head.app)] {
            let property = xml.create_element("property").with_attribute(("name", name));
            property.with_attribute(("value", &*line(value))).write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn case(xml: &mut Xml, run: &Checked) -> io::Result<()> {
    let mut case = xml
        .create_element("testcase")
        .with_attribute(("name", &*line(&run.run)))
        .with_attribute(("classname", &*line(&run.workflow)));
    if let Some((file, number)) = file_and_line(run) {
        case = case.with_attribute(("file", &*line(file))).with_attribute(("line", number));
    }
    if run.agrees {
        case.write_empty()?;
        return Ok(());
    }
    case.write_inner_content(|xml| {
        let kind = run.divergence.as_ref().map_or("", |divergence| &divergence.kind);
        let failure = xml.create_element("failure").with_attribute(("type", &*line(kind)));
        let lines = words::divergence(run).join("\n");
        failure
            .with_attribute(("message", &*line(&words::why(run))))
            .write_text_content(BytesText::new(&text(&lines)))?;
        Ok(())
    })?;
    Ok(())
}

/// The file and the line of the call that a divergence concerns, as CI systems link them.
fn file_and_line(run: &Checked) -> Option<(&str, &str)> {
    let place = run.at.as_ref().or(run.waits_at.as_ref())?;
    let (rest, _column) = place.rsplit_once(':')?;
    rest.rsplit_once(':')
}

/// Text for an attribute.
fn line(text: &str) -> Cow<'_, str> {
    allowed(terminal::line(text))
}

/// Text for an element.
fn text(text: &str) -> Cow<'_, str> {
    allowed(terminal::lines(text))
}

/// Replaces the two characters that XML 1.0 does not allow though no terminal acts on them.
fn allowed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.contains(['\u{fffe}', '\u{ffff}']) {
        true => text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}").into(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use quick_xml::Reader;
    use quick_xml::events::BytesStart;

    use super::*;
    use crate::checked::Divergence;

    const HOSTILE: &str = "]]> <a b=\"'&\u{1b}[2J\u{0}\u{fffe}\u{202e}\n\t</failure> 東京";

    fn head() -> Head {
        Head { source: HOSTILE.to_owned(), app: "./app".to_owned() }
    }

    fn agrees(run: &str, workflow: &str) -> Checked {
        Checked {
            run: run.to_owned(),
            workflow: workflow.to_owned(),
            events: 3,
            agrees: true,
            divergence: None,
            seq: None,
            at: None,
            waits_at: None,
        }
    }

    fn parts(run: &str, workflow: &str, what: &str) -> Checked {
        let divergence = Divergence {
            kind: "nondeterminism".to_owned(),
            op: Some(2),
            logged: Some(what.to_owned()),
            asked: Some(what.to_owned()),
            advice: what.to_owned(),
        };
        Checked {
            agrees: false,
            divergence: Some(divergence),
            seq: Some(7),
            at: Some("src/main.rs:42:9".to_owned()),
            ..agrees(run, workflow)
        }
    }

    type Attributes = BTreeMap<String, String>;

    /// Each element with its attributes, as a parser reads them, and all text.
    fn read(document: &[u8]) -> (Vec<(String, Attributes)>, String) {
        let document = std::str::from_utf8(document).unwrap();
        let is_low = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}');
        let allowed = |c| is_low(c) || matches!(c, '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        assert!(document.chars().all(allowed), "{document:?}");
        let mut reader = Reader::from_str(document);
        let (mut elements, mut texts) = (Vec::new(), String::new());
        let element = |start: &BytesStart<'_>| {
            let name = String::from_utf8(start.name().as_ref().to_vec()).unwrap();
            let attributes = start.attributes().map(|attribute| {
                let attribute = attribute.unwrap();
                let key = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
                let value = std::str::from_utf8(&attribute.value).unwrap();
                (key, quick_xml::escape::unescape(value).unwrap().into_owned())
            });
            (name, attributes.collect())
        };
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) | Event::Empty(start) => elements.push(element(&start)),
                Event::Text(text) => texts.push_str(&text.decode().unwrap()),
                Event::Eof => return (elements, texts),
                _ => {}
            }
        }
    }

    #[test]
    fn counts_and_cases_match_and_a_failure_names_its_line() {
        let runs = [agrees("a", "w"), parts("b", "w", "step_started 2"), agrees("c", "v")];
        let (elements, text) = read(&of_runs(&head(), &runs).unwrap());
        let all = |name: &str| -> Vec<Attributes> {
            let named = elements.iter().filter(|(element, _)| element == name);
            named.map(|(_, attributes)| attributes.clone()).collect()
        };
        let counts = |of: &Attributes| {
            ["tests", "failures", "errors"].map(|count| of[count].parse::<u32>().unwrap())
        };
        assert_eq!(all("testsuites").iter().map(counts).collect::<Vec<_>>(), [[3, 1, 0]]);
        let suites = all("testsuite");
        assert_eq!(suites.iter().map(counts).collect::<Vec<_>>(), [[1, 0, 0], [2, 1, 0]]);
        let cases = all("testcase");
        let names: Vec<_> = cases.iter().map(|case| case["name"].as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
        assert_eq!((cases[2]["file"].as_str(), cases[2]["line"].as_str()), ("src/main.rs", "42"));
        let failures = all("failure");
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0]["type"], "nondeterminism");
        assert!(failures[0]["message"].contains("step_started 2"));
        assert!(text.contains("src/main.rs:42:9"), "{text}");
    }

    #[test]
    fn hostile_text_is_escaped_and_no_element() {
        let runs = [parts(HOSTILE, HOSTILE, HOSTILE)];
        let (elements, text) = read(&of_runs(&head(), &runs).unwrap());
        let names: Vec<&str> = elements.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "testsuites",
            "testsuite",
            "properties",
            "property",
            "property",
            "testcase",
            "failure",
        ];
        assert_eq!(names, expected);
        let shown = elements[5].1["name"].as_str();
        assert!(
            shown.starts_with("]]> <a b=\"'&\\u{1b}[2J\\u{0}\u{fffd}\\u{202e}  </failure>"),
            "{shown}"
        );
        assert!(text.contains("東京"), "{text}");
        assert_eq!(elements[3].1["value"], shown);
    }

    #[test]
    fn a_replay_that_could_not_be_made_is_an_error() {
        let (elements, _) = read(&of_error(&head(), HOSTILE).unwrap());
        let (last, attributes) = elements.last().unwrap();
        assert!(last == "error" && attributes["message"].contains("東京"), "{elements:?}");
        assert_eq!(elements[0].1["errors"], "1");
    }
}
