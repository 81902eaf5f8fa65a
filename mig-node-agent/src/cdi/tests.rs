//! Spec files against the rules of the CDI project, and against what NVIDIA's toolkit leaves on nodes.

use serde_json::{Map, Value};
use tempfile::TempDir;

use super::*;

const ID: &str = "MIG-5f2f2a9c-0b6e-5b0c-8d5e-0123456789ab";

/// What `nvidia-ctk cdi generate` writes, shortened.
const NVIDIA: &str = r#"---
cdiVersion: 0.7.0
kind: nvidia.com/gpu
devices:
    - name: "0"
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
    - name: all
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
containerEdits:
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    deviceNodes:
        - path: /dev/nvidia-modeset
        - path: /dev/nvidia-uvm
        - path: /dev/nvidia-uvm-tools
        - path: /dev/nvidiactl
        - path: /dev/nvidia0
    hooks:
        - hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
          args:
            - nvidia-cdi-hook
            - update-ldcache
            - --folder
            - /usr/lib/x86_64-linux-gnu
    mounts:
        - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.126.09
          containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.126.09
          options: [ro, nosuid, nodev, rbind, rprivate]
"#;

struct Host {
    root: TempDir,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { root }
    }

    /// With NVIDIA's kernel driver.
    fn real() -> Self {
        let host = Self::new();
        for node in ["nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"] {
            host.write(&format!("dev/{node}"), "");
        }
        host.write(
            "proc/devices",
            "Character devices:\n195 nvidia\n242 nvidia-caps\n",
        );
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn cdi(&self) -> Cdi {
        let root = self.root.path();
        let nodes = Nodes {
            host_root: root.to_owned(),
            proc_dir: root.join("proc"),
        };
        Cdi::new(&root.join("run/cdi"), nodes)
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.path().join("run/cdi")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn spec(&self, id: &str) -> Value {
        let name = format!("run/cdi/cdmo.clear.ml-gpu_{id}.json");
        let text = std::fs::read_to_string(self.root.path().join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

fn fields<'a>(value: &'a Value, known: &[&str], needed: &[&str]) -> &'a Map<String, Value> {
    let fields = value.as_object().unwrap();
    for name in fields.keys() {
        assert!(known.contains(&&**name), "{name} is no field of {value}");
    }
    for name in needed {
        assert!(fields.contains_key(*name), "{name} is missing in {value}");
    }
    fields
}

fn strings(value: Option<&Value>) {
    for item in value.and_then(Value::as_array).into_iter().flatten() {
        assert!(item.is_string(), "{item}");
    }
}

/// Field by field what the project's JSON schema says (schema.json and defs.json there), and the rules
/// for names and for empty edits that its library checks besides.
fn assert_valid(spec: &Value) {
    let top = [
        "cdiVersion",
        "kind",
        "annotations",
        "devices",
        "containerEdits",
    ];
    let spec = fields(spec, &top, &["cdiVersion", "kind", "devices"]);
    let version = spec["cdiVersion"].as_str().unwrap();
    assert_eq!(
        version
            .split('.')
            .filter(|n| n.parse::<u32>().is_ok())
            .count(),
        3
    );
    let (vendor, class) = spec["kind"].as_str().unwrap().split_once('/').unwrap();
    for name in [vendor, class] {
        let inner = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(inner));
        assert!(
            name.ends_with(|c: char| c.is_ascii_alphanumeric()),
            "{name}"
        );
    }
    let devices = spec["devices"].as_array().unwrap();
    assert!(!devices.is_empty());
    for device in devices {
        let needed = ["name", "containerEdits"];
        let device = fields(device, &["name", "annotations", "containerEdits"], &needed);
        let name = device["name"].as_str().unwrap();
        let inner = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
        assert!(name.chars().all(inner), "{name}");
        assert!(
            name.starts_with(|c: char| c.is_ascii_alphanumeric()),
            "{name}"
        );
        assert!(
            name.ends_with(|c: char| c.is_ascii_alphanumeric()),
            "{name}"
        );
        let edits = device["containerEdits"].as_object().unwrap();
        assert!(!edits.is_empty(), "a device without edits is refused");
        assert_edits(&device["containerEdits"]);
    }
    if let Some(edits) = spec.get("containerEdits") {
        assert_edits(edits);
    }
}

fn assert_edits(edits: &Value) {
    let known = [
        "env",
        "deviceNodes",
        "mounts",
        "hooks",
        "intelRdt",
        "additionalGids",
    ];
    let edits = fields(edits, &known, &[]);
    strings(edits.get("env"));
    let items = |name: &str| {
        edits
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    for variable in items("env") {
        assert!(variable.as_str().unwrap().contains('='), "{variable}");
    }
    for node in items("deviceNodes") {
        let known = [
            "path",
            "hostPath",
            "permissions",
            "type",
            "major",
            "minor",
            "uid",
            "gid",
            "fileMode",
        ];
        let node = fields(node, &known, &["path"]);
        assert!(node["path"].as_str().unwrap().starts_with('/'));
        let permissions = node.get("permissions").and_then(Value::as_str);
        assert!(permissions.is_none_or(|p| p.chars().all(|c| "rwm".contains(c))));
        let numbered = ["type", "major", "minor"].map(|name| node.contains_key(name));
        assert!(numbered == [true; 3] || numbered == [false; 3], "{node:?}");
    }
    for mount in items("mounts") {
        let known = ["hostPath", "containerPath", "options", "type"];
        strings(fields(mount, &known, &["hostPath", "containerPath"]).get("options"));
    }
    for hook in items("hooks") {
        let known = ["hookName", "path", "args", "env", "timeout"];
        let hook = fields(hook, &known, &["hookName", "path"]);
        strings(hook.get("args"));
        strings(hook.get("env"));
    }
}

fn paths(edits: &Value) -> Vec<&str> {
    let nodes = edits["deviceNodes"].as_array().into_iter().flatten();
    nodes.map(|node| node["path"].as_str().unwrap()).collect()
}

#[test]
fn a_slice_has_its_own_nodes_and_what_nvidias_spec_says_of_the_driver() {
    let host = Host::real();
    host.write("etc/cdi/nvidia.yaml", NVIDIA);
    let name = host.cdi().describe(ID, 0, Some((9, 0))).unwrap();
    assert_eq!(name, format!("cdmo.clear.ml/gpu={ID}"));
    let spec = host.spec(ID);
    assert_valid(&spec);
    assert_eq!(spec["cdiVersion"], "0.7.0");
    let device = &spec["devices"][0];
    assert_eq!(device["name"], ID);
    assert_eq!(
        paths(&device["containerEdits"]),
        [
            "/dev/nvidia0",
            "/dev/nvidia-caps/nvidia-cap84",
            "/dev/nvidia-caps/nvidia-cap85"
        ]
    );
    let capability = &device["containerEdits"]["deviceNodes"][1];
    assert_eq!(
        (&capability["major"], &capability["minor"]),
        (&242.into(), &84.into())
    );
    let driver = &spec["containerEdits"];
    assert_eq!(driver["mounts"].as_array().unwrap().len(), 1);
    assert_eq!(driver["hooks"][0]["path"], "/usr/bin/nvidia-cdi-hook");
}

#[test]
fn nodes_of_gpus_are_never_taken_over_from_the_drivers_spec() {
    let host = Host::real();
    host.write("etc/cdi/nvidia.yaml", NVIDIA);
    host.cdi().describe(ID, 1, Some((1, 0))).unwrap();
    let spec = host.spec(ID);
    let shared = paths(&spec["containerEdits"]);
    assert!(shared.contains(&"/dev/nvidiactl") && !shared.contains(&"/dev/nvidia0"));
    assert_eq!(
        paths(&spec["devices"][0]["containerEdits"])[0],
        "/dev/nvidia1"
    );
}

#[test]
fn the_toolkits_own_spec_is_preferred_and_specs_without_libraries_are_not_the_drivers() {
    let host = Host::real();
    host.write(
        "run/cdi/management.yaml",
        &NVIDIA
            .replace("nvidia.com/gpu", "management.nvidia.com/gpu")
            .replace("0.7.0", "0.6.0"),
    );
    host.write("run/cdi/imex.json", r#"{"cdiVersion": "0.9.0", "kind": "nvidia.com/gpu", "devices": [], "containerEdits": {"env": []}}"#);
    let cdi = host.cdi();
    cdi.describe(ID, 0, None).unwrap();
    assert_eq!(host.spec(ID)["cdiVersion"], "0.6.0");
    host.write("etc/cdi/nvidia.yaml", NVIDIA);
    cdi.describe(ID, 0, None).unwrap();
    assert_eq!(host.spec(ID)["cdiVersion"], "0.7.0");
}

#[test]
fn a_driver_without_a_spec_is_a_failure_that_says_what_to_do() {
    let host = Host::real();
    let failure = host.cdi().describe(ID, 0, Some((1, 0))).unwrap_err();
    assert_eq!(failure.category, "cdi");
    assert!(
        failure.message.contains("nvidia-ctk cdi generate"),
        "{}",
        failure.message
    );
    host.write("etc/cdi/nvidia.yaml", "kind: nvidia.com/gpu\ndevices: [");
    let failure = host.cdi().describe(ID, 0, Some((1, 0))).unwrap_err();
    assert!(
        failure.message.contains("etc/cdi/nvidia.yaml"),
        "{}",
        failure.message
    );
}

#[test]
fn a_simulated_gpu_has_a_spec_that_gives_nothing_and_is_valid() {
    let host = Host::new();
    host.cdi().describe(ID, 0, Some((1, 0))).unwrap();
    let spec = host.spec(ID);
    assert_valid(&spec);
    assert!(paths(&spec["devices"][0]["containerEdits"]).is_empty());
}

#[test]
fn files_of_a_former_agent_are_known_and_unfinished_ones_are_not() {
    let host = Host::new();
    host.cdi().describe(ID, 0, Some((1, 0))).unwrap();
    host.write("run/cdi/cdmo.clear.ml-gpu_MIG-torn.json.new", "{\"cdiVer");
    host.write("run/cdi/nvidia.yaml", NVIDIA);
    let cdi = host.cdi();
    assert_eq!(cdi.known().unwrap(), [ID]);
    assert_eq!(
        host.files(),
        [
            format!("cdmo.clear.ml-gpu_{ID}.json"),
            "nvidia.yaml".to_owned()
        ]
    );
    cdi.remove(ID).unwrap();
    cdi.remove(ID).unwrap();
    assert_eq!(host.files(), ["nvidia.yaml"]);
}

#[test]
fn a_slot_that_was_made_again_gets_the_nodes_of_its_new_instance() {
    let host = Host::real();
    host.write("etc/cdi/nvidia.yaml", NVIDIA);
    let cdi = host.cdi();
    cdi.describe(ID, 0, Some((9, 0))).unwrap();
    cdi.describe(ID, 0, Some((2, 0))).unwrap();
    assert!(
        paths(&host.spec(ID)["devices"][0]["containerEdits"])
            .contains(&"/dev/nvidia-caps/nvidia-cap21")
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_said_in_one_sentence() {
    let host = Host::new();
    host.write("run/cdi", "a file");
    let cdi = host.cdi();
    assert!(cdi.known().unwrap_err().contains("cdi.dir of the chart"));
    assert_eq!(cdi.describe(ID, 0, None).unwrap_err().category, "cdi");
}
