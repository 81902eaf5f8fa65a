//! What a GPU is worth to the demands to come.
//!
//! Idle instances are given up when something needs their slices, so that only what is firm counts: the
//! slices of instances in use or about to be. For every set of those there is one value, from the
//! table that [`placement::policy::ours`] has for GPUs cut like this one. Where there is none, free
//! placements are counted, each by its slices. Who knows better says so ([`Chosen`]).

use std::sync::Arc;

use mig::{GpuModel, SliceMask};
use placement::{Geometry, placements, policy};

/// Worth of an empty GPU of any model, so that those of different models can be compared.
pub(crate) const EMPTY: i64 = 1_000_000;

/// Values that somebody chose for GPUs that are cut in one way; at most one of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen(Vec<(Arc<Geometry>, Arc<[i32]>)>);

impl Chosen {
    /// These values from now on. Whether that changes anything; values that are not one for each
    /// mask change nothing.
    pub(crate) fn set(&mut self, geometry: &Arc<Geometry>, values: &Arc<[i32]>) -> bool {
        if values.len() != geometry.mask_count() {
            return false;
        }
        match self.0.iter_mut().find(|(known, _)| known == geometry) {
            Some((_, known)) if known == values => false,
            Some((_, known)) => {
                *known = Arc::clone(values);
                true
            }
            None => {
                self.0.push((Arc::clone(geometry), Arc::clone(values)));
                true
            }
        }
    }

    fn get(&self, geometry: &Geometry) -> Option<&[i32]> {
        let mut all = self.0.iter();
        let (_, values) = all.find(|(known, _)| **known == *geometry)?;
        Some(values)
    }
}

/// What GPUs of a model are worth, by the slices that are firmly taken.
#[derive(Clone, Debug)]
pub(crate) struct Worth {
    by_mask: Vec<i64>,
    slices: u8,
}

impl Worth {
    /// The worth of GPUs of that model, if nobody chose another.
    #[cfg(test)]
    pub(crate) fn new(model: &GpuModel) -> Self {
        Self::with(model, &Chosen::default())
    }

    /// The worth of GPUs of that model.
    pub(crate) fn with(model: &GpuModel, chosen: &Chosen) -> Self {
        let values = Geometry::new(model).map(|geometry| match chosen.get(&geometry) {
            Some(values) => values.iter().copied().map(i64::from).collect(),
            None => values(&geometry),
        });
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

    /// Every table that a portfolio of values chooses from, with that of no choice.
    fn all(product: &str, geometry: &Geometry) -> Vec<(String, Worth)> {
        use placement::policy::{Mix, valued};
        let model = GpuModel::known(product).unwrap();
        // Of a mix in which hardly anybody needs a whole GPU, these rules may rightly think otherwise.
        let mut parts = vec![1; geometry.profiles().len()];
        parts[0] = 3;
        let mixes = [Mix::uniform(geometry), Mix::new(parts)].into_iter();
        let fixed = [valued::fewest_blocked(geometry), valued::best_fit(geometry)];
        let learned = mixes.flat_map(|mix| {
            [
                valued::fragmentation_gradient(geometry, &mix),
                valued::least_capability_lost(geometry, &mix),
            ]
        });
        let tables = fixed.into_iter().chain(learned).map(|table| {
            let mut chosen = Chosen::default();
            let values = table.values().unwrap().into();
            assert!(chosen.set(&Arc::new(geometry.clone()), &values));
            (table.name().to_owned(), Worth::with(&model, &chosen))
        });
        tables
            .chain([("ours".to_owned(), Worth::new(&model))])
            .collect()
    }

    #[test]
    fn breaking_into_an_empty_gpu_costs_more_than_going_on_with_one() {
        for product in PRODUCTS {
            let model = GpuModel::known(product).unwrap();
            let geometry = Geometry::new(&model).unwrap();
            for (table, worth) in all(product, &geometry) {
                breaking_costs_more(&format!("{product}, {table}"), &geometry, &worth);
            }
        }
    }

    fn breaking_costs_more(product: &str, geometry: &Geometry, worth: &Worth) {
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

    #[test]
    fn values_that_were_chosen_count_on_their_own_geometry_alone() {
        let a30 = GpuModel::known(PRODUCTS[0]).unwrap();
        let geometry = Arc::new(Geometry::new(&a30).unwrap());
        let free = |mask: u16| 4 - i32::try_from(mask.count_ones()).unwrap();
        let values: Arc<[i32]> = geometry.masks().map(free).collect();
        let mut chosen = Chosen::default();
        assert!(!chosen.set(&geometry, &Arc::from([1, 2])));
        assert!(chosen.set(&geometry, &values));
        assert!(!chosen.set(&geometry, &values), "nothing changed");
        let one = SliceMask::from_bits(0b1000);
        assert_eq!(Worth::with(&a30, &chosen).of(one), 3 * EMPTY / 4);
        assert_ne!(Worth::new(&a30).of(one), 3 * EMPTY / 4);
        let a100 = GpuModel::known(PRODUCTS[1]).unwrap();
        let (with, without) = (Worth::with(&a100, &chosen), Worth::new(&a100));
        assert_eq!(with.of(one), without.of(one));
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
