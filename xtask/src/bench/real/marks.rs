//! When one pod reached which stage.

use std::time::Duration;

use super::logs::Line;

/// Times since the pod's creation; none if it was not seen to get there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Marks {
    /// The controller saw the pod.
    pub(super) seen: Option<Duration>,
    /// It decided what to make, and where.
    pub(super) planned: Option<Duration>,
    /// NVML had made it, and the agent began to offer it.
    pub(super) created: Option<Duration>,
    /// The kubelet was seen to know it.
    pub(super) known: Option<Duration>,
    /// Node status counted it.
    pub(super) patched: Option<Duration>,
    /// The pod's annotation was written.
    pub(super) annotated: Option<Duration>,
    /// The scheduler had bound the pod.
    pub(super) bound: Option<Duration>,
    /// The kubelet asked for the device, and the grant was written down.
    pub(super) allocated: Option<Duration>,
    /// The pod ran.
    pub(super) running: Option<Duration>,
}

/// Reads one mark.
type Stage = (&'static str, fn(&Marks) -> Option<Duration>);

impl Marks {
    /// All of them, in the order in which they are usually reached.
    pub(super) const STAGES: [Stage; 9] = [
        ("seen", |marks| marks.seen),
        ("planned", |marks| marks.planned),
        ("created", |marks| marks.created),
        ("kubelet knows", |marks| marks.known),
        ("status patched", |marks| marks.patched),
        ("pod re-activated", |marks| marks.annotated),
        ("bound", |marks| marks.bound),
        ("allocated", |marks| marks.allocated),
        ("running", |marks| marks.running),
    ];

    /// Adds what the programs' logs say about a pod (`namespace/name`) that was created at a moment
    /// (since the Unix epoch), and before the next one was.
    pub(super) fn read(&mut self, pod: &str, created: Duration, next: Duration, lines: &[Line]) {
        for line in lines
            .iter()
            .filter(|line| (created..next).contains(&line.at))
        {
            let mark = match line.message.as_str() {
                "seen" if line.pod == pod => &mut self.seen,
                text if line.pod == pod && text.starts_with("Making ") => &mut self.planned,
                text if line.pod == pod && text.contains(" ready on node ") => &mut self.patched,
                "annotated" if line.pod == pod => &mut self.annotated,
                "Acting" if line.action.starts_with("Offer ") => &mut self.created,
                "Plan" if line.stage == "done" => &mut self.known,
                "Granted" => &mut self.allocated,
                _ => continue,
            };
            mark.get_or_insert(line.at.saturating_sub(created));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_read_off_the_line_that_tells_it() {
        let ms = Duration::from_millis;
        let line = |at: u64, message: &str| Line {
            at: ms(at),
            message: message.to_owned(),
            ..Line::default()
        };
        let of_pod = |at, message| Line {
            pod: "bench/one".to_owned(),
            ..line(at, message)
        };
        let lines = [
            line(900, "Granted"),
            of_pod(1001, "seen"),
            of_pod(1003, "Making 1g.5gb at slice 0 on GPU 0 (GPU-a) of node n"),
            Line {
                action: "Offer { op: 1 }".to_owned(),
                ..line(1008, "Acting")
            },
            Line {
                stage: "done".to_owned(),
                ..line(1012, "Plan")
            },
            of_pod(
                1016,
                "1x nvidia.com/mig-1g.5gb ready on node n: planned in 2 ms",
            ),
            Line {
                pod: "bench/other".to_owned(),
                ..line(1017, "annotated")
            },
            of_pod(1020, "annotated"),
            line(1030, "Granted"),
            line(2001, "Granted"),
        ];
        let mut marks = Marks::default();
        marks.read("bench/one", ms(1000), ms(2000), &lines);
        let expected = [1, 3, 8, 12, 16, 20].map(|at| Some(ms(at)));
        let read = Marks::STAGES.map(|(_, read)| read(&marks));
        assert_eq!(read[..6], expected);
        assert_eq!(read[6..], [None, Some(ms(30)), None]);
    }
}
