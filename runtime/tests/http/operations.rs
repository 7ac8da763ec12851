//! A run's operations over HTTP: none is lost, however many there are, and none is too large.

use serde_json::{Value, json};

use crate::support::{Folder, Served};

fn ids(operations: &Value) -> Vec<u64> {
    let listed = operations.as_array().unwrap().iter();
    listed.map(|operation| operation["op"].as_u64().unwrap()).collect()
}

#[test]
fn a_run_has_its_first_operations_and_says_where_the_others_are() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    node.start_run("r", "count", &json!(1_050));
    node.ended("r");
    let run = node.get("/v1/runs/r").body;
    assert_eq!(ids(&run["operations"]), (1..=1_000).collect::<Vec<_>>());
    assert_eq!(run["operations_total"], 1_050);
    assert_eq!(run["operations_next"], 1_000);

    let rest = node.get("/v1/runs/r/operations?after=1000").body;
    assert_eq!(ids(&rest["operations"]), (1_001..=1_050).collect::<Vec<_>>());
    assert_eq!(rest["next"], Value::Null);
    let (mut seen, mut after) = (Vec::new(), json!(0));
    while !after.is_null() {
        let page = node.get(&format!("/v1/runs/r/operations?limit=400&after={after}")).body;
        seen.extend(ids(&page["operations"]));
        after = page["next"].clone();
    }
    assert_eq!(seen, (1..=1_050).collect::<Vec<_>>());
    let all = node.get("/v1/runs/r/operations?limit=10000").body;
    assert_eq!((ids(&all["operations"]).len(), &all["next"]), (1_050, &Value::Null));
    assert_eq!(node.get("/v1/runs/r/operations?after=1050").body["operations"], json!([]));
    assert_eq!(all["operations"][0], run["operations"][0], "the same of each");

    let one = node.get("/v1/runs/r/operations/1050");
    assert_eq!((one.status, &one.body), (200, &all["operations"][1_049]));
    for op in ["0", "1051"] {
        let missing = node.get(&format!("/v1/runs/r/operations/{op}"));
        let message = missing.error(404, "not_found");
        let expected = format!("run `r` has no operation {op}: GET /v1/runs/r/operations lists");
        assert!(message.contains(&expected), "{message}");
    }
    node.stop();
}

#[test]
fn what_is_large_is_listed_with_its_size_and_is_whole_at_its_address() {
    let folder = Folder::new();
    let node = Served::start(&folder.db());
    let large = json!(format!("{{{}", "large ".repeat(20_000)));
    node.start_run("r", "echo", &large);
    assert_eq!(node.ended("r")["output"], large);
    let run = node.get("/v1/runs/r").body;
    assert_eq!(run["output"], large, "of the run itself nothing is cut");
    let listed = &run["operations"][0];
    assert_eq!(listed.get("output"), None, "{listed}");
    assert_eq!(listed["cut"]["output"]["bytes"], large.to_string().len());
    let head = listed["cut"]["output"]["head"].as_str().unwrap();
    assert!(large.to_string().starts_with(head) && head.len() == 500, "{head}");
    assert_eq!(listed["input"], Value::Null, "what is small is whole");

    let whole = node.get(listed["whole"].as_str().unwrap()).body;
    assert_eq!(whole["output"], large);
    assert_eq!((whole.get("cut"), whole.get("whole")), (None, None));
    let page = node.get("/v1/runs/r/operations").body;
    assert_eq!(&page["operations"][0], listed);
    let page = node.get("/v1/runs/r/operations?whole=true").body;
    assert_eq!(page["operations"][0], whole);
    node.stop();
}
