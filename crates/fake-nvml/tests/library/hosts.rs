//! Hosts, sessions, mode switches and reboots.

use super::client::{DRIVER_NOT_LOADED, IN_USE, INVALID_ARGUMENT, Machine, UNINITIALIZED, UNKNOWN};
use fake_nvml::control::{Process, ProcessKind};

#[test]
fn initialisations_are_counted_and_handles_outlive_the_inner_ones() {
    let machine = Machine::new("");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    client.init().unwrap();
    client.shutdown().unwrap();
    assert_eq!(client.index(gpu), Ok(0));
    client.shutdown().unwrap();
    assert_eq!(client.index(gpu), Err(UNINITIALIZED));
    assert_eq!(client.shutdown(), Err(UNINITIALIZED));
}

#[test]
fn copies_of_the_library_are_hosts_of_their_own() {
    let (one, other) = (
        Machine::new("[[gpu]]\nmig = true"),
        Machine::new("[[gpu]]\nboard = 'A30'"),
    );
    let (a, b) = (one.client(), other.client());
    assert_eq!(a.name(a.gpu(0).unwrap()).unwrap(), "NVIDIA A100-SXM4-40GB");
    assert_eq!(b.name(b.gpu(0).unwrap()).unwrap(), "NVIDIA A30");
    a.create(a.gpu(0).unwrap(), 0).unwrap();
    assert!(other.host().state().unwrap().gpus[0].instances.is_empty());
    b.shutdown().unwrap();
    assert_eq!(a.count(), Ok(1));
}

#[test]
fn a_broken_configuration_fails_init_and_nothing_else() {
    let machine = Machine::new("[[gpu]]\nboard = 'GeForce 256'");
    let client = machine.cold_client();
    assert_eq!(client.init(), Err(UNKNOWN));
    assert_eq!(client.count(), Err(UNINITIALIZED));
    std::fs::write(machine.folder.path().join("fake-nvml.toml"), "").unwrap();
    assert_eq!(client.init(), Ok(()), "once it is mended");
}

#[test]
fn a_layout_can_be_there_from_the_start() {
    let machine = Machine::new(
        "[[gpu]]\nmig = true\n[[instance]]\nprofile = '3g.20gb'\nstart = 4\n\
         [[instance]]\nprofile = '2g.10gb'\nstart = 0\ncompute = false",
    );
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    assert!(client.mig(gpu, 0).is_ok());
    assert!(client.mig(gpu, 1).is_err());
    let state = machine.host().state().unwrap();
    let rows: Vec<_> = state.gpus[0]
        .instances
        .iter()
        .map(|each| (each.profile, each.start, each.size, each.compute.len()))
        .collect();
    assert_eq!(rows, [("3g.20gb", 4, 4, 1), ("2g.10gb", 0, 2, 0)]);
}

#[test]
fn ampere_waits_for_the_other_sessions_to_end() {
    let machine = Machine::new("[[gpu]]\nboard = 'A30'");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    // A second copy of the library with the same configuration is another client of the host.
    let copy = machine.folder.path().join("copy.so");
    std::fs::copy(&machine.library, &copy).unwrap();
    let other = super::client::Client::load(&copy);
    other.init().unwrap();
    assert_eq!(client.set_mode(gpu, true), Ok(IN_USE));
    assert_eq!(client.mode(gpu), Ok((0, 1)));
    other.shutdown().unwrap();
    assert_eq!(client.set_mode(gpu, true), Ok(0));
    assert_eq!(client.mode(gpu), Ok((1, 1)));
    other.init().unwrap();
    assert_eq!(
        client.set_mode(gpu, false),
        Ok(IN_USE),
        "asking did not lose the own session"
    );
    client.shutdown().unwrap();
    assert_eq!(other.set_mode(other.gpu(0).unwrap(), false), Ok(0));
}

#[test]
fn modes_other_than_on_and_off_are_refused() {
    let machine = Machine::new("");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let mut status = 0;
    let code = super::client::nvml!(client, nvmlDeviceSetMigMode(gpu, 2, &raw mut status));
    assert_eq!(code, INVALID_ARGUMENT);
}

#[test]
fn a_reboot_ends_sessions_and_instances_and_hoppers_mode() {
    let machine = Machine::new(
        "[[gpu]]\nboard = 'A100-SXM4-40GB'\nmig = true\n[[gpu]]\nboard = 'H100-80GB-HBM3'",
    );
    let client = machine.client();
    let hopper = client.gpu(1).unwrap();
    assert_eq!(client.set_mode(hopper, true), Ok(0));
    client.create(client.gpu(0).unwrap(), 19).unwrap();
    machine.host().reboot().unwrap();
    assert_eq!(client.count(), Err(DRIVER_NOT_LOADED));
    client.shutdown().unwrap();
    client.init().unwrap();
    assert_eq!(client.mode(client.gpu(0).unwrap()), Ok((1, 1)));
    assert_eq!(
        client
            .instances(client.gpu(0).unwrap(), 19)
            .map(|all| all.len()),
        Ok(0)
    );
    assert_eq!(client.mode(hopper), Ok((0, 0)));
}

#[test]
fn a_reset_from_outside_brings_the_pending_mode_when_nobody_looks() {
    let machine = Machine::new("[[gpu]]");
    let host = machine.host();
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let process = Process {
        pid: 1,
        gi: None,
        ci: None,
        kind: ProcessKind::Compute,
        memory_mib: 5,
        name: "x".into(),
    };
    host.add_process(0, process).unwrap();
    assert_eq!(client.memory(gpu), Ok((40_960, 5)));
    assert_eq!(client.set_mode(gpu, true), Ok(IN_USE));
    host.remove_process(0, 1).unwrap();
    host.reset_gpu(0).unwrap_err();
    client.shutdown().unwrap();
    host.reset_gpu(0).unwrap();
    assert!(host.state().unwrap().gpus[0].mig_mode);
}

#[test]
fn a_session_may_see_changes_of_others_late_but_its_own_at_once() {
    let machine = Machine::new("[host]\nview_lag_ms = 3600000\n[[gpu]]\nmig = true");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    assert!(client.mig(gpu, 0).is_err());
    let gi = machine.host().create_instance(0, "1g.5gb", None).unwrap();
    assert!(client.mig(gpu, 0).is_err(), "not seen yet");
    client.create(gpu, 19).unwrap();
    let device = client.mig(gpu, 0).unwrap();
    machine.host().destroy_instance(0, gi).unwrap();
    assert_eq!(client.mig(gpu, 0), Ok(device), "still listed");
    assert_eq!(client.uuid(device), Err(INVALID_ARGUMENT), "but gone");
}

#[test]
fn an_instance_that_is_made_again_has_the_same_uuid_but_another_serial() {
    let machine = Machine::new("[[gpu]]\nmig = true");
    let host = machine.host();
    let make = || {
        let gi = host.create_instance(0, "3g.20gb", Some(0)).unwrap();
        let made = host.state().unwrap().gpus[0].instances[0].clone();
        host.destroy_instance(0, gi).unwrap();
        made
    };
    let (first, second) = (make(), make());
    assert_eq!(first.compute, second.compute);
    assert_ne!(first.serial, second.serial);
}
