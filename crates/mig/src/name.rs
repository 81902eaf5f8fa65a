//! Names of profiles and of the resources that pods ask for.
//!
//! NVIDIA writes a profile `1g.5gb`, with the media engines it takes behind a sign: `1g.5gb+me`,
//! `1g.24gb+me.all`, `1g.24gb-me`, `1g.24gb+gfx`. A Kubernetes resource name knows no `+`, so
//! there it becomes a dot: `nvidia.com/mig-1g.5gb.me`.

use std::{fmt, str::FromStr};

/// What every MIG resource name starts with.
pub const RESOURCE_PREFIX: &str = "nvidia.com/mig-";

/// Resource name of a GPU that is not partitioned.
pub const GPU_RESOURCE: &str = "nvidia.com/gpu";

/// Which media or graphics engines a profile takes beside its compute and memory slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engines {
    /// Whatever belongs to the slices; nothing in the name.
    #[default]
    Shared,
    /// `+me`: the one set of media engines that a GPU can give to a small instance.
    Media,
    /// `+me.all`: all media engines; only `-me` instances may stand beside it.
    AllMedia,
    /// `-me`: none.
    NoMedia,
    /// `+gfx`: able to do graphics.
    Graphics,
}

impl Engines {
    const ALL: [Self; 5] = [
        Self::Shared,
        Self::Media,
        Self::AllMedia,
        Self::NoMedia,
        Self::Graphics,
    ];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Shared => "",
            Self::Media => "+me",
            Self::AllMedia => "+me.all",
            Self::NoMedia => "-me",
            Self::Graphics => "+gfx",
        }
    }

    const fn resource_suffix(self) -> &'static str {
        match self {
            Self::Shared => "",
            Self::Media => ".me",
            Self::AllMedia => ".me.all",
            Self::NoMedia => "-me",
            Self::Graphics => ".gfx",
        }
    }

    /// Whether instances with these two may not stand on one GPU (nvml.h: a GPU has one set of
    /// media engines for `+me`, and `+me.all` lets nothing but `-me` stand beside it).
    pub const fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Media, Self::Media) => true,
            (Self::AllMedia, other) | (other, Self::AllMedia) => !matches!(other, Self::NoMedia),
            _ => false,
        }
    }
}

/// Name of a GPU-instance profile, for example `3g.20gb` or `1g.5gb+me`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileName {
    compute_slices: u8,
    memory_gb: u16,
    engines: Engines,
}

impl ProfileName {
    /// A name of its parts; `compute_slices` is at least 1.
    pub const fn new(compute_slices: u8, memory_gb: u16, engines: Engines) -> Self {
        Self {
            compute_slices,
            memory_gb,
            engines,
        }
    }

    /// Compute slices, the number before `g`.
    pub const fn compute_slices(self) -> u8 {
        self.compute_slices
    }

    /// The number before `gb`: a name, not a size; 16 GiB of an H200 are called 18.
    pub const fn memory_gb(self) -> u16 {
        self.memory_gb
    }

    /// The engines behind the sign.
    pub const fn engines(self) -> Engines {
        self.engines
    }

    /// The resource that pods name to get one: `nvidia.com/mig-1g.5gb.me`.
    pub fn resource_name(self) -> String {
        format!(
            "{RESOURCE_PREFIX}{}g.{}gb{}",
            self.compute_slices,
            self.memory_gb,
            self.engines.resource_suffix()
        )
    }

    /// The profile that a resource name asks for.
    ///
    /// # Errors
    /// If the resource is not a MIG resource, or what follows the prefix is no profile.
    pub fn from_resource(resource: &str) -> Result<Self, ParseProfileError> {
        let name = resource
            .strip_prefix(RESOURCE_PREFIX)
            .ok_or_else(|| ParseProfileError::new(resource, Reason::Prefix))?;
        parse(name, Engines::resource_suffix).map_err(|why| ParseProfileError::new(resource, why))
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}g.{}gb{}",
            self.compute_slices,
            self.memory_gb,
            self.engines.suffix()
        )
    }
}

impl FromStr for ProfileName {
    type Err = ParseProfileError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        parse(name, Engines::suffix).map_err(|why| ParseProfileError::new(name, why))
    }
}

/// A string that is no profile name, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a MIG profile: {reason}")]
pub struct ParseProfileError {
    text: String,
    reason: Reason,
}

impl ParseProfileError {
    fn new(text: &str, reason: Reason) -> Self {
        // What users send is quoted back into Events and logs: keep it short.
        Self {
            text: text.chars().take(80).collect(),
            reason,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("MIG resources start with {RESOURCE_PREFIX}")]
    Prefix,
    #[error("expected a form like 3g.20gb")]
    Form,
    #[error("a number is missing, too large or written with leading zeros")]
    Number,
    #[error("parts of an instance (1c.3g.20gb) are not offered, ask for the whole 3g.20gb")]
    ComputePart,
    #[error(
        "the ending is none of +me, +me.all, -me, +gfx (in a resource name .me, .me.all, -me, .gfx)"
    )]
    Ending,
}

