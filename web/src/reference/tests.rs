use tidemill_page::{File, View};

use super::*;

#[test]
fn the_document_has_the_tables() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/observe.md");
    let document = std::fs::read_to_string(file).unwrap();
    for gives in [Gives::Page, Gives::Program] {
        let table = markdown(gives);
        assert!(document.contains(&table), "docs/observe.md lacks this table:\n\n{table}");
    }
}

#[test]
fn a_terminal_gets_the_whole_table() {
    let text = text();
    assert_eq!(text.lines().count(), TABLE.len());
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("…/compare?a=&b=  (page, or JSON)"), "{text}");
}

/// The route that shows a view: a new view does not compile without one.
fn route_of(view: &View) -> Route {
    match view {
        View::Overview => Route::Overview,
        View::Runs(_) => Route::Runs,
        View::Run(..) => Route::Run,
        View::Events(..) => Route::Events,
        View::Operation(..) => Route::Operation,
        View::Curves(..) => Route::Curves,
        View::Children(..) => Route::Children,
        View::Promises(_) => Route::Promises,
        View::Promise(_) => Route::Promise,
        View::Compare(_) => Route::Compare,
    }
}

#[test]
fn each_view_is_in_the_table_with_the_parameters_that_it_takes() {
    let mut views = 0;
    for endpoint in &TABLE {
        let route = endpoint.route;
        let path = endpoint.path.replace("/promises/{id}", "/promises/r1:1");
        let path = path.replace("{id}", "r1").replace("{op}", "1");
        let known = endpoint.parameters.iter().filter(|it| !it.of_moment);
        let query: Vec<String> = known.map(|it| format!("{}=", it.name)).collect();
        let view = View::of_path(&path, &query.join("&")).unwrap();
        if let Some(view) = view.filter(|_| endpoint.gives == Gives::Page && !path.is_empty()) {
            assert!([route, Route::Fleets].contains(&route_of(&view)) || path == "/", "{path}");
            views += 1;
        }
        let names = endpoint.path.replace("{payload}", "input").replace("{id}", "r1");
        let names = names.replace("{op}", "1");
        let segments: Vec<&str> = names.split('/').skip(1).collect();
        let is_file = File::parse(&segments, "").unwrap().is_some();
        let files = [Route::Export, Route::Payload, Route::OperationPayload];
        assert_eq!(is_file, files.contains(&route), "{names}");
    }
    assert_eq!(views, 11, "`/` is a view of a node, and the fleets");
}
