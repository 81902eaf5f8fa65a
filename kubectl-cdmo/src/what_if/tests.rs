use std::collections::BTreeMap;

use super::*;

fn prospect(name: &str, fate: Fate, message: &str) -> Prospect {
    let wants = match fate {
        Fate::Nothing => BTreeMap::new(),
        _ => [("nvidia.com/mig-3g.20gb".to_owned(), 1)].into(),
    };
    Prospect {
        name: name.to_owned(),
        wants,
        fate,
        node: None,
        message: message.to_owned(),
        makes: Vec::new(),
        gives_up: Vec::new(),
        moves: Vec::new(),
    }
}

fn answer(pods: Vec<Prospect>) -> WhatIf {
    WhatIf {
        api_version: status_report::API_VERSION.to_owned(),
        time: "2026-03-01T12:00:00Z".parse().unwrap(),
        pods,
    }
}

fn plain(answer: &WhatIf) -> String {
    anstream::adapter::strip_str(&text(answer, 80)).to_string()
}

#[test]
fn pods_that_only_a_number_tells_apart_share_a_line() {
    let why = "no room for 1x nvidia.com/mig-3g.20gb now: 2 nodes: 3g.20gb blocked, least by team-a/train on GPU 0 of \
               node gpu-1";
    let pods = vec![
        prospect(
            "deployment/web-0",
            Fate::Ready,
            "Idle devices on node a would serve it.",
        ),
        prospect("deployment/web-1", Fate::Refused, why),
        prospect("deployment/web-2", Fate::Refused, why),
        prospect("deployment/web-3", Fate::Refused, why),
        prospect(
            "proxy",
            Fate::Nothing,
            "It asks for no slice, fraction or GPU.",
        ),
    ];
    insta::assert_snapshot!(plain(&answer(pods)));
}

#[test]
fn a_single_pod_is_answered_in_the_singular() {
    let fits = prospect(
        "one",
        Fate::Planned,
        "Making 3g.20gb at slice 4 on GPU 0 (GPU-a) of node a",
    );
    assert!(plain(&answer(vec![fits])).starts_with("The pod would fit.\n"));
    let not = prospect("one", Fate::Refused, "no");
    assert!(plain(&answer(vec![not])).starts_with("The pod would not fit.\n"));
    assert_eq!(plain(&answer(Vec::new())), "No pods would be made.\n");
}

#[test]
fn a_question_about_too_many_pods_is_not_asked() {
    let pods = |count| Pods {
        annotations: serde_json::json!({}),
        name: "x".to_owned(),
        count,
        spec: json!({}),
        warnings: Vec::new(),
    };
    assert!(question(&[pods(999), pods(1)]).is_ok());
    let sentence = question(&[pods(999), pods(2)]).unwrap_err().to_string();
    assert!(sentence.contains("make 1001 pods"), "{sentence}");
}
