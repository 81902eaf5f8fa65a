//! Pointers that C hands in.
//!
//! Each type here has the layout of the pointer that `nvml.h` declares and can only come from a C
//! caller, who by NVML's contract passes either null or memory of the right type and length that
//! nobody else uses during the call. That contract is what every `SAFETY` comment below rests on.

use std::ffi::{CStr, c_char};

use crate::handle::{Device, Handle};
use crate::model::Code;

const _: () = assert!(
    size_of::<usize>() == size_of::<u64>(),
    "handles are 64-bit numbers"
);

/// `nvmlDevice_t`
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct DeviceHandle(u64);

/// `nvmlGpuInstance_t`, `nvmlComputeInstance_t` or `nvmlEventSet_t`
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct OpaqueHandle(u64);

impl DeviceHandle {
    pub(super) fn get(self) -> Result<Device, Code> {
        Device::decode(self.0)
    }

    /// The index of a GPU; a MIG device is an invalid argument.
    pub(super) fn gpu(self) -> Result<usize, Code> {
        self.get()?.whole(Code::INVALID_ARGUMENT)
    }
}

impl OpaqueHandle {
    /// GPU index and serial number of a GPU instance.
    pub(super) fn instance(self) -> Result<(usize, u64), Code> {
        match Handle::decode(self.0)? {
            Handle::Instance(gpu, serial) => Ok((gpu, serial)),
            _ => Err(Code::INVALID_ARGUMENT),
        }
    }

    /// GPU index and serial number of a compute instance.
    pub(super) fn compute(self) -> Result<(usize, u64), Code> {
        match Handle::decode(self.0)? {
            Handle::Compute(gpu, serial) => Ok((gpu, serial)),
            _ => Err(Code::INVALID_ARGUMENT),
        }
    }

    /// Number of an event set.
    pub(super) fn event_set(self) -> Result<u64, Code> {
        match Handle::decode(self.0)? {
            Handle::EventSet(number) => Ok(number),
            _ => Err(Code::INVALID_ARGUMENT),
        }
    }
}

/// A pointer through which one value is returned.
#[repr(transparent)]
pub(super) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// Writes the value; null is an invalid argument.
    pub(super) fn set(&self, value: T) -> Result<(), Code> {
        self.given()?;
        // SAFETY: not null, so by contract writable memory for one `T`.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// An invalid argument if the pointer is null. Calls that change something ask first.
    pub(super) fn given(&self) -> Result<(), Code> {
        if self.0.is_null() {
            Err(Code::INVALID_ARGUMENT)
        } else {
            Ok(())
        }
    }
}

/// A pointer to a value that is read, and perhaps written back.
#[repr(transparent)]
pub(super) struct InOut<T>(*mut T);

impl<T: Copy> InOut<T> {
    pub(super) fn get(&self) -> Result<T, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so by contract an initialised `T`; every `T` used here is made of
        // integers, for which all bit patterns are values.
        Ok(unsafe { self.0.read() })
    }

    pub(super) fn set(&self, value: T) -> Result<(), Code> {
        Out(self.0).set(value)
    }
}

/// A struct that begins with a version number, of which there are several layouts.
#[repr(transparent)]
pub(super) struct Versioned(*mut u32);

impl Versioned {
    pub(super) fn version(&self) -> Result<u32, Code> {
        InOut(self.0).get()
    }

    /// Writes the layout that the version asked for.
    pub(super) fn set<T: Copy>(&self, value: T) -> Result<(), Code> {
        Out(self.0.cast::<T>()).set(value)
    }
}

/// An array that the caller made large enough, because NVML's contract tells how large.
#[repr(transparent)]
pub(super) struct Array<T>(*mut T);

impl<T: Copy> Array<T> {
    pub(super) fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Writes `values` from the start on; null is an invalid argument unless there are none.
    pub(super) fn fill(&self, values: &[T]) -> Result<(), Code> {
        if values.is_empty() {
            return Ok(());
        }
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        for (at, value) in values.iter().enumerate() {
            // SAFETY: not null, and by contract there is room for all values of the answer.
            unsafe { self.0.add(at).write(*value) };
        }
        Ok(())
    }

    /// Changes each of the first `count` values.
    pub(super) fn change_each(&self, count: usize, change: impl Fn(&mut T)) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        for at in 0..count {
            // SAFETY: not null, and by contract `count` initialised values lie there.
            let mut value = unsafe { self.0.add(at).read() };
            change(&mut value);
            // SAFETY: as above.
            unsafe { self.0.add(at).write(value) };
        }
        Ok(())
    }
}

/// A buffer for a string, with its length in another argument.
#[repr(transparent)]
pub(super) struct TextOut(*mut c_char);

impl TextOut {
    /// Writes `text` with its final zero; too short a buffer is an error and stays untouched.
    pub(super) fn set(&self, length: u32, text: &str) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        if text.len() >= length as usize {
            return Err(Code::INSUFFICIENT_SIZE);
        }
        // SAFETY: not null, by contract `length` bytes long, and `text` is shorter than that.
        unsafe {
            self.0
                .cast::<u8>()
                .copy_from_nonoverlapping(text.as_ptr(), text.len());
            self.0.add(text.len()).write(0);
        }
        Ok(())
    }
}

/// A string.
#[repr(transparent)]
pub(super) struct TextIn(*const c_char);

impl TextIn {
    pub(super) fn get(&self) -> Result<String, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so by contract a string that ends with a zero.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str()
            .map(str::to_owned)
            .map_err(|_| Code::INVALID_ARGUMENT)
    }
}
