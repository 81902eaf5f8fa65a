//! Starts a program again whenever it ends, and counts how often, as systemd does with the kubelet of a
//! node (kubeadm's kubelet.service: `Restart=always`, `RestartSec=10`).
//!
//! A node lives through the end of its kubelet, so ours has to, too; but nobody shall take that for a
//! quiet run. Every end is a line in a file beside the log. A shell does it, because whoever started
//! the cluster has long ended by then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{self, Identity};
use super::{parts, place};

/// Seconds between an end and the next start.
const PAUSE: &str = "10";

/// Its arguments: the pause, the log, the file of ends, and the program with its own arguments.
const KEEP: &str = r#"
pause=$1 log=$2 ends=$3
shift 3
while :; do
    from=$(stat --format %s "$log")
    "$@"
    code=$?
    why=$(tail --bytes "+$((from + 1))" "$log" | grep --text --max-count 1 -E '^(panic|fatal error): ')
    line="$(date --utc +%FT%TZ) exit code $code${why:+, $why}"
    echo "cdmo: ended by itself: $line; started again in $pause s"
    echo "$line" >>"$ends"
    sleep "$pause"
done
"#;

/// Starts a part. The identity is that of whoever keeps it running, if somebody does.
pub(super) fn start(name: &str, command: &[String]) -> anyhow::Result<Identity> {
    let log = place::log(name);
    if name == parts::KUBELET {
        process::start(&kept(command, PAUSE, &log, &file(name)), &log)
    } else {
        process::start(command, &log)
    }
}

fn kept(command: &[String], pause: &str, log: &Path, ends: &Path) -> Vec<String> {
    let (log, ends) = (log.display().to_string(), ends.display().to_string());
    let own = ["bash", "-c", KEEP, "keep", pause, &log, &ends];
    let own = own.map(str::to_owned).into_iter();
    own.chain(command.iter().cloned()).collect()
}

/// Ends a part and whoever keeps it running. Those that are still there after that are returned.
pub(super) async fn end(name: &str, process: Identity, grace: Duration) -> Vec<Identity> {
    if name == parts::KUBELET {
        end_kept(process, grace).await
    } else {
        process::end(&[process], grace).await
    }
}

/// The keeper first, so that nothing is started again; its program has the same session.
async fn end_kept(keeper: Identity, grace: Duration) -> Vec<Identity> {
    let left = process::end(&[keeper], Duration::ZERO).await;
    if left.is_empty() {
        process::end(&process::of_session(keeper), grace).await
    } else {
        left
    }
}

/// The process of a part, none while it waits to be started again.
pub(super) fn running(name: &str, process: Identity) -> Option<Identity> {
    if !process.lives() {
        return None;
    }
    if name != parts::KUBELET {
        return Some(process);
    }
    let is_it = |one: &Identity| {
        let command = process::command_line(one.pid);
        let program = command.first().map(Path::new).and_then(Path::file_name);
        program.is_some_and(|program| program == name)
    };
    // Nobody keeps one that an older version of this program started.
    let session = process::of_session(process);
    std::iter::once(process).chain(session).find(is_it)
}

/// When a part ended by itself since the cluster came up, and how; the oldest first.
pub(super) fn ends(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(file(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The scenarios read it, too.
fn file(name: &str) -> PathBuf {
    place::log(name).with_extension("ends")
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    struct Kept {
        keeper: Identity,
        ends: PathBuf,
        _folder: tempfile::TempDir,
    }

    fn keep(program: &str, pause: &str) -> Kept {
        let folder = tempfile::tempdir().unwrap();
        let (log, ends) = (folder.path().join("log"), folder.path().join("ends"));
        let program = ["bash", "-c", program].map(str::to_owned);
        let keeper = process::start(&kept(&program, pause, &log, &ends), &log).unwrap();
        Kept {
            keeper,
            ends,
            _folder: folder,
        }
    }

    impl Kept {
        async fn until(&self, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
            let limit = Instant::now() + LIMIT;
            loop {
                let text = std::fs::read_to_string(&self.ends).unwrap_or_default();
                let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                if holds(&lines) {
                    return lines;
                }
                assert!(Instant::now() < limit, "{lines:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test]
    async fn a_program_that_ends_is_started_again_and_every_end_is_written_down() {
        let kept = keep("echo 'panic: nil map' >&2; echo more; exit 2", "0");
        let lines = kept.until(|lines| lines.len() >= 2).await;
        assert_eq!(end_kept(kept.keeper, LIMIT).await, []);
        assert!(
            lines[0].ends_with(" exit code 2, panic: nil map"),
            "{lines:?}"
        );
    }

    #[tokio::test]
    async fn only_the_last_life_tells_why_it_ended() {
        let once = r#"if mkdir "$0.was" 2>/dev/null; then echo 'panic: a'; exit 2; fi; exit 3"#;
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let program = once.replace("$0", &mark.display().to_string());
        let kept = keep(&program, "0");
        let lines = kept.until(|lines| lines.len() >= 2).await;
        assert_eq!(end_kept(kept.keeper, LIMIT).await, []);
        assert!(lines[0].ends_with(" exit code 2, panic: a"), "{lines:?}");
        assert!(lines[1].ends_with(" exit code 3"), "{lines:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_ended_on_purpose_stays_so_and_is_not_counted() {
        let kept = keep("exec sleep 1000", "0");
        let limit = Instant::now() + LIMIT;
        let program = loop {
            let session = process::of_session(kept.keeper);
            let sleeps = |one: &&Identity| process::command_line(one.pid) == ["sleep", "1000"];
            if let Some(program) = session.iter().find(sleeps) {
                break *program;
            }
            assert!(Instant::now() < limit);
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(end_kept(kept.keeper, LIMIT).await, []);
        assert!(!program.lives() && process::of_session(kept.keeper).is_empty());
        assert!(!kept.ends.exists());
    }
}
