//! Several processes on one host: those on its GPUs, and those that call NVML.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use fake_nvml::control::{Effect, Fault, Process, ProcessKind};

use super::client::{Client, IN_USE, Machine, nvml, wait_until};

fn process(pid: u32, gi: u32) -> Process {
    Process {
        pid,
        gi: Some(gi),
        ci: Some(0),
        kind: ProcessKind::Compute,
        memory_mib: 100,
        name: "train.py".to_owned(),
    }
}

#[test]
fn processes_show_on_the_gpu_and_on_their_own_device_only() {
    let machine = Machine::new("[[gpu]]\nmig = true");
    let (client, host) = (machine.client(), machine.host());
    let gpu = client.gpu(0).unwrap();
    let (_, compute, busy) = client.device(gpu, 19, 0);
    let (_, _, idle) = client.device(gpu, 19, 0);
    let gi = host
        .state()
        .unwrap()
        .find(&client.uuid(busy).unwrap())
        .unwrap()
        .1;
    host.add_process(0, process(77, gi)).unwrap();
    host.add_process(0, process(78, 14))
        .expect_err("no such instance");
    assert_eq!(client.processes(gpu), Ok(vec![(77, gi, 0)]));
    assert_eq!(client.processes(busy), Ok(vec![(77, gi, 0)]));
    assert_eq!(client.processes(idle), Ok(vec![]));
    assert_eq!(
        client.memory(busy),
        Ok((4864, 136)),
        "36 MiB without any process"
    );
    let mut name = [0; 16];
    let to = name.as_mut_ptr();
    assert_eq!(nvml!(client, nvmlSystemGetProcessName(77, to, 16)), 0);
    assert_eq!(client.destroy_compute(compute), Err(IN_USE));
    host.remove_process(0, 77).unwrap();
    client.destroy_compute(compute).unwrap();
}

/// Names the library to the process that [`worker`] runs in.
const LIBRARY: &str = "FAKE_NVML_TEST_LIBRARY";

/// Not a test of its own: another test starts it in a process of its own, where it creates and
/// destroys instances until it is killed.
#[test]
fn worker() {
    let Some(library) = std::env::var_os(LIBRARY).map(PathBuf::from) else {
        return;
    };
    let client = Client::load(&library);
    client.init().unwrap();
    let gpu = client.gpu(0).unwrap();
    loop {
        for profile in [19, 14, 9, 15] {
            if let Ok(instance) = client.create(gpu, profile)
                && let Ok(compute) = client.create_compute(instance, 0)
                && client.destroy_compute(compute).is_ok()
            {
                let _ = client.destroy(instance);
            }
        }
        // What others left behind when they were killed.
        for instance in [19, 14, 9, 15]
            .map(|id| client.instances(gpu, id).unwrap())
            .concat()
        {
            for compute in client.computes(instance, 0).unwrap_or_default() {
                let _ = client.destroy_compute(compute);
            }
            let _ = client.destroy(instance);
        }
    }
}

fn start_worker(machine: &Machine) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "library::processes::worker", "--nocapture"])
        .env(LIBRARY, &machine.library)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn kill_at_any_moment_leaves_a_state_that_the_next_process_goes_on_with() {
    let machine = Machine::new("[[gpu]]\nmig = true");
    let host = machine.host();
    let counter = Fault {
        effect: Effect::Delay,
        repeat: 0,
        ..Fault::new("nvmlDeviceCreateGpuInstance", 0)
    };
    host.inject(&counter).unwrap();
    let created = || host.calls_seen("nvmlDeviceCreateGpuInstance").unwrap();
    for round in 0..20u32 {
        let before = created();
        let mut workers = [start_worker(&machine), start_worker(&machine)];
        wait_until("the workers work", || created() >= before + 20);
        for _ in 0..round * 100 {
            std::hint::spin_loop();
        }
        for worker in &mut workers {
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
        let state = machine.host().state().unwrap();
        let mut slices = [false; 8];
        for instance in &state.gpus[0].instances {
            for slice in instance.start..instance.start + instance.size {
                assert!(
                    !std::mem::replace(&mut slices[slice as usize], true),
                    "{state:?}"
                );
            }
        }
    }
}

#[test]
fn a_process_can_be_made_to_die_in_a_call() {
    for (effect, left) in [(Effect::CrashBefore, 0), (Effect::CrashAfter, 1)] {
        let machine = Machine::new("[[gpu]]\nmig = true");
        let fault = Fault {
            effect,
            ..Fault::new("nvmlDeviceCreateGpuInstance", 0)
        };
        machine.host().inject(&fault).unwrap();
        let status = start_worker(&machine).wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9)
        );
        assert_eq!(
            machine.host().state().unwrap().gpus[0].instances.len(),
            left
        );
    }
}

#[test]
fn a_killed_client_holds_neither_the_gpu_nor_its_mode() {
    let machine = Machine::new("[[gpu]]\nmig = true");
    let stuck = Fault {
        effect: Effect::Delay,
        delay_ms: 600_000.0,
        ..Fault::new("nvmlDeviceCreateGpuInstance", 0)
    };
    let host = machine.host();
    host.inject(&stuck).unwrap();
    let mut worker = start_worker(&machine);
    wait_until("the worker is inside the call", || {
        host.calls_seen("nvmlDeviceCreateGpuInstance").unwrap() > 0
    });
    worker.kill().unwrap();
    worker.wait().unwrap();
    let client = machine.client();
    assert_eq!(client.set_mode(client.gpu(0).unwrap(), false), Ok(0));
}
