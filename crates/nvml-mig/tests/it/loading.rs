//! Libraries that are missing, foreign, old or broken.

use std::{fs, path::Path, process::Command};

use nvml_mig::{Code, Error, Nvml};

use crate::machine::{A100, Machine};

fn failure(library: &Path) -> Error {
    match Nvml::load(Some(library)) {
        Ok(_) => panic!("{} was loaded", library.display()),
        Err(error) => error,
    }
}

/// Any shared library of this machine that is not NVML: one that this program itself uses.
fn foreign() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    paths
        .find(|path| path.contains("/libc.so") || path.contains("/libgcc_s.so"))
        .map(str::to_owned)
}

/// A library with only these functions, each returning success; none without a C compiler.
fn stub(folder: &Path, functions: &[&str]) -> Option<std::path::PathBuf> {
    let source = folder.join("stub.c");
    let code: Vec<_> = functions
        .iter()
        .map(|name| format!("int {name}() {{ return 0; }}"))
        .collect();
    fs::write(&source, code.join("\n")).unwrap();
    let library = folder.join("libstub.so");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-w", "-o"])
        .arg(&library)
        .arg(&source);
    compiler.status().ok()?.success().then_some(library)
}

#[test]
fn a_missing_library_is_one_sentence_with_its_path_and_a_remedy() {
    let error = failure(Path::new("/nowhere/libnvidia-ml.so.1"));
    assert!(matches!(error, Error::Library { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("/nowhere/libnvidia-ml.so.1"), "{text}");
    assert!(text.contains("install the NVIDIA driver"), "{text}");
    assert_eq!(error.category(), "library");
}

#[test]
fn a_file_that_is_no_library_is_the_same_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libnvidia-ml.so.1");
    fs::write(&file, "hello").unwrap();
    assert!(matches!(failure(&file), Error::Library { .. }));
}

#[test]
fn another_library_lacks_the_first_function() {
    let Some(library) = foreign() else { return };
    let error = failure(Path::new(&library));
    assert!(
        matches!(
            error,
            Error::MissingFunction {
                call: "nvmlInit_v2"
            }
        ),
        "{error}"
    );
}

#[test]
fn a_library_without_shutdown_is_refused_and_nothing_panics() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = stub(folder.path(), &["nvmlInit_v2"]) else {
        return;
    };
    let error = failure(&library);
    assert!(
        matches!(
            error,
            Error::MissingFunction {
                call: "nvmlShutdown"
            }
        ),
        "{error}"
    );
}

#[test]
fn a_library_without_the_needed_functions_names_the_one_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = stub(folder.path(), &["nvmlInit_v2", "nvmlShutdown"]) else {
        return;
    };
    let error = failure(&library);
    assert!(
        matches!(
            error,
            Error::MissingFunction {
                call: "nvmlDeviceGetCount_v2"
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("nvmlDeviceGetCount_v2"),
        "{error}"
    );
}

#[test]
fn a_driver_that_is_not_loaded_says_so() {
    let machine = Machine::new(&format!(
        "{A100}[[fault]]\ncall = \"nvmlInit_v2\"\ncode = 9\n"
    ));
    let error = failure(&machine.library);
    assert_eq!(error.code(), Some(Code::DriverNotLoaded));
    assert!(
        error
            .to_string()
            .contains("the NVIDIA driver is not loaded"),
        "{error}"
    );
    machine.nvml();
}

#[test]
fn a_half_upgraded_driver_says_what_to_do() {
    let machine = Machine::new(&format!(
        "{A100}[[fault]]\ncall = \"nvmlInit_v2\"\ncode = 18\n"
    ));
    let error = failure(&machine.library);
    assert!(
        error
            .to_string()
            .contains("finish the driver upgrade or reboot"),
        "{error}"
    );
}

#[test]
fn a_code_that_the_wrapper_does_not_know_keeps_its_number() {
    let machine = Machine::new(&format!(
        "{A100}[[fault]]\ncall = \"nvmlInit_v2\"\ncode = 27\n"
    ));
    assert_eq!(failure(&machine.library).code(), Some(Code::NotReady));
    let machine = Machine::new(&format!(
        "{A100}[[fault]]\ncall = \"nvmlInit_v2\"\ncode = 777\n"
    ));
    assert_eq!(failure(&machine.library).code(), Some(Code::Other(777)));
}

#[test]
fn one_broken_gpu_does_not_hide_the_others() {
    let machine = Machine::new(
        "[[gpu]]\ncount = 3\n[[fault]]\ncall = \"nvmlDeviceGetUUID\"\ngpu = 1\nrepeat = 0\ncode = 15\n",
    );
    let nvml = machine.nvml();
    let indices: Vec<_> = nvml.gpus().iter().map(|gpu| gpu.index).collect();
    assert_eq!(indices, [0, 2]);
    let [(index, error)] = nvml.unreadable() else {
        panic!("{:?}", nvml.unreadable())
    };
    assert_eq!((*index, error.code()), (1, Some(Code::GpuIsLost)));
}

#[test]
fn gpus_are_described_as_the_driver_describes_them() {
    let machine = Machine::new(
        "[[gpu]]\nboard = \"A100-SXM4-40GB\"\nminors = [5]\n[[gpu]]\nboard = \"T4\"\n",
    );
    let nvml = machine.nvml();
    let state = machine.host().state().unwrap();
    assert_eq!(nvml.gpus().len(), 2);
    for (info, truth) in nvml.gpus().iter().zip(&state.gpus) {
        assert_eq!(info.uuid, truth.uuid);
        assert_eq!(info.name, truth.name);
        assert_eq!(info.minor, truth.minor);
        assert_eq!(info.mig_capable, truth.memory_slices > 0);
        assert!(info.memory_mib > 10_000);
        assert!(info.pci_bus_id.contains(':'), "{}", info.pci_bus_id);
    }
    assert_eq!(nvml.gpus()[0].minor, 5);
    assert_eq!(nvml.driver_version().unwrap(), "580.126.09");
}

#[test]
fn two_hosts_live_in_one_process() {
    let (one, two) = (Machine::new(A100), Machine::new("[[gpu]]\ncount = 2\n"));
    let (one, two) = (one.nvml(), two.nvml());
    assert_eq!((one.gpus().len(), two.gpus().len()), (1, 2));
    assert_ne!(one.gpus()[0].uuid, two.gpus()[0].uuid);
}

#[test]
fn after_a_reboot_the_old_session_is_refused_and_a_new_one_works() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = nvml.gpus()[0].uuid.clone();
    machine.host().reboot().unwrap();
    assert_eq!(
        nvml.instances(&gpu).unwrap_err().code(),
        Some(Code::DriverNotLoaded)
    );
    drop(nvml);
    assert!(machine.nvml().instances(&gpu).is_ok());
}
