//! XIDs, with the instance that they belong to.

use std::{thread, time::Duration};

use fake_nvml::control;
use nvml_mig::{Code, Error, Xid};

use crate::machine::Machine;

const TWO: &str = "[[gpu]]\nmig = true\ncount = 2\n";

#[test]
fn an_xid_names_gpu_and_instance() {
    let machine = Machine::new(TWO);
    let nvml = machine.nvml();
    let watch = nvml.watch_events().unwrap();
    assert!(!watch.is_empty());
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), None);
    let host = machine.host();
    host.raise_xid(control::Xid {
        gpu: 1,
        xid: 43,
        gi: Some(7),
        ci: Some(0),
    })
    .unwrap();
    host.raise_xid(control::Xid {
        gpu: 0,
        xid: 79,
        gi: None,
        ci: None,
    })
    .unwrap();
    let gpu = |index: usize| nvml.gpus()[index].uuid.clone();
    assert_eq!(
        watch.wait(Duration::from_mins(1)).unwrap(),
        Some(Xid {
            gpu: gpu(1),
            number: 43,
            gi_id: Some(7),
            ci_id: Some(0)
        })
    );
    assert_eq!(
        watch.wait(Duration::from_mins(1)).unwrap(),
        Some(Xid {
            gpu: gpu(0),
            number: 79,
            gi_id: None,
            ci_id: None
        })
    );
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), None);
}

#[test]
fn waiting_happens_on_another_thread_and_outlives_the_handle() {
    let machine = Machine::new(TWO);
    let nvml = machine.nvml();
    let gpu = nvml.gpus()[0].uuid.clone();
    let watch = nvml.watch_events().unwrap();
    let waiting = thread::spawn(move || watch.wait(Duration::from_mins(1)));
    drop(nvml);
    machine
        .host()
        .raise_xid(control::Xid {
            gpu: 0,
            xid: 48,
            gi: None,
            ci: None,
        })
        .unwrap();
    let xid = waiting.join().unwrap().unwrap().unwrap();
    assert_eq!((xid.gpu, xid.number), (gpu, 48));
}

#[test]
fn a_gpu_without_events_is_not_watched() {
    let machine = Machine::new(&format!(
        "{TWO}[[fault]]\ncall = \"nvmlDeviceGetSupportedEventTypes\"\nrepeat = 0\ncode = 3\n"
    ));
    assert!(machine.nvml().watch_events().unwrap().is_empty());
}

#[test]
fn a_driver_that_goes_away_is_an_error_of_the_wait() {
    let machine = Machine::new(TWO);
    let nvml = machine.nvml();
    let watch = nvml.watch_events().unwrap();
    machine.host().reboot().unwrap();
    let error = watch.wait(Duration::ZERO).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Call {
                code: Code::DriverNotLoaded,
                ..
            }
        ),
        "{error}"
    );
}
