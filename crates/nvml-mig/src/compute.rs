//! Which compute-instance profile fills a GPU instance.
//!
//! Not the one whose slice count fits: on Hopper a `1g.20gb` has 26 multiprocessors, its profile 0
//! takes 16 of them, and only profile 7 takes all. The multiprocessors decide; the slice count only
//! where a driver does not tell them.

use crate::profiles::Row;

/// More enums than any driver has (`NVML_COMPUTE_INSTANCE_PROFILE_COUNT` is 9).
pub(crate) const ENUM_LIMIT: u32 = 32;

/// A compute-instance profile of one kind of GPU instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ComputeProfile {
    pub(crate) id: u32,
    pub(crate) slices: u32,
    pub(crate) max_instances: u32,
    pub(crate) multiprocessors: u32,
}

/// The profile that takes all of the GPU instance.
pub(crate) fn full<'a>(profiles: &'a [ComputeProfile], gi: &Row) -> Option<&'a ComputeProfile> {
    let all = |each: &&ComputeProfile| {
        gi.multiprocessors > 0 && each.multiprocessors == gi.multiprocessors
    };
    let whole = |each: &&ComputeProfile| each.slices == gi.compute_slices;
    let both = profiles.iter().find(|each| all(each) && whole(each));
    both.or_else(|| profiles.iter().find(all))
        .or_else(|| profiles.iter().find(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profiles::ProfileInfo;

    fn gi(compute_slices: u32, multiprocessors: u32) -> Row {
        let info = ProfileInfo {
            id: 0,
            compute_slices,
            max_instances: 1,
            multiprocessors,
            memory_mib: 0,
            name: None,
        };
        info.into_row(0, 0)
    }

    fn profiles(rows: &[(u32, u32, u32)]) -> Vec<ComputeProfile> {
        rows.iter()
            .map(|&(id, slices, multiprocessors)| ComputeProfile {
                id,
                slices,
                max_instances: 1,
                multiprocessors,
            })
            .collect()
    }

    fn chosen(rows: &[(u32, u32, u32)], gi: &Row) -> Option<u32> {
        full(&profiles(rows), gi).map(|profile| profile.id)
    }

    #[test]
    fn a_hopper_1g_with_double_memory_takes_profile_7() {
        assert_eq!(chosen(&[(0, 1, 16), (7, 1, 26)], &gi(1, 26)), Some(7));
    }

    #[test]
    fn a_hopper_2g_takes_profile_1_though_7_is_there() {
        assert_eq!(
            chosen(&[(0, 1, 16), (1, 2, 32), (7, 1, 26)], &gi(2, 32)),
            Some(1)
        );
    }

    #[test]
    fn an_a100_4g_takes_profile_3() {
        assert_eq!(
            chosen(&[(0, 1, 14), (1, 2, 28), (3, 4, 56)], &gi(4, 56)),
            Some(3)
        );
    }

    #[test]
    fn of_two_with_all_multiprocessors_the_whole_one_is_taken() {
        assert_eq!(chosen(&[(7, 1, 28), (1, 2, 28)], &gi(2, 28)), Some(1));
    }

    #[test]
    fn without_multiprocessor_counts_the_slices_decide() {
        assert_eq!(chosen(&[(0, 1, 0), (1, 2, 0)], &gi(2, 0)), Some(1));
        assert_eq!(chosen(&[(0, 1, 14), (1, 2, 27)], &gi(2, 28)), Some(1));
        assert_eq!(chosen(&[(0, 1, 14)], &gi(2, 28)), None);
    }
}
