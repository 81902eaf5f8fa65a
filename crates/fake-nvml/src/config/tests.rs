//! Configurations that are right and, mostly, ones that are wrong.

use std::path::Path;

use proptest::prelude::*;

use super::Config;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/host.toml"), Path::new("/run/state"))
        .map_err(|error| error.to_string())
}

fn refusal(text: &str) -> String {
    parse(text).expect_err("it must be refused")
}

#[test]
fn an_empty_file_is_one_a100_with_mig_mode_off() {
    let config = parse("").unwrap();
    assert_eq!(config.hardware.gpus.len(), 1);
    assert_eq!(
        config.hardware.gpus[0].chip.board.name,
        "NVIDIA A100-SXM4-40GB"
    );
    assert!(!config.first.gpus[0].mode.current);
}

#[test]
fn every_knob_can_be_set() {
    let config = parse(
        r#"
        [host]
        driver_version = "550.1"
        state = "here/state"
        seed = "node-a"
        [latency_ms]
        nvmlDeviceCreateGpuInstanceWithPlacement = 600
        default = 0.5
        [[gpu]]
        board = "a100-sxm4-40gb"
        count = 2
        flipped = true
        mig = true
        minors = [1, 0]
        [[gpu]]
        board = "Tesla T4"
        uuid = "GPU-66a5bbec-ae28-5552-bb58-ecd3b25cb381"
        [[instance]]
        gpu = 1
        profile = "3g.20gb"
        start = 4
        [[process]]
        gpu = 1
        gi = 1
        pid = 77
        [[fault]]
        call = "nvmlGpuInstanceDestroy"
        effect = "pretend"
        nth = 3
        [[xid]]
        gpu = 1
        xid = 43
        "#,
    )
    .unwrap();
    assert_eq!(config.state, Path::new("/etc/here/state"));
    assert_eq!(config.first.gpus[1].instances[0].id, 1);
    assert_eq!(config.first.gpus[1].processes[0].ci, Some(0));
    assert_eq!(config.first.triggers.len(), 2);
    let latency = |call| config.first.latency_ms(&config.hardware, call);
    assert!((latency("nvmlDeviceCreateGpuInstanceWithPlacement") - 600.0).abs() < 1e-9);
    assert!((latency("nvmlShutdown") - 0.5).abs() < 1e-9);
    assert_eq!(config.hardware.gpus[0].minor, 1);
    assert_eq!(
        config.hardware.gpus[2].uuid(),
        "GPU-66a5bbec-ae28-5552-bb58-ecd3b25cb381"
    );
}

#[test]
fn uuids_depend_on_the_seed_alone() {
    let uuid = |text: &str| parse(text).unwrap().hardware.gpus[0].uuid;
    let a = uuid("[host]\nseed = 'a'");
    assert_eq!(a, uuid("[host]\nseed = 'a'\n[[gpu]]\nmig = true"));
    assert_ne!(a, uuid("[host]\nseed = 'b'"));
}

#[test]
fn a_wrong_value_is_named_with_what_would_be_right() {
    let wrong = [
        (
            "[[gpu]]\nboard = 'GeForce 256'",
            "known are A30, A100-SXM4-40GB",
        ),
        ("[[gpu]]\nboard = 'T4'\nmig = true", "has no MIG"),
        ("[[gpu]]\ncount = 33", "32 GPUs at most"),
        ("[[gpu]]\nfused_slot = 8", "slots count from 0 to 7"),
        ("[[gpu]]\nuuid = 'nonsense'", "write GPU-"),
        ("[[gpu]]\ncount = 2\nminors = [1]", "minor number 1"),
        ("[latency_ms]\nnvmlCreate = 1", "no NVML call"),
        ("[latency_ms]\ndefault = -1", "between 0 and an hour"),
        ("[latency_ms]\ndefault = nan", "between 0 and an hour"),
        ("[[fault]]\ncall = 'nvmlNothing'", "no NVML call"),
        ("[[fault]]\ncall = 'nvmlInit_v2'\nnth = 0", "counts from 1"),
        ("[[fault]]\ncall = 'nvmlInit_v2'\ngpu = 4", "names gpu 4"),
        (
            "[[fault]]\ncall = 'nvmlInit_v2'\neffect = 'pretend'",
            "works for nvmlGpuInstanceDestroy",
        ),
        ("[[xid]]\ngpu = 1\nxid = 43", "names gpu 1"),
        ("[[instance]]\nprofile = '1g.5gb'", "needs mig = true"),
        (
            "[[gpu]]\nmig = true\n[[instance]]\nprofile = '9g'",
            "has 1g.5gb, 2g.10gb",
        ),
        (
            "[[gpu]]\nmig = true\n[[instance]]\nprofile = '3g.20gb'\nstart = 1",
            "cannot start there",
        ),
        ("[[process]]\npid = 1\ngi = 3", "does not exist"),
        ("[hots]", "unknown field `hots`"),
        ("[[gpu]]\nboard = 4", "invalid type"),
        (
            "not toml",
            "failed to understand the configuration /etc/host.toml",
        ),
    ];
    for (text, part) in wrong {
        let sentence = refusal(text);
        assert!(sentence.contains(part), "{text:?} gave {sentence:?}");
        assert!(!sentence.contains('\n'), "one line: {sentence:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in r#"(\[\[?(gpu|host|fault|xid)\]\]?|(count|nth|board|minors|fused_slot|xid|call|gpu) = (-?[0-9]{1,20}|"[a-zA-Z_0-9]{0,9}"|\[1\])|[ -~]{0,5}|\n){0,12}"#) {
        let _ = parse(&text);
    }
}
