//! The life of instances and MIG devices.

use std::ptr;

use super::client::{
    IN_USE, INSUFFICIENT_RESOURCES, INVALID_ARGUMENT, Machine, NOT_FOUND, NOT_SUPPORTED, nvml,
};

const H100: &str = "[host]\nseed = 'a'\n[[gpu]]\nboard = 'H100-80GB-HBM3'\nmig = true";

#[test]
fn a_device_is_made_and_taken_down_again() {
    let machine = Machine::new(H100);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let instance = client.create_at(gpu, 9, 4, 4).unwrap();
    assert_eq!(client.info(instance), Ok((2, 9, 4, 4)));
    assert_eq!(
        client.mig(gpu, 0),
        Err(NOT_FOUND),
        "without a compute instance"
    );
    assert_eq!(
        client.instances(gpu, 9).map(|found| found.len()),
        Ok(1),
        "but it is there"
    );
    let compute = client.create_compute(instance, 2).unwrap();
    let device = client.mig(gpu, 0).unwrap();
    let info = client.compute_info(compute).unwrap();
    assert_eq!(info.device, device);
    assert_eq!((info.id, info.profileId, info.placement.size), (0, 2, 3));
    assert_eq!(
        client.name(device).unwrap(),
        "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
    );
    assert_eq!(client.memory(device), Ok((40_448, 15)));
    assert_eq!(client.minor(device), Err(NOT_SUPPORTED));
    let uuid = client.uuid(device).unwrap();
    assert!(uuid.starts_with("MIG-"));
    assert_eq!(client.by_uuid(&uuid), Ok(device));
    let old_form = format!("MIG-{}/2/0", client.uuid(gpu).unwrap());
    assert_eq!(client.by_uuid(&old_form), Ok(device));
    assert_eq!(client.destroy(instance), Err(IN_USE));
    client.destroy_compute(compute).unwrap();
    client.destroy(instance).unwrap();
    assert_eq!(client.destroy(instance), Err(INVALID_ARGUMENT));
    assert_eq!(client.uuid(device), Err(INVALID_ARGUMENT));
    assert_eq!(client.by_uuid(&uuid), Err(NOT_FOUND));
}

#[test]
fn the_same_place_has_the_same_uuid_even_with_another_profile() {
    let machine = Machine::new(H100);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let make = |profile| {
        let instance = client.create_at(gpu, profile, 4, 1).unwrap();
        let compute = client.create_compute(instance, 0).unwrap();
        let device = client.compute_info(compute).unwrap().device;
        (instance, compute, device)
    };
    let (instance, compute, plain) = make(19);
    let uuid = client.uuid(plain).unwrap();
    client.destroy_compute(compute).unwrap();
    client.destroy(instance).unwrap();
    let (_, _, media) = make(20);
    assert_eq!(client.uuid(media).as_ref(), Ok(&uuid));
    assert_ne!(media, plain, "the old handle stays invalid");
    assert_eq!(client.uuid(plain), Err(INVALID_ARGUMENT));
    assert_eq!(
        client.name(media).unwrap(),
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "without +me"
    );
}

#[test]
fn uuids_can_be_told_not_to_repeat() {
    let machine = Machine::new("[host]\nuuids_repeat = false\n[[gpu]]\nmig = true");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let uuid = || {
        let (instance, compute, device) = client.device(gpu, 0, 4);
        let uuid = client.uuid(device).unwrap();
        client.destroy_compute(compute).unwrap();
        client.destroy(instance).unwrap();
        uuid
    };
    assert_ne!(uuid(), uuid());
}

#[test]
fn indices_shift_when_a_lower_id_appears() {
    let machine = Machine::new(H100);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let (_, _, first) = client.device(gpu, 19, 0);
    let (_, _, second) = client.device(gpu, 19, 0);
    assert_eq!(
        (client.index(first), client.index(second)),
        (Ok(1), Ok(0)),
        "ids 13 and 11"
    );
    let instance = client.create_at(gpu, 9, 0, 4).unwrap();
    client.create_compute(instance, 2).unwrap();
    assert_eq!((client.index(first), client.index(second)), (Ok(2), Ok(1)));
    assert_eq!(client.mig(gpu, 2), Ok(first));
    assert_eq!(client.mig(gpu, 3), Err(NOT_FOUND));
    assert_eq!(
        client.max_devices(gpu),
        Ok(7),
        "the possible ones, not the present ones"
    );
}

