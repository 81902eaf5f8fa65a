//! Work on all cores, with results that do not depend on how many there are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{anyhow, bail};

/// What `work` makes of each task, in the order of the tasks. Each task must depend on itself alone.
/// Ends early once `stop` is set.
pub(super) fn spread<T: Sync, R: Send>(
    tasks: &[T],
    threads: usize,
    stop: &AtomicBool,
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let one = || -> anyhow::Result<Vec<(usize, R)>> {
        let mut done = Vec::new();
        loop {
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(number) else {
                return Ok(done);
            };
            done.push((number, work(task)?));
        }
    };
    let mut all = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::with_capacity(tasks.len());
        for thread in threads {
            let done = thread.join().map_err(|_| anyhow!("a thread failed"))?;
            all.extend(done?);
        }
        anyhow::Ok(all)
    })?;
    all.sort_unstable_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_tasks_whatever_the_number_of_threads() {
        let tasks: Vec<u32> = (0..100).collect();
        let run = |threads| {
            let stop = AtomicBool::new(false);
            spread(&tasks, threads, &stop, |task| Ok(task * 3)).unwrap()
        };
        let expected: Vec<u32> = tasks.iter().map(|task| task * 3).collect();
        assert_eq!(run(1), expected);
        assert_eq!(run(7), expected);
    }

    #[test]
    fn an_error_and_an_interrupt_end_it() {
        let stop = AtomicBool::new(false);
        let failed: anyhow::Result<Vec<()>> = spread(&[1], 2, &stop, |_| bail!("no"));
        assert_eq!(failed.unwrap_err().to_string(), "no");
        stop.store(true, Ordering::Relaxed);
        assert!(spread(&[1], 2, &stop, |_| Ok(())).is_err());
    }
}
