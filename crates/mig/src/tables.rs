//! Profiles of the GPUs that need planning without hardware at hand.
//!
//! Source: `nvidia-smi mig -lgip/-lgipp` as printed on real boards, NVIDIA's MIG user guide. Sizes
//! in MiB are those of R580 where several are known.

use crate::{Engines, GpuModel, Placement, Profile, ProfileName};

/// Starts and size of a profile on a row of memory slices.
type Geometry = (&'static [u8], u8);

/// One line of `nvidia-smi mig -lgip`: compute slices, GB in the name, engines, NVML id, geometry,
/// most instances, multiprocessors, MiB.
type Row = (u8, u16, Engines, u32, Geometry, u8, u32, u64);

const ONE: Geometry = (&[0, 1, 2, 3, 4, 5, 6], 1);
const ONE_DOUBLE: Geometry = (&[0, 2, 4, 6], 2);
const TWO: Geometry = (&[0, 2, 4], 2);
const THREE: Geometry = (&[0, 4], 4);
const FOUR: Geometry = (&[0], 4);
const SEVEN: Geometry = (&[0], 8);

const A100_40: [Row; 7] = [
    (1, 5, Engines::Shared, 19, ONE, 7, 14, 4864),
    (2, 10, Engines::Shared, 14, TWO, 3, 28, 9984),
    (3, 20, Engines::Shared, 9, THREE, 2, 42, 20096),
    (4, 20, Engines::Shared, 5, FOUR, 1, 56, 20096),
    (7, 40, Engines::Shared, 0, SEVEN, 1, 98, 40320),
    (1, 5, Engines::Media, 20, ONE, 1, 14, 4864),
    (1, 10, Engines::Shared, 15, ONE_DOUBLE, 4, 14, 9984),
];

const A100_80: [Row; 7] = [
    (1, 10, Engines::Shared, 19, ONE, 7, 14, 9728),
    (2, 20, Engines::Shared, 14, TWO, 3, 28, 19968),
    (3, 40, Engines::Shared, 9, THREE, 2, 42, 40192),
    (4, 40, Engines::Shared, 5, FOUR, 1, 56, 40192),
    (7, 80, Engines::Shared, 0, SEVEN, 1, 98, 80640),
    (1, 10, Engines::Media, 20, ONE, 1, 14, 9728),
    (1, 20, Engines::Shared, 15, ONE_DOUBLE, 4, 14, 19968),
];

const H100_80: [Row; 7] = [
    (1, 10, Engines::Shared, 19, ONE, 7, 16, 9984),
    (2, 20, Engines::Shared, 14, TWO, 3, 32, 20096),
    (3, 40, Engines::Shared, 9, THREE, 2, 60, 40448),
    (4, 40, Engines::Shared, 5, FOUR, 1, 64, 40448),
    (7, 80, Engines::Shared, 0, SEVEN, 1, 132, 81152),
    (1, 10, Engines::Media, 20, ONE, 1, 16, 9984),
    (1, 20, Engines::Shared, 15, ONE_DOUBLE, 4, 26, 20096),
];

const A30: [Row; 5] = [
    (1, 6, Engines::Shared, 14, (&[0, 1, 2, 3], 1), 4, 14, 5952),
    (2, 12, Engines::Shared, 5, (&[0, 2], 2), 2, 28, 11968),
    (4, 24, Engines::Shared, 0, (&[0], 4), 1, 56, 24064),
    (1, 6, Engines::Media, 21, (&[0, 1, 2, 3], 1), 1, 14, 5952),
    (2, 12, Engines::Media, 6, (&[0, 2], 2), 1, 28, 11968),
];

pub(crate) fn known(product: &str) -> Option<GpuModel> {
    let (slices, rows): (u8, &[Row]) = match product.strip_prefix("NVIDIA ").unwrap_or(product) {
        "A30" => (4, &A30),
        "A100-SXM4-40GB" | "A100-PCIE-40GB" => (8, &A100_40),
        "A100-SXM4-80GB" | "A100 80GB PCIe" => (8, &A100_80),
        "H100 80GB HBM3" => (8, &H100_80),
        _ => return None,
    };
    Some(GpuModel {
        name: product.to_owned(),
        slices,
        profiles: rows.iter().map(profile).collect(),
    })
}

fn profile(row: &Row) -> Profile {
    let &(compute, gb, engines, id, (starts, size), max_instances, multiprocessors, memory_mib) =
        row;
    Profile {
        name: ProfileName::new(compute, gb, engines),
        id,
        placements: starts
            .iter()
            .map(|start| Placement::new(*start, size))
            .collect(),
        max_instances,
        multiprocessors,
        memory_mib,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const PRODUCTS: [&str; 4] = [
        "NVIDIA A30",
        "NVIDIA A100-SXM4-40GB",
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA H100 80GB HBM3",
    ];

    #[test]
    fn every_table_is_well_formed() {
        for product in PRODUCTS {
            let model = known(product).unwrap();
            for (index, profile) in model.indices() {
                assert!(!profile.placements.is_empty());
                assert!(profile.placements.is_sorted());
                assert!(profile.placements.iter().all(|p| p.is_within(model.slices)));
                assert_eq!(
                    model.find(&profile.name),
                    Some((index, profile)),
                    "names are unique"
                );
            }
        }
    }

    #[test]
    fn an_unknown_product_has_no_table() {
        assert_eq!(known("NVIDIA T4"), None);
    }
}
