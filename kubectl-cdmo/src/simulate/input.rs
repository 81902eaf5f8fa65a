//! GPUs and pods, from the options and from traces.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mig::{GpuModel, ProfileIndex, ProfileName};
use placement::{Geometry, ProfileId};
use simulation::capacity::{Arrival, Part, Want};
use simulation::demand::MIXES;
use simulation::trace::{Arrivals, Mapping, Pods, TraceError};

use super::options::{Mix, Simulate as Options, short};

/// Most pods of a trace, so that memory stays below a gigabyte.
const MOST_PODS: usize = 20_000_000;
const TOO_MANY: Wrong =
    Wrong::Problem("it asks for more than 20000000 instances; take a part of it");

/// Of the first line so much is looked at to tell what trace it is.
const HEAD: u64 = 1 << 16;

/// Shares are whole numbers of this sum.
const WHOLE: f64 = 1_000_000.0;

/// Why the options cannot be simulated: the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file that cannot be read.
    #[error("failed to read {}: {why}; check the path after --trace", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A file that is no trace.
    #[error("{}: {source}", file.display())]
    Trace {
        /// The file.
        file: PathBuf,
        /// What is wrong, with the line.
        source: TraceError,
    },
    /// A trace that says nothing.
    #[error("{}: {problem}", file.display())]
    Useless {
        /// The file.
        file: PathBuf,
        /// What is missing and what to do.
        problem: &'static str,
    },
    /// A profile that the first model does not have.
    #[error("--mix: {model} has no profile {name}; it has {known}")]
    Profile {
        /// The model.
        model: String,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A mix that is defined for six profiles.
    #[error(
        "--mix: {name} is defined for GPUs with eight memory slices, and {model} comes first; write \
         shares such as 1g=0.5,2g=0.5"
    )]
    Mix {
        /// The mix.
        name: &'static str,
        /// The model.
        model: String,
    },
    /// No table.
    #[error("--gpus: {model} cannot be simulated: {why}")]
    Model {
        /// The model.
        model: String,
        /// Why.
        why: String,
    },
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Input {
    /// The GPUs.
    pub parts: Vec<Part>,
    /// Names of their models, short.
    pub models: Vec<&'static str>,
    /// What is asked for.
    pub wants: Vec<Want>,
    /// How often, in parts of the sum.
    pub shares: Vec<u32>,
    /// The pods of a trace, in the order of their times; `None` if they are drawn.
    pub trace: Option<Vec<Arrival>>,
    /// What it all is, in a few words.
    pub words: String,
}

impl Input {
    /// Reads what the options name.
    pub fn read(options: &Options) -> Result<Self, InputError> {
        let mut models = Vec::new();
        let mut parts = Vec::new();
        for gpus in &options.gpus {
            let failed = |why: String| InputError::Model {
                model: gpus.product.to_owned(),
                why,
            };
            let model = GpuModel::known(gpus.product).ok_or_else(|| failed("no table".into()))?;
            let geometry = Geometry::new(&model).map_err(|why| failed(why.to_string()))?;
            parts.push(Part {
                geometry: Arc::new(geometry),
                gpus: gpus.count,
                per_node: options.gpus_per_node,
            });
            models.push(model);
        }
        let names: Vec<&'static str> = options
            .gpus
            .iter()
            .map(|gpus| short(gpus.product))
            .collect();
        let (Some(first), Some(part)) = (models.first(), parts.first()) else {
            return Err(InputError::Model {
                model: "nothing".to_owned(),
                why: "no GPU is named".to_owned(),
            });
        };
        let (profiles, shares, trace, words) = if let Some(file) = &options.trace {
            let (profiles, pods) = read_trace(file, first, &part.geometry)?;
            let mut shares = vec![0_u32; profiles.len()];
            for pod in &pods {
                shares[pod.want] = shares[pod.want].saturating_add(1);
            }
            let words = format!("{} pods of {}", pods.len(), file.display());
            (profiles, shares, Some(pods), words)
        } else {
            let (profiles, shares, words) = of_mix(&options.mix, first, &part.geometry)?;
            let words = format!("mix {words}, {} lifetimes", options.lifetimes.name);
            (profiles, shares, None, words)
        };
        let wants = profiles.iter().map(|profile| want(*profile, &parts));
        Ok(Self {
            wants: wants.collect(),
            parts,
            models: names,
            shares,
            trace,
            words,
        })
    }

