//! Enumeration, attributes and profiles.

use std::ffi::{CStr, CString};
use std::ptr;

use nvml_wrapper_sys::bindings as sys;

use super::client::{
    INSUFFICIENT_SIZE, INVALID_ARGUMENT, Machine, NO_PERMISSION, NOT_FOUND, NOT_SUPPORTED, nvml,
};

#[test]
fn a_host_shows_its_gpus() {
    let machine = Machine::new(
        "[host]\nseed = 'a'\n[[gpu]]\nboard = 'H100-80GB-HBM3'\ncount = 2\nminors = [1, 0]\n\
         [[gpu]]\nboard = 'T4'",
    );
    let client = machine.client();
    assert_eq!(client.count(), Ok(3));
    let gpu = client.gpu(1).unwrap();
    assert_eq!(client.gpu(1), Ok(gpu), "the same handle each time");
    assert_eq!(client.name(gpu).unwrap(), "NVIDIA H100 80GB HBM3");
    assert_eq!(client.index(gpu), Ok(1));
    assert_eq!(client.minor(gpu), Ok(0));
    assert_eq!(client.memory(gpu), Ok((81_559, 0)));
    let uuid = client.uuid(gpu).unwrap();
    assert_eq!(client.by_uuid(&uuid), Ok(gpu));
    assert_eq!(client.by_uuid("GPU-nonsense"), Err(NOT_FOUND));
    assert_eq!(client.gpu(3), Err(INVALID_ARGUMENT));
    assert_eq!(client.mode(client.gpu(2).unwrap()), Err(NOT_SUPPORTED));
    assert_eq!(
        client.set_mode(client.gpu(2).unwrap(), true),
        Err(NOT_SUPPORTED)
    );
    assert_eq!(client.name(ptr::null_mut()), Err(INVALID_ARGUMENT));
}

#[test]
fn a_gpu_is_found_by_its_bus() {
    let machine = Machine::new("[[gpu]]\ncount = 2");
    let client = machine.client();
    let gpu = client.gpu(1).unwrap();
    // SAFETY: a struct of integers.
    let mut pci: sys::nvmlPciInfo_t = unsafe { std::mem::zeroed() };
    assert_eq!(nvml!(client, nvmlDeviceGetPciInfo_v3(gpu, &raw mut pci)), 0);
    // SAFETY: the call put a string there.
    let bus = unsafe { CStr::from_ptr(pci.busId.as_ptr()) }
        .to_str()
        .unwrap();
    assert_eq!(bus, "00000000:0F:00.0");
    assert_eq!(pci.pciDeviceId, 0x20B0_10DE);
    for form in [bus, "0000:0f:00.0", "0F:00.0"] {
        let form = CString::new(form).unwrap();
        let mut found = ptr::null_mut();
        let bus = form.as_ptr();
        assert_eq!(
            nvml!(
                client,
                nvmlDeviceGetHandleByPciBusId_v2(bus, &raw mut found)
            ),
            0
        );
        assert_eq!(found, gpu);
    }
}

#[test]
fn a_string_that_does_not_fit_is_not_written() {
    let machine = Machine::new("");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let mut buffer = [7; 22];
    let name = "NVIDIA A100-SXM4-40GB";
    for length in 0..=u32::try_from(name.len()).unwrap() {
        let to = buffer.as_mut_ptr();
        assert_eq!(
            nvml!(client, nvmlDeviceGetName(gpu, to, length)),
            INSUFFICIENT_SIZE
        );
    }
    assert_eq!(buffer, [7; 22]);
    let to = buffer.as_mut_ptr();
    assert_eq!(nvml!(client, nvmlDeviceGetName(gpu, to, 22)), 0);
    assert_eq!(buffer[21], 0);
}

