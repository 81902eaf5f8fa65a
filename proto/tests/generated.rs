//! Keeps the checked-in code equal to what `protos/` says.

use std::{fs, path::Path};

/// Files, and how messages of their services are encoded.
const PROTOS: [(&str, &str); 3] = [
    ("cdmo/agent/v1/agent.proto", "crate::codec::SmallBuffers"),
    ("kubelet/deviceplugin/v1beta1/api.proto", USUAL),
    ("kubelet/podresources/v1/api.proto", USUAL),
];
const USUAL: &str = "tonic_prost::ProstCodec";

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    for (proto, codec) in PROTOS {
        // One compilation each: the kubelet's two files share no package and must not share a scope.
        let set = protox::compile([proto], [root.join("protos")]).unwrap();
        tonic_prost_build::configure()
            .out_dir(out.path())
            .codec_path(codec)
            .compile_fds(set)
            .unwrap();
    }
    for entry in fs::read_dir(out.path()).unwrap() {
        let entry = entry.unwrap();
        let made = fs::read_to_string(entry.path()).unwrap();
        let kept = root.join("src/generated").join(entry.file_name());
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&kept, &made).unwrap();
        }
        assert!(
            fs::read_to_string(&kept).unwrap_or_default() == made,
            "{} is not what protos/ says; run `UPDATE_GENERATED=1 cargo test -p cdmo-proto`",
            kept.display()
        );
    }
}
