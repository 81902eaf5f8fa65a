//! Hardware errors.

use fake_nvml::control::Xid;

use super::client::{INVALID_ARGUMENT, Machine, NOT_SUPPORTED, TIMEOUT};

const XID: u64 = 0x8;

fn xid(gpu: usize, number: u64) -> Xid {
    Xid {
        gpu,
        xid: number,
        gi: None,
        ci: None,
    }
}

#[test]
fn errors_raised_after_the_registration_arrive_in_order() {
    let machine = Machine::new("[[gpu]]\ncount = 2");
    let (client, host) = (machine.client(), machine.host());
    let set = client.event_set().unwrap();
    host.raise_xid(xid(0, 1)).unwrap();
    client.register(client.gpu(0).unwrap(), XID, set).unwrap();
    host.raise_xid(xid(1, 2)).unwrap();
    host.raise_xid(Xid {
        gi: Some(7),
        ci: Some(0),
        ..xid(0, 43)
    })
    .unwrap();
    host.raise_xid(xid(0, 79)).unwrap();
    let event = client.wait(set, 1000).unwrap();
    assert_eq!(
        (event.device, event.eventType, event.eventData),
        (client.gpu(0).unwrap(), 8, 43)
    );
    assert_eq!((event.gpuInstanceId, event.computeInstanceId), (7, 0));
    let event = client.wait(set, 1000).unwrap();
    assert_eq!((event.eventData, event.gpuInstanceId), (79, u32::MAX));
    assert_eq!(client.wait(set, 0).map(drop), Err(TIMEOUT));
    client.free(set).unwrap();
    assert_eq!(client.wait(set, 0).map(drop), Err(INVALID_ARGUMENT));
}

#[test]
fn a_waiting_client_is_woken() {
    let machine = Machine::new("");
    let (client, host) = (machine.client(), machine.host());
    let set = client.event_set().unwrap();
    client.register(client.gpu(0).unwrap(), XID, set).unwrap();
    let raiser = std::thread::spawn(move || host.raise_xid(xid(0, 48)).unwrap());
    let event = client.wait(set, 60_000).unwrap();
    raiser.join().unwrap();
    assert_eq!(event.eventData, 48);
}

#[test]
fn a_configured_error_comes_when_somebody_waits() {
    let machine = Machine::new("[[xid]]\nxid = 94\nnth = 2");
    let client = machine.client();
    let set = client.event_set().unwrap();
    client.register(client.gpu(0).unwrap(), XID, set).unwrap();
    assert_eq!(client.wait(set, 0).map(drop), Err(TIMEOUT));
    assert_eq!(client.wait(set, 0).map(|event| event.eventData), Ok(94));
}

#[test]
fn only_gpus_are_registered_and_only_for_what_they_report() {
    let machine = Machine::new("[[gpu]]\nmig = true");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let set = client.event_set().unwrap();
    let (_, _, device) = client.device(gpu, 19, 0);
    assert_eq!(client.register(device, XID, set), Err(NOT_SUPPORTED));
    assert_eq!(client.register(gpu, 1 << 40, set), Err(NOT_SUPPORTED));
    assert_eq!(client.register(gpu, XID, gpu.cast()), Err(INVALID_ARGUMENT));
}