#[test]
fn both_layouts_of_profile_information_are_told_apart_by_their_version() {
    let machine = Machine::new("[[gpu]]\nboard = 'RTX-PRO-6000'");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    // SAFETY: a struct of integers and characters.
    let mut info: sys::nvmlGpuInstanceProfileInfo_v2_t = unsafe { std::mem::zeroed() };
    let mut ask = |index, version| {
        info.version = version;
        (
            nvml!(
                client,
                nvmlDeviceGetGpuInstanceProfileInfoV(gpu, index, &raw mut info)
            ),
            info,
        )
    };
    let (code, second) = ask(0xA, 0x0200_0098);
    assert_eq!((code, second.id, second.multiprocessorCount), (0, 47, 46));
    // SAFETY: the call put a string there.
    let name = unsafe { CStr::from_ptr(second.name.as_ptr()) };
    assert_eq!(name, c"MIG 1g.24gb+gfx");
    let (code, third) = ask(0xA, 0x0300_0098);
    // SAFETY: both layouts have the same size; version 3 was written.
    let bytes: [u8; 152] = unsafe { std::mem::transmute(third) };
    assert_eq!(code, 0);
    assert_eq!(&bytes[48..64], b"MIG 1g.24gb+gfx\0");
    assert_eq!(bytes[144], 2, "graphics capability");
    assert_eq!(ask(0xA, 0x0400_0098).0, INVALID_ARGUMENT);
    assert_eq!(ask(0x4, 0x0200_0098).0, NOT_SUPPORTED, "no 7g here");
    assert_eq!(ask(0x12, 0x0200_0098).0, INVALID_ARGUMENT);
}

#[test]
fn placements_are_asked_by_id_and_never_shrink() {
    let machine = Machine::new("[[gpu]]\nmig = true\nflipped = true");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    let wide = vec![(0, 2), (2, 2), (4, 2)];
    assert_eq!(client.placements(gpu, 14), Ok(wide.clone()));
    client.create(gpu, 0).unwrap();
    assert_eq!(client.placements(gpu, 14), Ok(wide));
    assert_eq!(client.remaining(gpu, 14), Ok(0));
    assert_eq!(
        client.placements(gpu, 1),
        Err(NOT_SUPPORTED),
        "1 is the enum of 2g, not its id"
    );
    assert_eq!(client.remaining(gpu, 1), Err(INVALID_ARGUMENT));
}

#[test]
fn capacity_without_mig_mode_depends_on_the_driver() {
    let of = |config| {
        let machine = Machine::new(config);
        let client = machine.client();
        client.remaining(client.gpu(0).unwrap(), 19)
    };
    assert_eq!(of(""), Ok(7));
    assert_eq!(
        of("[host]\ncapacity_needs_mig_mode = true"),
        Err(NOT_SUPPORTED)
    );
}

#[test]
fn a_caller_without_privileges_may_only_look() {
    let machine = Machine::new("[host]\nprivileged = false\n[[gpu]]\nmig = true");
    let client = machine.client();
    let gpu = client.gpu(0).unwrap();
    assert_eq!(client.mode(gpu), Ok((1, 1)));
    assert_eq!(client.create(gpu, 19), Err(NO_PERMISSION));
    assert_eq!(client.placements(gpu, 19), Err(NO_PERMISSION));
    assert_eq!(client.instances(gpu, 19), Err(NO_PERMISSION));
    assert_eq!(client.set_mode(gpu, false), Err(NO_PERMISSION));
}

#[test]
fn fields_tell_whether_a_reset_is_needed() {
    let machine = Machine::new("[[gpu]]\nboard = 'A30'\n[[gpu]]\nboard = 'H200'");
    let client = machine.client();
    let resetless = |index| {
        // SAFETY: a struct of integers.
        let mut values: [sys::nvmlFieldValue_t; 2] = unsafe { std::mem::zeroed() };
        values[0].fieldId = 184;
        values[1].fieldId = 1;
        let gpu = client.gpu(index).unwrap();
        assert_eq!(
            nvml!(
                client,
                nvmlDeviceGetFieldValues(gpu, 2, values.as_mut_ptr())
            ),
            0
        );
        assert_eq!(values[0].nvmlReturn, 0);
        assert_eq!(values[1].nvmlReturn, NOT_SUPPORTED);
        // SAFETY: the field is an unsigned integer.
        unsafe { values[0].value.uiVal }
    };
    assert_eq!((resetless(0), resetless(1)), (0, 1));
}
