use super::*;

/// An A100 with 80 GB, with all of its plain profiles.
pub(crate) fn a100() -> Geometry {
    Geometry::new(&GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap()).unwrap()
}

/// The same without the double-memory 1g.
pub(crate) fn a100_five() -> Geometry {
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap();
    let double: ProfileName = "1g.20gb".parse().unwrap();
    Geometry::with(&model, |name| {
        name.engines() == Engines::Shared && *name != double
    })
    .unwrap()
}

pub(crate) fn a30() -> Geometry {
    Geometry::new(&GpuModel::known("NVIDIA A30").unwrap()).unwrap()
}

/// An RTX PRO 6000, as `nvidia-smi mig -lgipp` prints it, plain profiles only.
pub(crate) fn rtx_model() -> GpuModel {
    twelve(&[
        ("1g.24gb", &[0, 3, 6, 9], 3, 4),
        ("2g.48gb", &[0, 6], 6, 2),
        ("4g.96gb", &[0], 12, 1),
    ])
}

pub(crate) fn rtx() -> Geometry {
    Geometry::new(&rtx_model()).unwrap()
}

/// A made-up GPU with 12 slices that uses every mask.
pub(crate) fn fine_twelve() -> Geometry {
    let ones: Vec<u8> = (0..12).collect();
    let model = twelve(&[
        ("1g.8gb", &ones, 1, 12),
        ("2g.16gb", &[0, 2, 4, 6, 8, 10], 2, 6),
        ("5g.40gb", &[0, 7], 5, 2),
        ("12g.96gb", &[0], 12, 1),
    ]);
    Geometry::new(&model).unwrap()
}

fn twelve(rows: &[(&str, &[u8], u8, u8)]) -> GpuModel {
    let profile = |&(name, starts, size, max_instances): &(&str, &[u8], u8, u8)| Profile {
        name: name.parse().unwrap(),
        id: 0,
        placements: starts.iter().map(|s| Placement::new(*s, size)).collect(),
        max_instances,
        multiprocessors: 1,
        memory_mib: 1,
    };
    GpuModel {
        name: "twelve slices".to_owned(),
        slices: 12,
        profiles: rows.iter().map(profile).collect(),
    }
}

fn counts(geometry: &Geometry) -> (usize, usize, usize) {
    (
        geometry.count_layouts(),
        geometry.count_full_layouts(),
        geometry.reachable().len(),
    )
}

#[test]
fn layouts_and_masks_are_as_many_as_counted_by_hand_and_by_others() {
    assert_eq!(counts(&a100_five()), (298, 19, 144));
    assert_eq!(counts(&a100()), (723, 78, 192));
    assert_eq!(counts(&a30()), (26, 5, 16));
    // 12 slices in quarters are an A30 with wider slices.
    assert_eq!(counts(&rtx()), (26, 5, 16));
    assert_eq!(fine_twelve().reachable().len(), 4096);
}

#[test]
fn profiles_are_ordered_from_large_to_small_whatever_the_driver_says() {
    let names: Vec<_> = a100()
        .profiles()
        .iter()
        .map(|p| p.name.to_string())
        .collect();
    assert_eq!(
        names,
        [
            "7g.80gb", "4g.40gb", "3g.40gb", "2g.20gb", "1g.20gb", "1g.10gb"
        ]
    );
    let h100 = Geometry::new(&GpuModel::known("NVIDIA H100 80GB HBM3").unwrap()).unwrap();
    assert!(a100().same_shape(&h100));
    assert!(!a100().same_shape(&a100_five()));
}

#[test]
fn a_profile_with_one_set_of_engines_is_refused_because_its_mask_is_not_all() {
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap();
    let error = Geometry::with(&model, |_| true).unwrap_err();
    assert!(
        matches!(error, GeometryError::NotSlicesAlone { .. }),
        "{error}"
    );
}

#[test]
fn a_model_without_placements_is_refused() {
    let model = GpuModel::known("NVIDIA A30").unwrap();
    let error = Geometry::with(&model, |_| false).unwrap_err();
    assert!(matches!(error, GeometryError::Nothing { .. }), "{error}");
}

#[test]
fn free_placements_are_those_that_share_no_slice_with_the_mask() {
    for geometry in [a100(), a30(), rtx(), fine_twelve()] {
        for mask in geometry.masks() {
            for (id, spot) in (0..).map(PlacementId).zip(geometry.spots()) {
                let free = geometry.free(mask) & id.bit() != 0;
                assert_eq!(free, spot.mask & mask == 0);
                assert_eq!(geometry.overlapped(id.bit(), mask) != 0, !free);
            }
        }
    }
}

#[test]
fn placements_that_share_no_slice_never_need_more_compute_than_the_gpu_has() {
    let geometry = a100();
    let compute = |set| -> u8 {
        placements(set)
            .map(|id| {
                geometry
                    .profile(geometry.spot(id).profile)
                    .name
                    .compute_slices()
            })
            .sum()
    };
    let mut most = 0;
    geometry.each_layout(|set, _| most = most.max(compute(set)));
    assert_eq!(most, 7);
}

#[test]
fn a_profile_with_engines_is_placed_as_the_plain_one() {
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap();
    let geometry = a100();
    for (name, stand_in) in [("1g.10gb+me", "1g.10gb"), ("1g.20gb", "1g.20gb")] {
        let (_, profile) = model.find(&name.parse().unwrap()).unwrap();
        let found = geometry.standing_for(profile).unwrap();
        assert_eq!(geometry.profile(found).name.to_string(), stand_in);
    }
    let (_, whole) = rtx_model()
        .find(&"4g.96gb".parse().unwrap())
        .map(|(i, p)| (i, p.clone()))
        .unwrap();
    assert_eq!(geometry.standing_for(&whole), None);
}
