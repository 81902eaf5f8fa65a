//! What a GPU is worth to the demands to come.
//!
//! Idle instances are given up when something needs their slices, so that only what is firm counts: the
//! slices of instances in use or about to be. For every set of those there is one value, from the
//! table that [`placement::policy::ours`] has for GPUs cut like this one. Where there is none, free
//! placements are counted, each by its slices.

use mig::{GpuModel, SliceMask};
use placement::{Geometry, placements, policy};

/// Worth of an empty GPU of any model, so that those of different models can be compared.
pub(crate) const EMPTY: i64 = 1_000_000;

/// What GPUs of a model are worth, by the slices that are firmly taken.
#[derive(Clone, Debug)]
pub(crate) struct Worth {
    by_mask: Vec<i64>,
    slices: u8,
}

impl Worth {
    /// The worth of GPUs of that model.
    pub(crate) fn new(model: &GpuModel) -> Self {
        let values = Geometry::new(model).map(|geometry| values(&geometry));
        Self {
            by_mask: values.map_or_else(|_| Vec::new(), |values| scaled(&values)),
            slices: model.slices,
        }
    }

    /// In millionths of an empty GPU; a full one is worth nothing.
    pub(crate) fn of(&self, firm: SliceMask) -> i64 {
        let known = self.by_mask.get(usize::from(firm.bits()));
        known.copied().unwrap_or_else(|| {
            // A model with more slices than tables are made for.
            let free = i64::from(self.slices) - i64::from(firm.len());
            free.max(0) * EMPTY / i64::from(self.slices.max(1))
        })
    }
}

/// A value for each mask, in any unit.
fn values(geometry: &Geometry) -> Vec<i64> {
    let table = policy::ours(geometry).ok();
    if let Some(values) = table.as_ref().and_then(|table| table.values()) {
        return values.iter().copied().map(i64::from).collect();
    }
    let size = |id| i64::from(geometry.spot(id).placement.size);
    let left = |mask| placements(geometry.free(mask)).map(size).sum();
    geometry.masks().map(left).collect()
}

fn scaled(values: &[i64]) -> Vec<i64> {
    let (Some(empty), Some(full)) = (values.first(), values.last()) else {
        return Vec::new();
    };
    let whole = (empty - full).max(1);
    let scale = |value: &i64| (value - full) * EMPTY / whole;
    values.iter().map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCTS: [&str; 3] = [
        "NVIDIA A30",
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA H100 80GB HBM3",
    ];

    fn worth(product: &str) -> Worth {
        Worth::new(&GpuModel::known(product).unwrap())
    }

    #[test]
    fn an_empty_gpu_of_any_model_is_worth_the_same_and_a_full_one_nothing() {
        for product in PRODUCTS {
            let (worth, slices) = (worth(product), GpuModel::known(product).unwrap().slices);
            let full = SliceMask::from_bits(u16::MAX >> (16 - u32::from(slices)));
            assert_eq!(worth.of(SliceMask::EMPTY), EMPTY, "{product}");
            assert_eq!(worth.of(full), 0, "{product}");
        }
    }

    #[test]
    fn breaking_into_an_empty_gpu_costs_more_than_going_on_with_one() {
        for product in PRODUCTS {
            let model = GpuModel::known(product).unwrap();
            let geometry = Geometry::new(&model).unwrap();
            let worth = worth(product);
            let lost = |mask: u16, id| {
                let after = mask | geometry.spot(id).mask;
                worth.of(SliceMask::from_bits(mask)) - worth.of(SliceMask::from_bits(after))
            };
            let smallest = geometry.profile_ids().last().unwrap();
            let least = |mask: u16| {
                let free = placements(geometry.free_of(mask, smallest));
                free.map(|id| (lost(mask, id), id)).min().unwrap()
            };
            let (first, at) = least(0);
            let (next, _) = least(geometry.spot(at).mask);
            assert!(
                next + crate::cost::QUEUED < first,
                "{product}: {first} {next}"
            );
        }
    }

    #[test]
    fn a_gpu_with_more_slices_than_tables_have_is_worth_its_free_slices() {
        let model = GpuModel {
            name: "NVIDIA Z".to_owned(),
            slices: 16,
            profiles: Vec::new(),
        };
        assert_eq!(Worth::new(&model).of(SliceMask::from_bits(0xff)), EMPTY / 2);
    }
}
