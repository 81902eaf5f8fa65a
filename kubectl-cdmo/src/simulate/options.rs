//! The options of `kubectl cdmo simulate`, and what their values may be.

use std::path::PathBuf;

use clap::Args as Arguments;
use simulation::contest::Contestant;
use simulation::law::Law;

/// Most GPUs of one model.
const MOST_GPUS: u32 = 100_000;
/// Highest load that is simulated.
const MOST_LOAD: f64 = 10.0;
/// From one load of a range to the next, in hundredths.
const STEP: u32 = 10;

/// What is simulated. See docs/simulate.md.
#[derive(Clone, Debug, Arguments)]
pub struct Simulate {
    /// GPUs: A30, A100-40GB, A100-80GB or H100-80GB, and how many; may be given several times.
    #[arg(long, value_name = "MODEL:COUNT", required = true, value_parser = gpus)]
    pub gpus: Vec<Gpus>,

    /// GPUs of one node; only some policies look at nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub gpus_per_node: u32,

    /// What pods ask for: uniform, small, big, bimodal, or shares such as 1g=0.5,3g.40gb=0.5.
    #[arg(long, value_name = "MIX", default_value = "uniform", value_parser = mix,
          conflicts_with = "trace")]
    pub mix: Mix,

    /// Pods from a CSV file in place of --mix, --load and --lifetimes: columns arrival, lifetime and
    /// profile or fraction, or a list of pods of the openb trace.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// Memory slices asked for at a time, as parts of all there are: 0.5,0.7..1.1 (steps of 0.1).
    #[arg(long, value_name = "LOADS", default_value = "0.7..1.1", value_parser = loads,
          conflicts_with = "trace")]
    pub load: Loads,

    /// How long pods run: exponential, uniform, log-normal, pareto or deterministic.
    #[arg(long, value_name = "LAW", default_value = "exponential", value_parser = law,
          conflicts_with = "trace")]
    pub lifetimes: Named<Law>,

    /// Who chooses the GPU; may be given several times. `ours` is
    /// what cdmo is made for: its own tables.
    #[arg(long = "policy", value_name = "NAME", value_parser = policy,
          default_values = ["ours", "MFI-all", "FF", "HAMi-2855-exact", "DRA"])]
    pub policies: Vec<Named<Contestant>>,

    /// Pods that find no place wait, and others go ahead of them; without it they are lost.
    #[arg(long)]
    pub queue: bool,

    /// Also says how many GPUs it takes to accept so many percent of the pods; takes longer.
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "queue")]
    pub accept: Option<f64>,

    /// How often each is simulated, with other pods each time.
    #[arg(long, value_name = "COUNT", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,

    /// Equal seeds give equal results.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    /// Writes tables (CSV) and plots (SVG) into this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// GPUs of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpus {
    /// Product name, as NVML says it.
    pub product: &'static str,
    /// How many.
    pub count: u32,
}

/// Something with the name that it was asked for by.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T> {
    /// The name.
    pub name: &'static str,
    /// What it names.
    pub value: T,
}

/// What pods ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Mix {
    /// A mix of [`simulation::demand::MIXES`], by its position.
    Known(usize),
    /// Profiles (`3g`, or `3g.40gb`) and their shares.
    Own(Vec<(String, f64)>),
}

/// Loads, ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Loads(pub Vec<f64>);

const MODELS: [(&str, &str); 4] = [
    ("A30", "NVIDIA A30"),
    ("A100-40GB", "NVIDIA A100-SXM4-40GB"),
    ("A100-80GB", "NVIDIA A100-SXM4-80GB"),
    ("H100-80GB", "NVIDIA H100 80GB HBM3"),
];

const MIXES: [&str; 4] = ["uniform", "small", "big", "bimodal"];

/// The name of a model on the command line, for its product name.
pub fn short(product: &str) -> &str {
    let found = MODELS.iter().find(|(_, known)| *known == product);
    found.map_or(product, |(short, _)| short)
}

