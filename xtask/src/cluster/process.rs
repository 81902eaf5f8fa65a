//! Processes that outlive the command that started them, told apart from later ones of the same
//! number by when they were started.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Between two looks at whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long a killed process may take to go.
const LAST: Duration = Duration::from_secs(10);

/// One process and no other: its number, and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Clock ticks between boot and start.
    started: u64,
}

impl Identity {
    /// Of the living process with this number.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let Stat { started, .. } = stat(pid)?;
        Some(Self { pid, started })
    }

    /// Whether it still runs.
    pub(super) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal, unless the process is gone. Between the look and the signal its number
    /// cannot pass to another, as the handle was opened before the look.
    pub(super) fn signal(self, signal: Signal) {
        let handle =
            Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(handle) = handle
            && self.lives()
        {
            // A process that ended by itself meanwhile is what was wanted.
            let _ = pidfd_send_signal(&handle, signal);
        }
    }
}

/// Asks processes to end and kills those that have not after `grace`. Those that are still there
/// even then are returned.
pub(super) async fn end(processes: &[Identity], grace: Duration) -> Vec<Identity> {
    if !grace.is_zero() {
        signal(processes, Signal::TERM);
        gone(processes, grace).await;
    }
    signal(processes, Signal::KILL);
    gone(processes, LAST).await
}

fn signal(processes: &[Identity], signal: Signal) {
    for process in processes {
        process.signal(signal);
    }
}

/// Waits until all have ended; those that did not in time are returned.
async fn gone(processes: &[Identity], limit: Duration) -> Vec<Identity> {
    let until = Instant::now() + limit;
    loop {
        let left: Vec<Identity> = processes.iter().copied().filter(|p| p.lives()).collect();
        if left.is_empty() || Instant::now() >= until {
            return left;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Becomes a program that has nothing open but input and output: a lock or a pipe of whoever ran us
/// would stay taken as long as the cluster is up.
const WITHOUT_INHERITANCE: &str = r#"
for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    if [ "$fd" -gt 2 ]; then exec {fd}>&-; fi
done
exec "$@"
"#;

/// Starts a program in a session of its own, its output at the end of a file.
pub(super) fn start(command: &[String], log: &Path) -> anyhow::Result<Identity> {
    let output = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("failed to open {}", log.display()))?;
    let errors = output.try_clone().context("failed to share a log file")?;
    // setsid takes the program's place instead of waiting for it, as the child leads no group.
    let child = Command::new("bash")
        .args(["-c", WITHOUT_INHERITANCE, "bash", "setsid"])
        .args(command)
        // Proxies, for one, are not for the cluster.
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .context("failed to start bash")?;
    let pid = i32::try_from(child.id()).context("failed to read a process number")?;
    Identity::of(pid)
        .with_context(|| format!("{} ended at once; see {}", command.join(" "), log.display()))
}

/// Where system programs are, also for people whose PATH leaves them out.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All processes of this machine that live.
pub(super) fn all() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// A process's command line, or nothing where it is gone.
pub(super) fn command_line(pid: i32) -> Vec<String> {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// All processes below these, at any depth, without these.
pub(super) fn below(roots: &[Identity]) -> Vec<Identity> {
    let mut children: HashMap<i32, Vec<Identity>> = HashMap::new();
    for pid in all() {
        if let Some(Stat {
            parent, started, ..
        }) = stat(pid)
        {
            let child = Identity { pid, started };
            children.entry(parent).or_default().push(child);
        }
    }
    let mut found = Vec::new();
    let mut todo: Vec<i32> = roots.iter().map(|root| root.pid).collect();
    while let Some(pid) = todo.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            todo.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// All other processes of the session that this one leads or led.
pub(super) fn of_session(leader: Identity) -> Vec<Identity> {
    // The kernel gives a number away again only after the whole session has ended.
    if Identity::of(leader.pid).is_some_and(|now| now != leader) {
        return Vec::new();
    }
    let members = all().into_iter().filter(|pid| *pid != leader.pid);
    members
        .filter_map(|pid| {
            let stat = stat(pid)?;
            let started = stat.started;
            (stat.session == leader.pid).then_some(Identity { pid, started })
        })
        .collect()
}

/// What is read of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: i32,
    session: i32,
    started: u64,
}

/// Of a process; nothing for one that has ended and only waits to be collected.
fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5): the name, in brackets, may hold anything; state, parent, group and session follow, and
/// 15 more fields later the start.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_mislead() {
        let stat = "7 (a) S 1 (b) S 4 7 6 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123 9 9";
        let wanted = Stat {
            parent: 4,
            session: 6,
            started: 123,
        };
        assert_eq!(parse_stat(stat), Some(wanted));
    }

    #[test]
    fn what_only_waits_to_be_collected_does_not_live() {
        let stat = "7 (a) Z 4 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123 9 9";
        assert_eq!(parse_stat(stat), None);
    }

    #[tokio::test]
    async fn a_process_that_was_started_is_found_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let command = ["sleep", "1000"].map(str::to_owned);
        let identity = start(&command, &folder.path().join("log")).unwrap();
        assert!(identity.lives());
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(below(&[me]).contains(&identity));
        assert_eq!(end(&[identity], Duration::from_secs(5)).await, []);
        assert!(!identity.lives());
    }

    #[tokio::test]
    async fn a_process_keeps_nothing_open_that_its_starter_had() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        std::fs::write(&lock, "").unwrap();
        let inherited = rustix::fs::open(&lock, OFlags::RDONLY, Mode::empty()).unwrap();
        let command = ["sleep", "1000"].map(str::to_owned);
        let identity = start(&command, &folder.path().join("log")).unwrap();
        let limit = Instant::now() + LAST;
        while command_line(identity.pid) != command {
            assert!(identity.lives() && Instant::now() < limit);
            tokio::time::sleep(LOOK).await;
        }
        let open = std::fs::read_dir(format!("/proc/{}/fd", identity.pid)).unwrap();
        let open: Vec<_> = open
            .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
            .collect();
        end(&[identity], Duration::ZERO).await;
        assert_eq!(open.len(), 3, "{open:?}");
        drop(inherited);
    }

    #[tokio::test]
    async fn a_later_process_of_the_same_number_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let command = ["sleep", "1000"].map(str::to_owned);
        let identity = start(&command, &folder.path().join("log")).unwrap();
        let earlier = Identity {
            started: identity.started - 1,
            ..identity
        };
        assert_eq!(end(&[earlier], Duration::from_secs(5)).await, []);
        assert!(identity.lives());
        end(&[identity], Duration::ZERO).await;
    }
}
