//! A container that is a real process, the leader of a process group of its own; the group ends
//! with it, as the processes of a container end with its first one.

use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::object;

use super::guard::Tracked;
use super::{
    ContainerSpec, Program, RuntimeConfig, StartError, StopRequest, environment, overdue, requested,
};

/// How long a process may take to end when the whole cluster goes down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Variables that processes inherit from this one.
const INHERITED: [&str; 8] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "LLVM_PROFILE_FILE",
    "NO_COLOR",
];

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Group,
}

/// A process group; what is left of it is killed when this is dropped.
#[derive(Debug)]
struct Group {
    id: Option<Pid>,
    _tracked: Option<Tracked>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // A group that has ended already cannot be signalled.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Process {
    pub(super) fn spawn(
        config: &RuntimeConfig,
        program: &Program,
        spec: &ContainerSpec,
        definition: &Value,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Spawn {
            path: program.path.clone(),
            source,
        };
        let log = log_file(config, spec).map_err(failed)?;
        let inherited = INHERITED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        let mut variables: Vec<(String, String)> = inherited.collect();
        variables.extend(standard_variables(config, spec));
        variables.extend(config.env.iter().cloned());
        variables.extend(program.env.iter().cloned());
        variables.extend(spec.given.envs.clone());
        let own = environment::variables(spec, definition, &variables);
        variables.extend(own);
        let child = Command::new(&program.path)
            .args(environment::arguments(definition, &variables))
            .env_clear()
            .envs(variables)
            .current_dir(&config.host_root)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let id = child.id();
        let group = Group {
            id: id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
            _tracked: id.and_then(|id| config.guard.track(id)),
        };
        Ok(Self { child, group })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) async fn run(
        mut self,
        mut stop: watch::Receiver<StopRequest>,
        down: &CancellationToken,
    ) -> i32 {
        let mut shutdown = None;
        tokio::select! {
            status = self.child.wait() => return code(&status),
            _ = requested(&mut stop) => {}
            () = down.cancelled() => shutdown = Some(Instant::now() + SHUTDOWN_GRACE),
        }
        self.group.signal(Signal::TERM);
        let too_late = async {
            match shutdown {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => overdue(&mut stop).await,
            }
        };
        let goes_down = async {
            down.cancelled().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            status = self.child.wait() => return code(&status),
            () = too_late => {}
            () = goes_down => {}
        }
        self.group.signal(Signal::KILL);
        code(&self.child.wait().await)
    }
}

fn code(status: &std::io::Result<ExitStatus>) -> i32 {
    match status {
        Ok(status) => status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        Err(_) => 255,
    }
}

/// `<pod>.log`, and `<pod>.<container>.log` for all but the first container.
pub(super) fn log_path(config: &RuntimeConfig, pod: &Value, container: &str) -> PathBuf {
    let first = object::text(pod, "/spec/containers/0/name") == container;
    let name = object::name(pod);
    config.logs.join(if first {
        format!("{name}.log")
    } else {
        format!("{name}.{container}.log")
    })
}

fn log_file(config: &RuntimeConfig, spec: &ContainerSpec) -> std::io::Result<File> {
    std::fs::create_dir_all(&config.logs)?;
    let path = log_path(config, &spec.pod, &spec.container);
    OpenOptions::new().create(true).append(true).open(path)
}

fn standard_variables(config: &RuntimeConfig, spec: &ContainerSpec) -> Vec<(String, String)> {
    [
        ("HOST_ROOT", config.host_root.display().to_string()),
        ("NODE_NAME", config.node.clone()),
        ("HOSTNAME", object::name(&spec.pod).to_owned()),
        ("POD_NAME", object::name(&spec.pod).to_owned()),
        ("POD_NAMESPACE", object::namespace(&spec.pod).to_owned()),
        ("POD_UID", object::uid(&spec.pod).to_owned()),
        ("POD_IP", spec.pod_ip.clone()),
        ("HOST_IP", spec.host_ip.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