fn names<T>(list: &[(&'static str, T)]) -> String {
    let names: Vec<&str> = list.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

fn gpus(text: &str) -> Result<Gpus, String> {
    let (model, count) = text
        .rsplit_once(':')
        .ok_or("write MODEL:COUNT, such as A100-80GB:16")?;
    let found = MODELS
        .iter()
        .find(|(short, product)| short.eq_ignore_ascii_case(model) || *product == model);
    let (_, product) = found.ok_or_else(|| {
        format!(
            "there is no table for {model:?}, only for {}",
            names(&MODELS)
        )
    })?;
    let count: u32 = count
        .parse()
        .map_err(|_| format!("{count:?} is no number of GPUs"))?;
    if !(1..=MOST_GPUS).contains(&count) {
        return Err(format!("give 1 to {MOST_GPUS} GPUs"));
    }
    Ok(Gpus { product, count })
}

fn mix(text: &str) -> Result<Mix, String> {
    let plain = text.strip_prefix("skew-").unwrap_or(text);
    if let Some(at) = MIXES.iter().position(|known| *known == plain) {
        return Ok(Mix::Known(at));
    }
    if !text.contains('=') {
        return Err(format!(
            "there are {}, or write shares such as 1g=0.5,3g=0.5",
            MIXES.join(", ")
        ));
    }
    let mut shares: Vec<(String, f64)> = Vec::new();
    for part in text.split(',') {
        let (name, share) = part
            .split_once('=')
            .ok_or_else(|| format!("{part:?} has no share; write PROFILE=SHARE"))?;
        let value: f64 = share
            .trim()
            .parse()
            .map_err(|_| format!("{share:?} is no number"))?;
        if !(0.0..=1e6).contains(&value) {
            return Err(format!("a share of {share} cannot be; give 0 to 1000000"));
        }
        let name = name.trim().to_owned();
        if shares.iter().any(|(known, _)| *known == name) {
            return Err(format!("{name} is there twice"));
        }
        shares.push((name, value));
    }
    if shares.iter().all(|(_, share)| *share <= 0.0) {
        return Err("nothing is asked for; give a share above 0".to_owned());
    }
    Ok(Mix::Own(shares))
}

fn loads(text: &str) -> Result<Loads, String> {
    // In hundredths, so that steps do not gather errors.
    let mut all: Vec<u32> = Vec::new();
    for part in text.split(',') {
        match part.split_once("..") {
            None => all.push(load(part)?),
            Some((from, to)) => {
                let (from, to) = (load(from)?, load(to)?);
                if from > to {
                    return Err(format!(
                        "the range {part:?} falls; write the lower load first"
                    ));
                }
                all.extend(
                    (0..)
                        .map(|n| from + n * STEP)
                        .take_while(|load| *load <= to),
                );
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(Loads(
        all.into_iter()
            .map(|load| f64::from(load) / 100.0)
            .collect(),
    ))
}

/// A load in hundredths.
fn load(text: &str) -> Result<u32, String> {
    let value: f64 = text
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is no load; give one such as 0.85"))?;
    if !(0.01..=MOST_LOAD).contains(&value) {
        return Err(format!(
            "a load of {text} cannot be simulated; give 0.01 to {MOST_LOAD}"
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 1000"
    )]
    let hundredths = (value * 100.0).round() as u32;
    Ok(hundredths)
}

fn law(text: &str) -> Result<Named<Law>, String> {
    find(text, &Law::SHOWN, "law")
}

fn policy(text: &str) -> Result<Named<Contestant>, String> {
    find(text, &Contestant::ALL, "policy")
}

fn find<T: Copy>(text: &str, list: &[(&'static str, T)], what: &str) -> Result<Named<T>, String> {
    let found = list
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    let (name, value) = found
        .copied()
        .ok_or_else(|| format!("there is no {what} of that name; there are {}", names(list)))?;
    Ok(Named { name, value })
}

fn percent(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "it is no number; give one such as 99".to_owned())?;
    if !(1.0..=99.99).contains(&value) {
        return Err("give 1 to 99.99".to_owned());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_single_ones_and_ranges_in_order() {
        assert_eq!(loads("0.9..1.1,0.5,1").unwrap().0, [0.5, 0.9, 1.0, 1.1]);
        assert_eq!(loads("0.7").unwrap().0, [0.7]);
        for wrong in ["", "a", "-1", "0", "11", "1.1..0.9", "NaN", "0.5..", "inf"] {
            assert!(loads(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mix_is_known_or_has_shares() {
        assert_eq!(mix("skew-big"), Ok(Mix::Known(2)));
        let own = mix("1g=1, 3g.40gb=2.5").unwrap();
        assert_eq!(
            own,
            Mix::Own(vec![("1g".into(), 1.0), ("3g.40gb".into(), 2.5)])
        );
        for wrong in [
            "large",
            "1g=",
            "1g=-1",
            "1g=0",
            "1g=1,1g=2",
            "1g=1,2g",
            "1g=NaN",
        ] {
            assert!(mix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn gpus_are_a_model_and_a_number() {
        let expected = Gpus {
            product: "NVIDIA A100-SXM4-80GB",
            count: 16,
        };
        assert_eq!(gpus("a100-80gb:16").unwrap(), expected);
        for wrong in [
            "A100-80GB",
            "A100-80GB:0",
            "A100-80GB:x",
            "T4:1",
            ":1",
            "A30:999999999",
        ] {
            assert!(gpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_else_all_are_named() {
        assert_eq!(policy("mfi").unwrap().name, "MFI");
        assert!(policy("best").unwrap_err().contains("BF-BI"));
        assert!(law("normal").unwrap_err().contains("log-normal"));
    }
}
