//! What the driver says of boards, against what planning without hardware believes.

use mig::GpuModel;
use nvml_mig::{Code, Error};

use crate::machine::{A100, Machine, uuid};

#[test]
fn the_built_in_tables_are_what_the_driver_says() {
    for board in ["A30", "A100-SXM4-40GB", "A100-SXM4-80GB", "H100-80GB-HBM3"] {
        let machine = Machine::new(&format!("[[gpu]]\nboard = \"{board}\"\n"));
        let nvml = machine.nvml();
        let driver = nvml.model(&uuid(&nvml)).unwrap();
        let table = GpuModel::known(&driver.name).unwrap_or_else(|| panic!("{}", driver.name));
        assert_eq!(driver, table, "{board}");
    }
}

#[test]
fn the_model_does_not_depend_on_what_stands_there() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    let before = nvml.model(&gpu).unwrap();
    machine.host().create_instance(0, "7g.40gb", None).unwrap();
    assert_eq!(nvml.model(&gpu).unwrap(), before);
}

#[test]
fn rtx_boards_have_twelve_slices_and_all_their_endings() {
    let machine = Machine::with_board("RTX-PRO-6000");
    let nvml = machine.nvml();
    let model = nvml.model(&uuid(&nvml)).unwrap();
    assert_eq!(model.slices, 12);
    let names: Vec<_> = model
        .profiles
        .iter()
        .map(|profile| profile.name.to_string())
        .collect();
    for name in [
        "1g.24gb",
        "1g.24gb+me",
        "1g.24gb+gfx",
        "1g.24gb+me.all",
        "1g.24gb-me",
    ] {
        assert!(names.iter().any(|each| each == name), "{name} in {names:?}");
    }
}

#[test]
fn an_older_driver_that_knows_only_the_nameless_call_gives_the_same_names() {
    let machine = Machine::new(A100);
    let newest = machine.nvml();
    let newest = newest.model(&uuid(&newest)).unwrap();
    for code in [2, 13, 25] {
        let machine = Machine::new(&format!(
            "{A100}[[fault]]\ncall = \"nvmlDeviceGetGpuInstanceProfileInfoV\"\nrepeat = 0\ncode = \
             {code}\n"
        ));
        let nvml = machine.nvml();
        let model = nvml.model(&uuid(&nvml)).unwrap();
        assert_eq!(model.profiles, newest.profiles, "code {code}");
    }
}

#[test]
fn a_driver_that_fails_at_profiles_is_an_error_and_is_asked_again() {
    let machine = Machine::new(A100);
    let nvml = machine.nvml();
    let gpu = uuid(&nvml);
    machine.refuse("nvmlDeviceGetGpuInstanceProfileInfoV", 15);
    assert_eq!(nvml.model(&gpu).unwrap_err().code(), Some(Code::GpuIsLost));
    machine.refuse("nvmlDeviceGetGpuInstancePossiblePlacements_v2", 4);
    let error = nvml.model(&gpu).unwrap_err();
    assert!(matches!(
        error,
        Error::Call {
            code: Code::NoPermission,
            ..
        }
    ));
    assert!(error.to_string().contains("run privileged"), "{error}");
    assert_eq!(nvml.model(&gpu).unwrap().profiles.len(), 7);
}
