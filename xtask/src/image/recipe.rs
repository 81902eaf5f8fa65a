//! What is in which image.

use std::path::Path;
use std::rc::Rc;

use anyhow::Context as _;
use testbed::binaries::Binaries;
use testbed::manifests::{AGENT, CONTROLLER};

use super::archive::{Files, Image, Layer};
use super::root::Root;

/// The image of the simulated driver.
pub(crate) const FAKE_NVML: &str = "fake-nvml";
/// The user that the controller runs as; it needs no rights on any machine.
const NOBODY: u32 = 65532;
/// Where the simulated driver lies in its image.
const LIBRARY: &str = "/usr/lib/libnvidia-ml.so.1";

/// All images of these programs, on the C library of this root.
pub(crate) fn images(binaries: &Binaries, root: &Root) -> anyhow::Result<Vec<Image>> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))
    };
    let controller = read(&binaries.controller)?;
    let agent = read(&binaries.agent)?;
    let install = read(&binaries.nvml_install)?;
    let library = read(&binaries.nvml)?;
    let mut base = root.libraries(&[&controller, &agent, &install, &library])?;
    for (folder, mode) in [("/run", 0o755), ("/tmp", 0o1777), ("/var/lib", 0o755)] {
        base.add_folder(folder, mode);
    }
    let passwd = format!(
        "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{NOBODY}:{NOBODY}:nonroot:/:/sbin/nologin\n"
    );
    let group = format!("root:x:0:\nnonroot:x:{NOBODY}:\n");
    base.add("/etc/passwd", 0o644, passwd.into_bytes());
    base.add("/etc/group", 0o644, group.into_bytes());
    let base = Rc::new(Layer::pack(&base)?);

    let image = |name: &str, title: &str, user: u32, entry: &[&str], files: Files| {
        anyhow::Ok(Image {
            name: name.to_owned(),
            title: title.to_owned(),
            user: format!("{user}:{user}"),
            entrypoint: entry.iter().map(|&word| word.to_owned()).collect(),
            layers: vec![base.clone(), Rc::new(Layer::pack(&files)?)],
        })
    };
    let program = |path: &str, content: Vec<u8>| {
        let mut files = Files::default();
        files.add(path, 0o755, content);
        files
    };
    let path = |name: &str| format!("/usr/bin/{name}");
    let mut fake = program(&path("fake-nvml-install"), install);
    fake.add(LIBRARY, 0o755, library);
    Ok(vec![
        image(
            CONTROLLER,
            "cdmo controller",
            NOBODY,
            &[&path(CONTROLLER)],
            program(&path(CONTROLLER), controller),
        )?,
        image(
            AGENT,
            "cdmo agent of a node",
            0,
            &[&path(AGENT)],
            program(&path(AGENT), agent),
        )?,
        image(
            FAKE_NVML,
            "a driver library that plays GPUs",
            0,
            &[&path("fake-nvml-install"), LIBRARY],
            fake,
        )?,
    ])
}

#[cfg(test)]
mod tests;
