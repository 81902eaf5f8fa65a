//! MIG mode: Ampere resets and remembers, Hopper and later change at once and forget.

use serde::{Deserialize, Serialize};

use crate::model::code::Code;
use crate::model::gpu::{Chip, Gpu};

/// MIG mode of one GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// In force.
    pub current: bool,
    /// In force after the next reset.
    pub pending: bool,
}

impl Gpu {
    /// Asks for MIG mode. The answer is NVML's activation status: success or why it is not (yet)
    /// in force. `other_clients`: whether another process has an NVML session on this host.
    pub fn set_mode(&mut self, chip: &Chip, on: bool, other_clients: bool) -> Result<(), Code> {
        if on == self.mode.current {
            self.mode.pending = on;
            return Ok(());
        }
        // What drivers say of instances that are in the way was not measured; refusing is safe.
        let held = !self.processes.is_empty() || !self.instances.is_empty();
        if chip.board.resetless() {
            if held {
                return Err(Code::IN_USE);
            }
            self.mode = Mode {
                current: on,
                pending: on,
            };
            return Ok(());
        }
        self.mode.pending = on;
        if !chip.reset_works {
            return Err(Code::RESET_REQUIRED);
        }
        if held || other_clients {
            return Err(Code::IN_USE);
        }
        self.reset();
        Ok(())
    }

    /// A reset of this GPU: instances are gone and the pending mode comes into force.
    pub fn reset(&mut self) {
        self.instances.clear();
        self.processes.clear();
        self.mode.current = self.mode.pending;
    }

    /// A reboot of the host, or the driver unloaded and loaded again.
    pub fn reboot(&mut self, chip: &Chip) {
        if chip.board.resetless() {
            self.mode.pending = false;
        }
        self.reset();
    }
}

#[cfg(test)]
mod tests;
