//! `kubectl cdmo explain`: how things stand with one pod.

use std::fmt::Write as _;

use gpu_picture::style::{bad, busy, good, paint, strong};
use status_report::{Instance, Node, PodRef, Report};

use crate::age::age;
use crate::args::Explain as Options;
use crate::error::Error;
use crate::picture;
use crate::screen::Screen;
use crate::source::Source;
use crate::text::Page;

/// Asks, and shows the answer.
pub async fn run(options: Options) -> Result<(), Error> {
    let mut source = Source::open(&options.cluster).await?;
    let pod = named(&options.pod, source.default_namespace())?;
    let report = source.fetch(&[], None).await?.report;
    let mut screen = Screen::default();
    let (width, cut) = screen.width();
    let page = Page {
        width,
        cut,
        now: report.time,
    };
    match text(&page, &report, &pod) {
        Some(text) => {
            screen.put(&text);
            Ok(())
        }
        None => Err(Error::NoSuchPod {
            pod: pod.to_string(),
        }),
    }
}

/// Which pod is meant.
fn named(text: &str, namespace: &str) -> Result<PodRef, Error> {
    // As in `kubectl get pod/name`.
    let text = text.strip_prefix("pod/").unwrap_or(text);
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err(Error::PodName {
            name: text.to_owned(),
        });
    }
    Ok(PodRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// What is known of a pod; nothing if it neither waits nor holds anything.
fn text(page: &Page, report: &Report, pod: &PodRef) -> Option<String> {
    let mut text = String::new();
    let now = page.now;
    if let Some(waiting) = report.waiting.iter().find(|waiting| waiting.pod == *pod) {
        let wants = waiting
            .wants
            .iter()
            .map(|(resource, count)| format!("{count}x {}", picture::short(resource)));
        let wants = wants.collect::<Vec<_>>().join(", ");
        let since = age(waiting.since, now);
        let sentence = format!("{pod} has waited {since} for {wants}.");
        text.push_str(&page.wrapped("", "", &sentence));
        let style = match waiting.reason.as_str() {
            "New" | "Ready" | "Planned" | "Waiting" => busy(),
            _ => bad(),
        };
        text.push_str(&page.point(
            style,
            "-",
            &format!("{}: {}", waiting.reason, waiting.message),
        ));
        let ahead = report.waiting.iter().take_while(|other| other.pod != *pod);
        let ahead = ahead.filter(|other| other.wants == waiting.wants).count();
        if ahead > 0 {
            let others = if ahead == 1 { "pod asks" } else { "pods ask" };
            let sentence = format!("{ahead} older {others} for the same.");
            text.push_str(&page.point(busy(), "-", &sentence));
        }
    }
    let held = held(report, pod);
    if text.is_empty() && !held.is_empty() {
        let _ = writeln!(text, "{} holds:", paint(strong(), &pod.to_string()));
    }
    for (node, gpu, instance) in held {
        let what = picture::offered(instance);
        let since = instance.since.map(|since| age(since, now));
        let since = since.map_or_else(String::new, |age| format!(", for {age}"));
        let slices = match instance.size {
            0 => String::new(),
            _ => format!(" slices {}", crate::text::slices(instance)),
        };
        let sentence = format!("{what} on node {}, GPU {gpu}{slices}{since}", node.name);
        text.push_str(&page.point(good(), "-", &sentence));
        if let Some(reason) = &instance.reason {
            text.push_str(&page.point(bad(), "!", reason));
        }
    }
    for node in &report.nodes {
        for operation in node.operations.iter().filter(|o| o.pod == *pod) {
            let sentence = format!("on node {}: {}", node.name, page.operation(node, operation));
            text.push_str(&page.point(busy(), ">", &sentence));
        }
    }
    (!text.is_empty()).then_some(text)
}

/// What a pod holds: node, NVML's index of the GPU, device.
fn held<'a>(report: &'a Report, pod: &PodRef) -> Vec<(&'a Node, u32, &'a Instance)> {
    let devices = report.nodes.iter().flat_map(|node| {
        node.gpus.iter().flat_map(move |gpu| {
            let devices = gpu.instances.iter().chain(&gpu.whole);
            devices.map(move |device| (node, gpu.index, device))
        })
    });
    devices
        .filter(|(_, _, device)| device.holders.contains(pod))
        .collect()
}

#[cfg(test)]
mod tests;
