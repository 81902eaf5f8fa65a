use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_800_000_000;

fn authority(name: &str, made: i64) -> Authority {
    Authority {
        name: name.into(),
        span: Span::starting(made, AUTHORITY_LIFE),
        can_sign: true,
    }
}

fn leaf(issuer: &str, made: i64) -> Leaf {
    Leaf {
        issuer: issuer.into(),
        span: Span::starting(made, LEAF_LIFE),
    }
}

/// Of an installation without a webhook.
fn two<'a>(controller: Option<&'a Leaf>, agent: Option<&'a Leaf>) -> Leaves<'a> {
    Leaves {
        controller,
        agent,
        webhook: None,
    }
}

#[test]
fn at_first_everything_is_made() {
    let due = due(&[], two(None, None), NOW);
    assert_eq!(due.signer, Signer::New);
    assert!(due.new_authority && due.controller && due.agent);
}

#[test]
fn what_is_fresh_is_left_alone() {
    let (a, l) = (authority("a", NOW), leaf("a", NOW));
    let due = due(&[a], two(Some(&l), Some(&l)), NOW + 60);
    assert!(!due.new_authority && !due.controller && !due.agent);
    assert_eq!((due.keep, due.signer), (vec![0], Signer::Known(0)));
}

#[test]
fn a_lost_certificate_is_made_anew_alone() {
    let (a, l) = (authority("a", NOW), leaf("a", NOW));
    let due = due(&[a], two(None, Some(&l)), NOW + 60);
    assert!(due.controller && !due.agent && !due.new_authority);
}

#[test]
fn certificates_are_renewed_when_a_third_of_their_life_is_left() {
    let (a, l) = (authority("a", NOW), leaf("a", NOW));
    let renewed = |day: i64| {
        due(
            std::slice::from_ref(&a),
            two(Some(&l), Some(&l)),
            NOW + day * DAY,
        )
        .agent
    };
    assert!(!renewed(240) && renewed(250) && renewed(400));
}

#[test]
fn a_webhook_gets_a_certificate_where_there_is_one() {
    let (a, l) = (authority("a", NOW), leaf("a", NOW));
    let with = |webhook| Leaves {
        controller: Some(&l),
        agent: Some(&l),
        webhook,
    };
    let asked = |webhook| due(std::slice::from_ref(&a), with(webhook), NOW + 60).webhook;
    assert!(!asked(None) && asked(Some(None)) && !asked(Some(Some(&l))));
    let at_first = Leaves {
        webhook: Some(None),
        ..Leaves::default()
    };
    assert!(due(&[], at_first, NOW).webhook);
    assert!(!due(&[], Leaves::default(), NOW).webhook);
}

#[test]
fn an_authority_without_its_key_is_replaced_at_once() {
    let mut lost = authority("a", NOW);
    lost.can_sign = false;
    let l = leaf("a", NOW);
    let due = due(&[lost], two(Some(&l), Some(&l)), NOW + 60);
    assert_eq!(due.signer, Signer::New);
    assert!(due.new_authority && due.controller && due.agent);
}

#[test]
fn a_certificate_of_a_stranger_is_replaced() {
    let (a, l) = (authority("a", NOW), leaf("b", NOW));
    let due = due(&[a], two(Some(&l), Some(&l)), NOW + 60);
    assert!(due.controller && due.agent && !due.new_authority);
}

/// All sides as they are: the controller and API servers have what is in force, an agent and a webhook
/// what they read last.
#[derive(Default)]
struct World {
    authorities: Vec<Authority>,
    controller: Option<Leaf>,
    agent: Option<Leaf>,
    webhook: Option<Leaf>,
    made: u32,
}

impl World {
    /// One pass of the controller; whether anything changed.
    fn pass(&mut self, now: i64) {
        let leaves = Leaves {
            controller: self.controller.as_ref(),
            agent: self.agent.as_ref(),
            webhook: Some(self.webhook.as_ref()),
        };
        let due = due(&self.authorities, leaves, now);
        let signer = match due.signer {
            Signer::Known(index) => Some(self.authorities[index].clone()),
            Signer::New => None,
        };
        let mut kept: Vec<_> = due
            .keep
            .iter()
            .map(|&index| self.authorities[index].clone())
            .collect();
        if due.new_authority {
            self.made += 1;
            kept.push(authority(&self.made.to_string(), now));
        }
        let signer = signer.unwrap_or_else(|| kept[kept.len() - 1].clone());
        let sign = || {
            let mut leaf = leaf(&signer.name, now);
            leaf.span.until = leaf.span.until.min(signer.span.until);
            leaf
        };
        if due.controller {
            self.controller = Some(sign());
        }
        if due.agent {
            self.agent = Some(sign());
        }
        if due.webhook {
            self.webhook = Some(sign());
        }
        self.authorities = kept;
    }

    fn mounted(&self) -> (Vec<Authority>, Leaf, Leaf) {
        let (agent, webhook) = (self.agent.clone(), self.webhook.clone());
        (self.authorities.clone(), agent.unwrap(), webhook.unwrap())
    }

    fn trusts(authorities: &[Authority], leaf: &Leaf, now: i64) -> bool {
        let issuer = authorities.iter().find(|a| a.name == leaf.issuer);
        leaf.span.is_good(now) && issuer.is_some_and(|a| a.span.is_good(now))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn through_thirty_years_all_sides_always_trust_each_other(
        steps in proptest::collection::vec(1_i64..60 * DAY, 60),
        lag in 0..SPREAD,
    ) {
        let mut world = World::default();
        let mut now = NOW;
        world.pass(now);
        // What was decided when; the last of it that agent and webhook have comes first.
        let mut decided = std::collections::VecDeque::from([(now, world.mounted())]);
        let end = NOW + 30 * 365 * DAY;
        for step in steps.into_iter().cycle() {
            if now > end {
                break;
            }
            now += step;
            while decided.get(1).is_some_and(|(at, _)| at + lag < now) {
                decided.pop_front();
            }
            world.pass(now);
            let (trusted, shown, served) = &decided[0].1;
            prop_assert!(World::trusts(trusted, world.controller.as_ref().unwrap(), now));
            prop_assert!(World::trusts(&world.authorities, shown, now));
            prop_assert!(World::trusts(&world.authorities, served, now));
            prop_assert!(world.authorities.len() <= 2);
            decided.push_back((now, world.mounted()));
        }
        prop_assert!((4..=6).contains(&world.made), "{} authorities were made", world.made);
    }
}
