//! Faults and latencies.

use std::time::Duration;

use fake_nvml::control::{Effect, Fault};

use super::client::{IN_USE, Machine, wait_until};

const MIG: &str = "[[gpu]]\ncount = 2\nmig = true\n";

#[test]
fn the_nth_call_fails_and_those_around_it_do_not() {
    let machine = Machine::new(&format!(
        "{MIG}[[fault]]\ncall = 'nvmlDeviceCreateGpuInstance'\nnth = 2\nrepeat = 2\ncode = 23"
    ));
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let codes: Vec<_> = (0..4)
        .map(|_| client.create(gpu, 19).map(drop).err().unwrap_or(0))
        .collect();
    assert_eq!(codes, [0, 23, 23, 0]);
    assert_eq!(machine.host().state().unwrap().gpus[0].instances.len(), 2);
}

#[test]
fn a_fault_can_concern_one_gpu_and_last() {
    let machine = Machine::new(MIG);
    let client = machine.client();
    let fault = Fault {
        gpu: Some(1),
        repeat: 0,
        ..Fault::new("nvmlDeviceGetMigMode", 15)
    };
    machine.host().inject(&fault).unwrap();
    assert!(client.mode(client.gpu(0).unwrap()).is_ok());
    for _ in 0..3 {
        assert_eq!(client.mode(client.gpu(1).unwrap()), Err(15));
    }
    machine.host().clear_faults().unwrap();
    assert!(client.mode(client.gpu(1).unwrap()).is_ok());
}

#[test]
fn an_instance_can_refuse_to_go_after_its_compute_instance_went() {
    let machine = Machine::new(MIG);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let (instance, compute, _) = client.device(gpu, 19, 0);
    machine
        .host()
        .inject(&Fault::new("nvmlGpuInstanceDestroy", IN_USE))
        .unwrap();
    client.destroy_compute(compute).unwrap();
    assert_eq!(client.destroy(instance), Err(IN_USE));
    let compute = client.create_compute(instance, 0).unwrap();
    client.destroy_compute(compute).unwrap();
    client.destroy(instance).unwrap();
}

#[test]
fn a_destroy_can_claim_a_success_that_was_none() {
    let machine = Machine::new(MIG);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let instance = client.create(gpu, 19).unwrap();
    let fault = Fault {
        effect: Effect::Pretend,
        ..Fault::new("nvmlGpuInstanceDestroy", 0)
    };
    machine.host().inject(&fault).unwrap();
    client.destroy(instance).unwrap();
    assert_eq!(
        client.instances(gpu, 19).map(|all| all.len()),
        Ok(1),
        "still there"
    );
}

#[test]
fn a_call_can_do_its_work_and_fail() {
    let machine = Machine::new(MIG);
    let client = machine.client();
    let fault = Fault {
        effect: Effect::Perform,
        ..Fault::new("nvmlDeviceCreateGpuInstance", 999)
    };
    machine.host().inject(&fault).unwrap();
    assert_eq!(
        client.create(client.gpu(0).unwrap(), 19).map(drop),
        Err(999)
    );
    assert_eq!(machine.host().state().unwrap().gpus[0].instances.len(), 1);
}

#[test]
fn a_fault_of_init_is_met_at_init() {
    let machine = Machine::new("[[fault]]\ncall = 'nvmlInit_v2'\ncode = 9");
    let client = machine.cold_client();
    assert_eq!(client.init(), Err(9));
    assert_eq!(client.init(), Ok(()));
}

#[test]
fn faults_that_make_no_sense_are_refused() {
    let machine = Machine::new(MIG);
    let host = machine.host();
    host.inject(&Fault::new("nvmlMakeCoffee", 1)).unwrap_err();
    host.inject(&Fault {
        gpu: Some(2),
        ..Fault::new("nvmlInit_v2", 1)
    })
    .unwrap_err();
    host.set_latency("nvmlMakeCoffee", Duration::ZERO)
        .unwrap_err();
}

/// A slow operation holds its GPU. Nothing here depends on how fast the machine is: the slow call
/// lasts until the fast ones are done, or the test hangs for a minute and fails.
#[test]
fn a_slow_operation_keeps_nobody_from_reading_or_from_other_gpus() {
    let machine = Machine::new(MIG);
    let client = machine.client();
    let host = machine.host();
    let slow = Duration::from_mins(2);
    let fault = Fault {
        effect: Effect::Delay,
        gpu: Some(0),
        delay_ms: slow.as_secs_f64() * 1000.0,
        ..Fault::new("nvmlDeviceCreateGpuInstance", 0)
    };
    host.inject(&fault).unwrap();
    let (done, wait) = std::sync::mpsc::channel();
    let library = machine.library.clone();
    // The thread outlives the test if all is well: it sleeps in the slow call.
    std::thread::spawn(move || {
        let client = super::client::Client::load(&library);
        let _ = client.create(client.gpu(0).unwrap(), 19);
    });
    std::thread::spawn(move || {
        let gpu = client.gpu(0).unwrap();
        wait_until("the slow call begins", || {
            host.calls_seen("nvmlDeviceCreateGpuInstance").unwrap() > 0
        });
        let state = (
            client.mode(gpu),
            client.instances(gpu, 19).map(|all| all.len()),
        );
        let other = client.create(client.gpu(1).unwrap(), 19).map(drop);
        done.send((state, other)).unwrap();
    });
    let (state, other) = wait.recv_timeout(slow / 2).unwrap();
    assert_eq!(state, (Ok((1, 1)), Ok(0)));
    assert_eq!(other, Ok(()));
}