    /// All GPUs.
    pub fn gpus(&self) -> u32 {
        self.parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(part.gpus))
    }

    /// When the last pod of a trace comes; 0 without.
    pub fn last(&self) -> f64 {
        let last = self.trace.as_ref().and_then(|pods| pods.last());
        last.map_or(0.0, |pod| pod.time)
    }
}

/// A profile of the first model, and on the others the smallest that is at least as good.
fn want(profile: ProfileId, parts: &[Part]) -> Want {
    let name = parts
        .first()
        .map(|part| part.geometry.profile(profile).name);
    let serves = |part: &Part| {
        let name = name?;
        let geometry = &part.geometry;
        geometry.find(&name).or_else(|| {
            let fits = geometry.profile_ids().filter(|id| {
                let other = geometry.profile(*id).name;
                other.compute_slices() >= name.compute_slices()
                    && other.memory_gb() >= name.memory_gb()
            });
            fits.min_by_key(|id| geometry.profile(*id).size)
        })
    };
    Want {
        name: name.map(|name| name.to_string()).unwrap_or_default(),
        profiles: parts.iter().map(serves).collect(),
    }
}

type Drawn = (Vec<ProfileId>, Vec<u32>, String);

fn of_mix(mix: &Mix, model: &GpuModel, geometry: &Geometry) -> Result<Drawn, InputError> {
    match mix {
        Mix::Known(at) => {
            let (name, parts) = MIXES[*at % MIXES.len()];
            let profiles: Vec<ProfileId> = geometry.profile_ids().collect();
            let shares = if *at == 0 {
                vec![1; profiles.len()]
            } else if profiles.len() == parts.len() {
                parts.to_vec()
            } else {
                let model = model.name.clone();
                return Err(InputError::Mix { name, model });
            };
            Ok((profiles, shares, name.to_owned()))
        }
        Mix::Own(list) => {
            let total: f64 = list.iter().map(|(_, share)| share).sum();
            let (mut profiles, mut shares, mut words) = (Vec::new(), Vec::new(), Vec::new());
            for (name, share) in list.iter().filter(|(_, share)| *share > 0.0) {
                let profile = named(name, geometry).ok_or_else(|| InputError::Profile {
                    model: model.name.clone(),
                    name: name.chars().take(40).collect(),
                    known: known(geometry),
                })?;
                profiles.push(profile);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a part of a million"
                )]
                shares.push(((share / total * WHOLE).round() as u32).max(1));
                let name = geometry.profile(profile).name;
                words.push(format!("{name} {:.0} %", 100.0 * share / total));
            }
            Ok((profiles, shares, words.join(", ")))
        }
    }
}

/// `3g.40gb` is that profile, `3g` the one with three compute slices and least memory.
fn named(name: &str, geometry: &Geometry) -> Option<ProfileId> {
    if let Ok(full) = name.parse::<ProfileName>() {
        return geometry.find(&full);
    }
    let compute: u8 = name.strip_suffix('g')?.parse().ok()?;
    let of_size = geometry
        .profile_ids()
        .filter(|id| geometry.profile(*id).name.compute_slices() == compute);
    of_size.min_by_key(|id| geometry.profile(*id).size)
}

fn known(geometry: &Geometry) -> String {
    let names = geometry
        .profiles()
        .iter()
        .map(|shape| shape.name.to_string());
    names.collect::<Vec<_>>().join(", ")
}

/// Profiles that were asked for, in the order in which they were first met.
#[derive(Default)]
struct Met(Vec<ProfileId>);

impl Met {
    fn want(&mut self, profile: ProfileId) -> usize {
        let known = self.0.iter().position(|known| *known == profile);
        known.unwrap_or_else(|| {
            self.0.push(profile);
            self.0.len() - 1
        })
    }
}

type Replayed = (Vec<ProfileId>, Vec<Arrival>);

