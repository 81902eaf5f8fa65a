//! What NVML's opaque handles stand for.
//!
//! A handle is a number, not an address: it names its target by serial numbers that are never used
//! twice, so that a stale or invented handle is found out and never followed. The numbers lie
//! where no program's memory does.

use crate::host::State;
use crate::model::Code;
use crate::model::gpu::{Compute, Gpu, Instance};

/// The target of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handle {
    /// A GPU by its index.
    Gpu(usize),
    /// A MIG device: GPU and serial number of the compute instance.
    Mig(usize, u64),
    /// GPU and serial number of a GPU instance.
    Instance(usize, u64),
    /// GPU and serial number of a compute instance.
    Compute(usize, u64),
    /// An event set of this process.
    EventSet(u64),
}

const KIND_SHIFT: u32 = 44;
const GPU_SHIFT: u32 = 38;
const SERIAL_SHIFT: u32 = 4;
const GPU_MASK: u64 = 0x3f;
const SERIAL_MASK: u64 = (1 << (GPU_SHIFT - SERIAL_SHIFT)) - 1;

impl Handle {
    /// The number that callers see.
    pub(crate) fn encode(self) -> u64 {
        let (kind, gpu, serial): (u64, usize, u64) = match self {
            Self::Gpu(gpu) => (1, gpu, 0),
            Self::Mig(gpu, serial) => (2, gpu, serial),
            Self::Instance(gpu, serial) => (3, gpu, serial),
            Self::Compute(gpu, serial) => (4, gpu, serial),
            Self::EventSet(number) => (5, 0, number),
        };
        (kind << KIND_SHIFT)
            | ((gpu as u64 & GPU_MASK) << GPU_SHIFT)
            | ((serial & SERIAL_MASK) << SERIAL_SHIFT)
    }

    /// The target of a number; an invalid argument if it was never given out.
    pub(crate) fn decode(number: u64) -> Result<Self, Code> {
        let gpu = usize::try_from((number >> GPU_SHIFT) & GPU_MASK).unwrap_or_default();
        let serial = (number >> SERIAL_SHIFT) & SERIAL_MASK;
        let handle = match number >> KIND_SHIFT {
            1 => Self::Gpu(gpu),
            2 => Self::Mig(gpu, serial),
            3 => Self::Instance(gpu, serial),
            4 => Self::Compute(gpu, serial),
            5 => Self::EventSet(serial),
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        if handle.encode() == number {
            Ok(handle)
        } else {
            Err(Code::INVALID_ARGUMENT)
        }
    }
}

/// What a MIG device consists of.
pub(crate) type Mig<'a> = (&'a Instance, &'a Compute);

/// A device handle: a GPU or a MIG device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// Index of the GPU, of the parent for a MIG device.
    pub(crate) gpu: usize,
    /// Serial number of the compute instance of a MIG device.
    pub(crate) mig: Option<u64>,
}

impl Device {
    /// The device of a handle, whether or not it still exists.
    pub(crate) fn decode(number: u64) -> Result<Self, Code> {
        match Handle::decode(number)? {
            Handle::Gpu(gpu) => Ok(Self { gpu, mig: None }),
            Handle::Mig(gpu, serial) => Ok(Self {
                gpu,
                mig: Some(serial),
            }),
            _ => Err(Code::INVALID_ARGUMENT),
        }
    }

    /// The index of a GPU; `otherwise` for a MIG device.
    pub(crate) fn whole(self, otherwise: Code) -> Result<usize, Code> {
        if self.mig.is_none() {
            Ok(self.gpu)
        } else {
            Err(otherwise)
        }
    }

    /// The GPU and, for a MIG device that still exists, its instances.
    pub(crate) fn resolve(self, state: &State) -> Result<(&Gpu, Option<Mig<'_>>), Code> {
        let gpu = state.gpu(self.gpu)?;
        let mig = self.mig.map(|serial| gpu.compute(serial)).transpose()?;
        Ok((gpu, mig))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_read_back_and_invented_ones_are_refused() {
        let handles = [
            Handle::Gpu(0),
            Handle::Gpu(31),
            Handle::Mig(3, 77),
            Handle::Instance(7, SERIAL_MASK),
            Handle::Compute(0, 1),
            Handle::EventSet(9),
        ];
        for handle in handles {
            assert_eq!(Handle::decode(handle.encode()), Ok(handle));
        }
        for invented in [0, 1, 42, u64::MAX, Handle::Gpu(1).encode() + 1] {
            assert_eq!(Handle::decode(invented), Err(Code::INVALID_ARGUMENT));
        }
    }
}
