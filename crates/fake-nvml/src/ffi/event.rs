//! Event sets.

use std::time::Duration;

use crate::events::SUPPORTED;
use crate::ffi::abi::{EventData, NO_INSTANCE};
use crate::ffi::guard::exports;
use crate::ffi::pointers::{DeviceHandle, OpaqueHandle, Out};
use crate::handle::Handle;
use crate::model::Code;
use crate::session::Call;

fn wait(
    call: &Call,
    set: OpaqueHandle,
    data: &Out<EventData>,
    timeout_ms: u32,
) -> Result<(), Code> {
    let set = call.session.set(set.event_set()?)?;
    data.given()?;
    call.read(None, |_, _| Ok(()))?;
    let event = set.wait(&call.session, Duration::from_millis(timeout_ms.into()))?;
    data.set(EventData {
        device: Handle::Gpu(event.xid.gpu).encode(),
        kind: event.kind,
        data: event.xid.xid,
        gpu_instance_id: event.xid.gi.unwrap_or(NO_INSTANCE),
        compute_instance_id: event.xid.ci.unwrap_or(NO_INSTANCE),
    })
}

exports! {
    fn nvmlEventSetCreate(call, set: Out<u64>) {
        set.given()?;
        call.read(None, |_, _| Ok(()))?;
        set.set(Handle::EventSet(call.session.add_set()).encode())
    }

    fn nvmlDeviceRegisterEvents(
        call,
        device: DeviceHandle,
        event_types: u64,
        set: OpaqueHandle,
    ) {
        let gpu = device.get()?.whole(Code::NOT_SUPPORTED)?;
        let set = call.session.set(set.event_set()?)?;
        call.read(Some(gpu), |hardware, state| {
            hardware.board(gpu)?;
            if event_types & !SUPPORTED != 0 {
                return Err(Code::NOT_SUPPORTED);
            }
            set.register(gpu, event_types, state);
            Ok(())
        })
    }

    fn nvmlDeviceGetSupportedEventTypes(call, device: DeviceHandle, event_types: Out<u64>) {
        let gpu = device.get()?.whole(Code::NOT_SUPPORTED)?;
        call.read(Some(gpu), |hardware, _| hardware.board(gpu).map(drop))?;
        event_types.set(SUPPORTED)
    }

    fn nvmlEventSetWait(call, set: OpaqueHandle, data: Out<EventData>, timeout_ms: u32) {
        wait(call, set, &data, timeout_ms)
    }

    fn nvmlEventSetWait_v2(call, set: OpaqueHandle, data: Out<EventData>, timeout_ms: u32) {
        wait(call, set, &data, timeout_ms)
    }

    fn nvmlEventSetFree(call, set: OpaqueHandle) {
        call.read(None, |_, _| Ok(()))?;
        call.session.remove_set(set.event_set()?)
    }
}