fn read_trace(file: &Path, model: &GpuModel, geometry: &Geometry) -> Result<Replayed, InputError> {
    let failed = |error: &std::io::Error| InputError::Read {
        file: file.to_owned(),
        why: error.to_string(),
    };
    let mut reader = BufReader::new(File::open(file).map_err(|error| failed(&error))?);
    let mut first = Vec::new();
    let mut head = reader.by_ref().take(HEAD);
    let read = head.read_until(b'\n', &mut first);
    read.map_err(|error| failed(&error))?;
    let is_openb = String::from_utf8_lossy(&first)
        .to_lowercase()
        .contains("gpu_milli");
    let all = Cursor::new(first).chain(reader);
    let mut met = Met::default();
    let read = if is_openb {
        openb(all, model, geometry, &mut met)
    } else {
        own(all, model, geometry, &mut met)
    };
    let useless = |problem| InputError::Useless {
        file: file.to_owned(),
        problem,
    };
    let pods = read.map_err(|why| match why {
        Wrong::Trace(TraceError::Read(error)) => failed(&error),
        Wrong::Trace(source) => InputError::Trace {
            file: file.to_owned(),
            source,
        },
        Wrong::Problem(problem) => useless(problem),
    })?;
    if pods.is_empty() {
        return Err(useless(
            "none of its pods asks for a GPU, so there is nothing to simulate",
        ));
    }
    Ok((met.0, pods))
}

enum Wrong {
    Trace(TraceError),
    Problem(&'static str),
}

impl From<TraceError> for Wrong {
    fn from(error: TraceError) -> Self {
        Self::Trace(error)
    }
}

/// An instance with engines of its own is placed as the plain one.
fn plain(index: ProfileIndex, model: &GpuModel, geometry: &Geometry) -> Option<ProfileId> {
    geometry.of_model(index).or_else(|| {
        let name = model.profile(index)?.name;
        geometry.profile_ids().find(|id| {
            let other = geometry.profile(*id).name;
            other.compute_slices() == name.compute_slices() && other.memory_gb() == name.memory_gb()
        })
    })
}

const NO_PROFILE: Wrong = Wrong::Problem("it asks for a profile that cannot be placed");

fn own(
    reader: impl Read,
    model: &GpuModel,
    geometry: &Geometry,
    met: &mut Met,
) -> Result<Vec<Arrival>, Wrong> {
    let mut pods = Vec::new();
    for row in Arrivals::new(reader, model)? {
        let row = row?;
        let profile = plain(row.profile, model, geometry).ok_or(NO_PROFILE)?;
        let pod = Arrival {
            time: row.arrival,
            lifetime: row.lifetime.unwrap_or(f64::INFINITY),
            want: met.want(profile),
        };
        if pods.len() + usize::try_from(row.count).unwrap_or(MOST_PODS) > MOST_PODS {
            return Err(TOO_MANY);
        }
        pods.extend((0..row.count).map(|_| pod));
    }
    Ok(pods)
}

fn openb(
    reader: impl Read,
    model: &GpuModel,
    geometry: &Geometry,
    met: &mut Met,
) -> Result<Vec<Arrival>, Wrong> {
    let mut pods = Vec::new();
    for pod in Pods::new(reader)? {
        let pod = pod?;
        if pod.gpus == 0 {
            continue;
        }
        let created = pod.created.ok_or(Wrong::Problem(
            "a pod has no creation_time, so it is not known when it comes; add the column",
        ))?;
        let profile = Mapping::Compute.profile(model, pod.gpu_milli);
        let profile = profile
            .and_then(|index| geometry.of_model(index))
            .ok_or(NO_PROFILE)?;
        let one = Arrival {
            time: created,
            lifetime: pod
                .deleted
                .map_or(f64::INFINITY, |deleted| deleted - created),
            want: met.want(profile),
        };
        if pods.len() + usize::try_from(pod.gpus).unwrap_or(MOST_PODS) > MOST_PODS {
            return Err(TOO_MANY);
        }
        pods.extend((0..pod.gpus).map(|_| one));
    }
    pods.sort_by(|one, other| one.time.total_cmp(&other.time));
    Ok(pods)
}
