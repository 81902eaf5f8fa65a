//! A simulated host in a folder of its own.

use std::path::PathBuf;

use fake_nvml::control::{Effect, Fault, Host};
use fake_nvml::testing::{CONFIG, install};
use mig::{GpuModel, Placement, Profile};
use nvml_mig::{GpuInstance, Nvml};
use tempfile::TempDir;

/// One A100 with 40 GB, MIG mode on.
pub(crate) const A100: &str = "[[gpu]]\nmig = true\n";

pub(crate) struct Machine {
    folder: TempDir,
    pub(crate) library: PathBuf,
}

impl Machine {
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = install(folder.path(), config).unwrap();
        Self { folder, library }
    }

    pub(crate) fn with_board(board: &str) -> Self {
        Self::new(&format!("[[gpu]]\nboard = \"{board}\"\nmig = true\n"))
    }

    pub(crate) fn nvml(&self) -> Nvml {
        Nvml::load(Some(&self.library)).unwrap()
    }

    pub(crate) fn host(&self) -> Host {
        Host::open(&self.folder.path().join(CONFIG)).unwrap()
    }

    /// The next call of that name is refused with a code.
    pub(crate) fn refuse(&self, call: &str, code: u32) {
        self.host().inject(&Fault::new(call, code)).unwrap();
    }

    pub(crate) fn fault(&self, call: &str, code: u32, effect: Effect) {
        self.host()
            .inject(&Fault {
                effect,
                ..Fault::new(call, code)
            })
            .unwrap();
    }
}

pub(crate) fn uuid(nvml: &Nvml) -> String {
    nvml.gpus()[0].uuid.clone()
}

pub(crate) fn profile(model: &GpuModel, name: &str) -> Profile {
    model.find(&name.parse().unwrap()).unwrap().1.clone()
}

/// Creates an instance by name and start.
pub(crate) fn create(nvml: &Nvml, gpu: &str, name: &str, start: u8) -> GpuInstance {
    let profile = profile(&nvml.model(gpu).unwrap(), name);
    let placement = Placement::new(start, profile.size());
    nvml.create(gpu, profile.id, placement).unwrap()
}