#[test]
fn the_drivers_own_choice_can_leave_no_room_where_slices_are_free() {
    let machine = Machine::new(H100);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let ids: Vec<_> = [19, 19, 14]
        .map(|profile| client.info(client.create(gpu, profile).unwrap()).unwrap().0)
        .to_vec();
    assert_eq!(ids, [13, 11, 3]);
    assert_eq!(client.create(gpu, 9).map(drop), Err(INSUFFICIENT_RESOURCES));
    assert_eq!(
        client.create_at(gpu, 19, 6, 1).map(drop),
        Err(INSUFFICIENT_RESOURCES)
    );
    assert_eq!(
        client.create_at(gpu, 19, 7, 1).map(drop),
        Err(INVALID_ARGUMENT)
    );
}

#[test]
fn only_the_right_compute_profile_fills_a_double_memory_slice() {
    let machine = Machine::new(H100);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let instance = client.create(gpu, 15).unwrap();
    assert_eq!(
        client
            .compute_profile(instance, 0)
            .unwrap()
            .multiprocessorCount,
        16
    );
    assert_eq!(
        client
            .compute_profile(instance, 7)
            .unwrap()
            .multiprocessorCount,
        26
    );
    assert_eq!(
        client.compute_profile(instance, 1).map(drop),
        Err(NOT_SUPPORTED)
    );
    assert_eq!(
        client.compute_profile(instance, 9).map(drop),
        Err(INVALID_ARGUMENT)
    );
    let compute = client.create_compute(instance, 7).unwrap();
    assert_eq!(client.compute_info(compute).unwrap().profileId, 7);
}

#[test]
fn a_part_of_an_instance_is_named_after_its_slices() {
    let machine = Machine::new(H100);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let (instance, compute, device) = client.device(gpu, 9, 0);
    assert_eq!(client.compute_info(compute).unwrap().placement.start, 2);
    assert_eq!(
        client.name(device).unwrap(),
        "NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb"
    );
    let (_, second) = (compute, client.create_compute(instance, 1).unwrap());
    assert_eq!(client.compute_info(second).unwrap().id, 1);
}

#[test]
fn calls_for_mig_devices_refuse_gpus_and_the_other_way_round() {
    let machine = Machine::new(H100);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let (instance, _, device) = client.device(gpu, 19, 0);
    let mut number = 0;
    let number = &raw mut number;
    assert_eq!(
        nvml!(client, nvmlDeviceGetGpuInstanceId(gpu, number)),
        NOT_SUPPORTED
    );
    assert_eq!(nvml!(client, nvmlDeviceGetGpuInstanceId(device, number)), 0);
    let mut parent = ptr::null_mut();
    let to = &raw mut parent;
    assert_eq!(
        nvml!(
            client,
            nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device, to)
        ),
        0
    );
    assert_eq!(parent, gpu);
    assert_eq!(client.create(device, 19), Err(INVALID_ARGUMENT));
    assert_eq!(client.mode(device), Err(INVALID_ARGUMENT));
    assert_eq!(client.name(instance.cast()), Err(INVALID_ARGUMENT));
}

#[test]
fn pointers_that_are_null_are_refused_before_anything_is_done() {
    let machine = Machine::new(H100);
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let nowhere = ptr::null_mut();
    assert_eq!(
        nvml!(client, nvmlDeviceCreateGpuInstance(gpu, 19, nowhere)),
        INVALID_ARGUMENT
    );
    assert!(machine.host().state().unwrap().gpus[0].instances.is_empty());
    let nowhere = ptr::null();
    assert_eq!(
        nvml!(client, nvmlDeviceGetHandleByUUID(nowhere, ptr::null_mut())),
        INVALID_ARGUMENT
    );
}
