//! An amount of GPUs, as exact as anybody can write it in Kubernetes.

use std::{fmt, iter::Sum, ops::Add, str::FromStr};

use super::Class;

/// The most GPUs that one machine has: NVIDIA's driver manages no more (nvlimits.h,
/// `NV_MAX_DEVICES`).
pub const MAX_GPUS: u32 = 32;

const ONE: u64 = 1_000_000_000;

/// An amount of GPUs: a part of one, or several; counted in billionths, the finest that a Kubernetes
/// quantity knows. (Thousandths would not do: the smallest share in ClearML's documents is 0.0625.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u64);

impl Share {
    /// No GPU.
    pub const ZERO: Self = Self(0);

    /// Of billionths of a GPU.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Of whole GPUs, at most what can be counted.
    pub const fn whole(gpus: u32) -> Self {
        Self(ONE.saturating_mul(gpus as u64))
    }

    /// In billionths of a GPU.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// That many of it, at most what can be counted.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// The class that serves it, rounded up, and how many of that; more than one only of whole GPUs.
    ///
    /// # Errors
    /// For nothing, for more than one GPU that are not whole ones, and for more than [`MAX_GPUS`].
    pub fn class(self) -> Result<(Class, u32), Unservable> {
        if self.0 == 0 {
            return Err(Unservable::Nothing);
        }
        if let Some(class) = Class::ALL.into_iter().find(|class| self <= class.share()) {
            return Ok((class, 1));
        }
        if self > Self::whole(MAX_GPUS) {
            return Err(Unservable::TooMany);
        }
        if !self.0.is_multiple_of(ONE) {
            return Err(Unservable::NotWhole);
        }
        let gpus = u32::try_from(self.0 / ONE).map_err(|_| Unservable::TooMany)?;
        Ok((Class::Whole, gpus))
    }
}

impl Add for Share {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Share {
    fn sum<I: Iterator<Item = Self>>(shares: I) -> Self {
        shares.fold(Self::ZERO, Add::add)
    }
}

/// The shortest decimal: `0.5`, `0.0625`, `2`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / ONE, self.0 % ONE);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{rest:09}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// A share that no class serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unservable {
    /// It is zero.
    #[error("it is nothing")]
    Nothing,
    /// It is more than one GPU, but not a whole number.
    #[error("above 1 only whole numbers of GPUs are served")]
    NotWhole,
    /// It is more than [`MAX_GPUS`].
    #[error("no machine has more than {MAX_GPUS} GPUs")]
    TooMany,
}

/// The text is no decimal between 0 and 18 billion with at most nine decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal like 0.5")]
pub struct NoDecimal;

/// Digits, with a point in between or not; no sign, no exponent.
impl FromStr for Share {
    type Err = NoDecimal;

    fn from_str(text: &str) -> Result<Self, NoDecimal> {
        let (whole, decimals) = match text.split_once('.') {
            Some((_, "")) => return Err(NoDecimal),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 9 {
            return Err(NoDecimal);
        }
        let whole: u64 = whole.parse().map_err(|_| NoDecimal)?;
        let decimals: u64 = format!("{decimals:0<9}").parse().map_err(|_| NoDecimal)?;
        whole
            .checked_mul(ONE)
            .and_then(|nanos| nanos.checked_add(decimals))
            .map(Self)
            .ok_or(NoDecimal)
    }
}
