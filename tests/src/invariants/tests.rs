use fake_nvml::control::ComputeState;

use super::*;

fn host(serial: u64, instances: &[(&'static str, u32, u32)]) -> HostState {
    let instance = |(number, &(profile, start, size)): (u32, &(&'static str, u32, u32))| {
        let compute = ComputeState {
            ci: 0,
            uuid: format!("MIG-{start}"),
            full: true,
        };
        InstanceState {
            gi: number,
            serial: serial + u64::from(number),
            profile,
            start,
            size,
            compute: vec![compute],
        }
    };
    HostState {
        gpus: vec![GpuState {
            index: 0,
            uuid: "GPU-0".to_owned(),
            name: "NVIDIA A100-SXM4-40GB",
            minor: 0,
            memory_slices: 8,
            mig_mode: true,
            pending_mig_mode: true,
            instances: (1..).zip(instances).map(instance).collect(),
            processes: Vec::new(),
        }],
    }
}

fn held(pod: &str, resource: &str, id: &str) -> Held {
    Held {
        node: "a".to_owned(),
        pod: pod.to_owned(),
        resource: resource.to_owned(),
        id: id.to_owned(),
    }
}

fn moment(host: HostState, held: &[Held]) -> Moment {
    Moment {
        before: held.iter().cloned().collect(),
        driver: BTreeMap::from([("a".to_owned(), host)]),
        after: held.iter().cloned().collect(),
        in_use: held.iter().map(|held| held.pod.clone()).collect(),
    }
}

const THREE: &str = "nvidia.com/mig-3g.20gb";

#[test]
fn a_pod_with_its_own_device_is_fine() {
    let mut invariants = Invariants::default();
    let moment = moment(host(1, &[("3g.20gb", 0, 4)]), &[held("p", THREE, "MIG-0")]);
    invariants.check(&moment);
    invariants.check(&moment);
    assert!(invariants.faults().is_empty(), "{:?}", invariants.faults());
}

#[test]
fn two_pods_with_one_device_are_seen_even_under_different_names() {
    let mut invariants = Invariants::default();
    let both = [
        held("p", THREE, "MIG-0"),
        held("q", "nvidia.com/mig-1g.5gb", "MIG-0"),
    ];
    invariants.check(&moment(host(1, &[("3g.20gb", 0, 4)]), &both));
    let faults: Vec<_> = invariants.faults().iter().collect();
    assert!(
        faults.iter().any(|fault| fault.contains("at once")),
        "{faults:?}"
    );
}

#[test]
fn an_instance_that_was_made_again_under_a_pod_is_seen() {
    let mut invariants = Invariants::default();
    let holds = [held("p", THREE, "MIG-0")];
    invariants.check(&moment(host(1, &[("3g.20gb", 0, 4)]), &holds));
    invariants.check(&moment(host(9, &[("3g.20gb", 0, 4)]), &holds));
    let fault = invariants.faults().first().unwrap();
    assert!(fault.contains("became"), "{fault}");
}

#[test]
fn a_device_that_is_gone_matters_only_while_its_pod_can_use_it() {
    let mut invariants = Invariants::default();
    let mut seen = moment(host(1, &[]), &[held("p", THREE, "MIG-0")]);
    seen.in_use.clear();
    invariants.check(&seen);
    assert!(invariants.faults().is_empty());
    seen.in_use.insert("p".to_owned());
    invariants.check(&seen);
    assert_eq!(invariants.faults().len(), 1);
}

#[test]
fn a_device_released_or_granted_while_the_driver_was_looked_at_is_not_judged() {
    let mut invariants = Invariants::default();
    let mut seen = moment(host(1, &[]), &[held("p", THREE, "MIG-0")]);
    seen.before.clear();
    invariants.check(&seen);
    assert!(invariants.faults().is_empty());
}

#[test]
fn overlapping_instances_are_seen() {
    let mut invariants = Invariants::default();
    let overlapping = host(1, &[("3g.20gb", 0, 4), ("1g.5gb", 3, 1)]);
    invariants.check(&moment(overlapping, &[]));
    assert!(invariants.faults().first().unwrap().contains("overlap"));
}
