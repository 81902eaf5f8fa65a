//! What cannot be served is told why, in an Event on the pod, and disturbs nobody else.

use scenarios::{Needs, Pod, Verdict, api_scenario};

/// A pod that cannot be served is told so with these words, and another is served beside it.
fn refused(pod: &Pod, reason: &str, words: &[&str]) -> Verdict {
    api_scenario(Needs::Api, async |ground| {
        ground.create(pod).await?;
        let why = ground.event("p", reason).await?;
        for word in words {
            assert!(why.contains(word), "{why}");
        }
        ground.run(&Pod::of("other", "3g.20gb")).await?;
        ground.holds("other", &["3g.20gb"]).await.map(drop)
    })
}

#[test]
fn a_profile_that_no_gpu_here_has_is_refused_and_those_that_there_are_named() -> Verdict {
    let words = ["1x nvidia.com/mig-1g.24gb", "1g.5gb"];
    refused(&Pod::of("p", "1g.24gb"), "NoSuchProfile", &words)
}

#[test]
fn a_name_that_is_no_profile_is_refused() -> Verdict {
    let words = ["nvidia.com/mig-banana"];
    refused(&Pod::of("p", "banana"), "InvalidProfile", &words)
}

#[test]
fn more_than_a_node_can_ever_give_is_refused_with_what_it_can_give() -> Verdict {
    let pod = Pod::new("p").asks(&[("1g.5gb", 99)]);
    refused(
        &pod,
        "TooMany",
        &["99x nvidia.com/mig-1g.5gb", "at most 14"],
    )
}
