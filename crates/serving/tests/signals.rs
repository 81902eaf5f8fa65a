//! Signals, sent to a child process: this test binary, started again with an environment variable.

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{BufRead, BufReader},
        os::unix::process::ExitStatusExt,
        process::{Child, Command, Stdio},
    };

    const CHILD: &str = "SERVING_SIGNALS_CHILD";

    /// A daemon that is asked to stop and then hangs.
    async fn hang() {
        let shutdown = serving::shutdown_on_signals().unwrap();
        println!("\nlistening");
        shutdown.cancelled().await;
        println!("\nstopping");
        std::future::pending::<()>().await;
    }

    fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, word: &str) {
        assert!(
            lines.any(|line| line.unwrap() == word),
            "the child ended before it said {word}"
        );
    }

    fn send(child: &Child, signal: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {}", child.id())])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    #[test]
    fn the_first_signal_asks_and_the_second_aborts() {
        if env::var_os(CHILD).is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(hang());
            return;
        }
        for (first, second) in [("TERM", "INT"), ("INT", "TERM")] {
            let mut child = Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "tests::the_first_signal_asks_and_the_second_aborts",
                    "--nocapture",
                ])
                .env(CHILD, "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            wait_for(&mut lines, "listening");
            send(&child, first);
            wait_for(&mut lines, "stopping");
            send(&child, second);
            let status = child.wait().unwrap();
            assert_eq!((status.code(), status.signal()), (Some(143), None));
        }
    }
}
