//! The driver refuses, and pods are served all the same.

use scenarios::{NodeSpec, Pod, Spec, Verdict, scenario};

/// NVML's return codes.
const IN_USE: u32 = 19;
const INSUFFICIENT_RESOURCES: u32 = 23;
const UNKNOWN: u32 = 999;

fn fault(call: &str, code: u32, repeat: u32) -> String {
    format!("[[fault]]\ncall = \"{call}\"\ncode = {code}\nrepeat = {repeat}\n")
}

fn node(gpus: &str, fault: &str) -> Spec {
    Spec::new().node(NodeSpec::new("a", gpus).driver(fault))
}

#[test]
fn a_creation_that_fails_once_is_tried_again() -> Verdict {
    for code in [INSUFFICIENT_RESOURCES, UNKNOWN] {
        let fault = fault("nvmlDeviceCreateGpuInstanceWithPlacement", code, 1);
        scenario(node("A100-40GB:1", &fault), async |system| {
            system.run(&Pod::of("p", "3g.20gb")).await?;
            assert_eq!(system.instances("a")?.len(), 1);
            system.consistent().await
        })?;
    }
    Ok(())
}

#[test]
fn a_compute_instance_that_fails_leaves_no_half_device() -> Verdict {
    let fault = fault("nvmlGpuInstanceCreateComputeInstance", UNKNOWN, 1);
    scenario(node("A100-40GB:1", &fault), async |system| {
        system.run(&Pod::of("p", "3g.20gb")).await?;
        let whole = async || {
            let all = system.instances("a").ok()?;
            (all.len() == 1).then_some(())
        };
        system.until("only the whole device is left", whole).await?;
        system.consistent().await
    })
}

#[test]
fn a_gpu_that_refuses_every_creation_is_passed_over() -> Verdict {
    let fault = fault("nvmlDeviceCreateGpuInstanceWithPlacement", UNKNOWN, 0);
    let spec =
        Spec::new().node(NodeSpec::new("a", "A100-40GB:2").driver(&format!("{fault}gpu = 0\n")));
    scenario(spec, async |system| {
        system.run(&Pod::of("p", "3g.20gb")).await?;
        assert_eq!(system.device("p").await?.device.gpu_index, 1);
        system.consistent().await
    })
}

#[test]
fn a_destroy_that_finds_the_instance_in_use_is_tried_again() -> Verdict {
    let fault = fault("nvmlGpuInstanceDestroy", IN_USE, 2);
    scenario(node("A100-40GB:1", &fault), async |system| {
        system.run(&Pod::of("small", "1g.5gb")).await?;
        system.remove("small").await?;
        system.run(&Pod::of("large", "7g.40gb")).await?;
        system.consistent().await
    })
}

#[test]
fn an_instance_with_a_process_is_not_given_up() -> Verdict {
    scenario(Spec::gpus("A100-40GB:1"), async |system| {
        system.run(&Pod::of("small", "1g.5gb")).await?;
        let id = system.device("small").await?.id;
        let driver = system.driver("a")?;
        let (gpu, gi, ci) = driver.state()?.find(&id).expect("it stands");
        let process = fake_nvml::control::Process {
            pid: 4242,
            gi: Some(gi),
            ci: Some(ci),
            kind: fake_nvml::control::ProcessKind::Compute,
            memory_mib: 100,
            name: "left behind".to_owned(),
        };
        driver.host().add_process(gpu, process)?;
        system.remove("small").await?;
        let before = system.instances("a")?;
        system.create(&Pod::of("large", "7g.40gb"))?;
        system.event("large", "NoRoom").await?;
        assert_eq!(system.instances("a")?, before);
        driver.host().remove_process(gpu, 4242)?;
        system.running("large").await?;
        system.consistent().await
    })
}
