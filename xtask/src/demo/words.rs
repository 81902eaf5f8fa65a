//! How pods, devices and times are put into words; shared by the live view, the lines and the
//! report.

use std::time::Duration;

use testbed::journey::{Grant, Journey};

/// What a pod asks for, for example `2x 3g.20gb, 1g.5gb`.
pub(crate) fn asks(journey: &Journey) -> String {
    let each = journey.asks().into_iter().map(|(resource, count)| {
        let name = device_name(resource);
        if count == 1 {
            name
        } else {
            format!("{count}x {name}")
        }
    });
    let all: Vec<String> = each.collect();
    if all.is_empty() {
        "no GPU".to_owned()
    } else {
        all.join(", ")
    }
}

/// `3g.20gb` for `nvidia.com/mig-3g.20gb`, `GPU` for a whole one; other names as they are.
fn device_name(resource: &str) -> String {
    if resource == mig::GPU_RESOURCE {
        return "GPU".to_owned();
    }
    let profile = mig::ProfileName::from_resource(resource);
    profile.map_or_else(|_| resource.to_owned(), |profile| profile.to_string())
}

/// Where a pod's devices are, for example `a/1 4-7` (node, GPU, memory slices).
pub(crate) fn places(journey: &Journey) -> String {
    let node = journey.node.as_deref().unwrap_or_default();
    let places: Vec<String> = journey
        .grants
        .iter()
        .map(|grant| place(node, grant))
        .collect();
    if places.is_empty() {
        node.to_owned()
    } else {
        places.join(" ")
    }
}

fn place(node: &str, grant: &Grant) -> String {
    match &grant.device {
        Some(device) if device.profile.is_empty() => format!("{node}/{}", device.gpu_index),
        Some(device) => {
            let (first, last) = (device.start, device.start + device.size.saturating_sub(1));
            let slices = if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            };
            format!("{node}/{} {slices}", device.gpu_index)
        }
        None => format!("{node}/?"),
    }
}

/// How far a pod is, in a word.
pub(crate) fn state(journey: &Journey) -> String {
    match journey.phase.as_str() {
        "Succeeded" => "Completed".to_owned(),
        "Failed" => "Failed".to_owned(),
        _ if journey.is_refused() => "Refused".to_owned(),
        _ if journey.ended.is_some() => "Deleted".to_owned(),
        _ => journey.stage().to_string(),
    }
}

/// `0.612 s`, `12.3 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.3} s")
    } else {
        format!("{seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_four_digits_at_most() {
        assert_eq!(seconds(Duration::from_millis(612)), "0.612 s");
        assert_eq!(seconds(Duration::from_millis(12_345)), "12.3 s");
    }

    #[test]
    fn resources_are_named_as_people_say_them() {
        assert_eq!(device_name("nvidia.com/mig-1g.5gb.me"), "1g.5gb+me");
        assert_eq!(device_name("nvidia.com/gpu"), "GPU");
        assert_eq!(
            device_name("nvidia.com/mig-nonsense"),
            "nvidia.com/mig-nonsense"
        );
    }
}