fn parse(name: &str, suffix: fn(Engines) -> &'static str) -> Result<ProfileName, Reason> {
    let (compute, rest) = name.split_once("g.").ok_or(Reason::Form)?;
    if compute.contains("c.") {
        return Err(Reason::ComputePart);
    }
    let (memory, ending) = rest.split_once("gb").ok_or(Reason::Form)?;
    let compute_slices = number(compute)?;
    if compute_slices == 0 {
        return Err(Reason::Number);
    }
    let memory_gb = number(memory)?;
    let engines = Engines::ALL
        .into_iter()
        .find(|e| suffix(*e) == ending)
        .ok_or(Reason::Ending)?;
    Ok(ProfileName {
        compute_slices,
        memory_gb,
        engines,
    })
}

/// Digits only and no leading zero, so that every name has one spelling.
fn number<N: FromStr>(digits: &str) -> Result<N, Reason> {
    let canonical =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if !canonical {
        return Err(Reason::Number);
    }
    digits.parse().map_err(|_| Reason::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_name() -> impl Strategy<Value = ProfileName> {
        (1u8.., any::<u16>(), 0..Engines::ALL.len())
            .prop_map(|(c, m, e)| ProfileName::new(c, m, Engines::ALL[e]))
    }

    proptest! {
        #[test]
        fn every_profile_name_is_read_back_as_printed(name in any_name()) {
            prop_assert_eq!(name.to_string().parse::<ProfileName>(), Ok(name));
        }

        #[test]
        fn every_resource_name_is_read_back_as_printed(name in any_name()) {
            prop_assert_eq!(ProfileName::from_resource(&name.resource_name()), Ok(name));
        }

        #[test]
        fn every_resource_name_is_a_valid_qualified_name(name in any_name()) {
            let resource = name.resource_name();
            let (_, local) = resource.split_once('/').unwrap();
            prop_assert!(local.len() <= 63);
            prop_assert!(local.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
            prop_assert!(local.ends_with(|c: char| c.is_ascii_alphanumeric()));
        }

        #[test]
        fn whatever_is_accepted_is_printed_the_same(text in "[0-9]{0,4}[gc]?\\.?[0-9g]{0,4}\\.?[0-9]{0,3}(gb)?[+.-]?(me|gfx)?(\\.all)?") {
            if let Ok(name) = text.parse::<ProfileName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn nothing_makes_the_parser_panic(text in "\\PC*") {
            let _ = text.parse::<ProfileName>();
            let _ = ProfileName::from_resource(&text);
            let _ = ProfileName::from_resource(&format!("{RESOURCE_PREFIX}{text}"));
        }
    }

    #[test]
    fn plus_becomes_a_dot_in_the_resource_name() {
        for (name, resource) in [
            ("1g.5gb", "nvidia.com/mig-1g.5gb"),
            ("1g.5gb+me", "nvidia.com/mig-1g.5gb.me"),
            ("1g.24gb+me.all", "nvidia.com/mig-1g.24gb.me.all"),
            ("1g.24gb+gfx", "nvidia.com/mig-1g.24gb.gfx"),
            ("1g.24gb-me", "nvidia.com/mig-1g.24gb-me"),
        ] {
            let parsed: ProfileName = name.parse().unwrap();
            assert_eq!(parsed.resource_name(), resource);
        }
    }

    #[test]
    fn the_two_spellings_are_not_mixed() {
        assert!("1g.5gb.me".parse::<ProfileName>().is_err());
        assert!(ProfileName::from_resource("nvidia.com/mig-1g.5gb+me").is_err());
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (resource, reason) in [
            ("nvidia.com/gpu", "start with nvidia.com/mig-"),
            ("nvidia.com/mig-", "a form like"),
            ("nvidia.com/mig-banana", "a form like"),
            ("nvidia.com/mig-0g.5gb", "a number"),
            ("nvidia.com/mig-01g.5gb", "a number"),
            ("nvidia.com/mig-999g.5gb", "a number"),
            ("nvidia.com/mig-3g.99999gb", "a number"),
            ("nvidia.com/mig-1c.3g.20gb", "ask for the whole"),
            ("nvidia.com/mig-3g.20gb.turbo", "the ending"),
        ] {
            let error = ProfileName::from_resource(resource)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(resource) && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn only_one_small_instance_gets_the_media_engines() {
        assert!(Engines::Media.excludes(Engines::Media));
        assert!(!Engines::Media.excludes(Engines::Shared));
        assert!(Engines::AllMedia.excludes(Engines::Shared));
        assert!(Engines::Graphics.excludes(Engines::AllMedia));
        assert!(!Engines::AllMedia.excludes(Engines::NoMedia));
    }
}
