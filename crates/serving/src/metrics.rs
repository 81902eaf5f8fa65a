//! Metrics that know what they are called, so that a test can hold them against the documentation.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// A metric as it is documented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// Its labels.
    pub labels: Vec<&'static str>,
    /// What it says of itself.
    pub help: &'static str,
}

/// Makes metrics, enters them into a registry, and remembers them: those with labels are served only
/// once they have a value, so the registry alone cannot tell which there are.
#[derive(Debug)]
pub struct Registrar<'a> {
    registry: &'a Registry,
    described: Vec<Described>,
}

impl<'a> Registrar<'a> {
    /// For this registry.
    pub fn new(registry: &'a Registry) -> Self {
        Self {
            registry,
            described: Vec::new(),
        }
    }

    /// What was made, in order.
    pub fn described(self) -> Vec<Described> {
        self.described
    }

    /// A counter.
    ///
    /// # Errors
    /// If the name is taken; so for all others.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        self.enter(counter, name, &[], help)
    }

    /// A counter for each combination of labels.
    pub fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.enter(counters, name, labels, help)
    }

    /// A gauge.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::new(name, help)?;
        self.enter(gauge, name, &[], help)
    }

    /// A gauge for each combination of labels.
    pub fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.enter(gauges, name, labels, help)
    }

    /// A histogram for each combination of labels; bounds in seconds.
    pub fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        bounds: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.enter(HistogramVec::new(opts, labels)?, name, labels, help)
    }

    fn enter<C: Collector + Clone + 'static>(
        &mut self,
        collector: C,
        name: &'static str,
        labels: &[&'static str],
        help: &'static str,
    ) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        self.described.push(Described {
            name,
            labels: labels.to_vec(),
            help,
        });
        Ok(collector)
    }
}

/// Lines of a documentation's section that describe metrics, by name: those of its tables whose
/// first column is a name in backquotes.
pub fn documented<'d>(document: &'d str, section: &str) -> Vec<(&'d str, &'d str)> {
    let heading = format!("{section}\n");
    let sections = document.split("\n## ");
    let body = sections
        .skip(1)
        .find_map(|text| text.strip_prefix(&heading));
    let lines = body.unwrap_or_default().lines();
    let row = |line: &'d str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` |")?;
        Some((name, rest))
    };
    lines.filter_map(row).collect()
}

/// How metrics and the section of a documentation that should describe them differ; nothing if they
/// do not.
pub fn undocumented(described: &[Described], document: &str, section: &str) -> Vec<String> {
    let rows = documented(document, section);
    let mut faults = Vec::new();
    for metric in described {
        let Some((_, row)) = rows.iter().find(|(name, _)| *name == metric.name) else {
            faults.push(format!("{} is not documented", metric.name));
            continue;
        };
        for label in &metric.labels {
            if !row.contains(&format!("`{label}`")) {
                faults.push(format!(
                    "label {label} of {} is not documented",
                    metric.name
                ));
            }
        }
        if metric.help.is_empty() {
            faults.push(format!("{} has no help", metric.name));
        }
    }
    for (name, _) in rows {
        if !described.iter().any(|metric| metric.name == name) {
            faults.push(format!("{name} is documented but not served"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
# Metrics

## Here

| name | labels | what |
|---|---|---|
| `one_total` | `code` | one |

## There

| `two` | | two |
";

    #[test]
    fn each_section_is_held_against_its_own_metrics() {
        let registry = Registry::new();
        let mut registrar = Registrar::new(&registry);
        registrar.counters("one_total", "One.", &["code"]).unwrap();
        let here = registrar.described();
        assert!(undocumented(&here, DOCUMENT, "Here").is_empty());
        let faults = undocumented(&here, DOCUMENT, "There");
        assert_eq!(
            faults,
            [
                "one_total is not documented",
                "two is documented but not served"
            ]
        );
    }

    #[test]
    fn a_label_that_nobody_wrote_down_is_found() {
        let registry = Registry::new();
        let mut registrar = Registrar::new(&registry);
        registrar
            .counters("one_total", "One.", &["code", "node"])
            .unwrap();
        assert!(registrar.counter("one_total", "Again.").is_err());
        let faults = undocumented(&registrar.described(), DOCUMENT, "Here");
        assert_eq!(faults, ["label node of one_total is not documented"]);
    }

    #[test]
    fn what_every_process_serves_is_documented() {
        let document = include_str!("../../../docs/metrics.md");
        let registry = crate::http::registry();
        let mut served: Vec<_> = registry
            .gather()
            .iter()
            .map(|family| family.name().to_owned())
            .collect();
        served.sort();
        let mut written: Vec<_> = documented(document, "All programs")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        written.sort_unstable();
        assert_eq!(written, served);
    }
}
