//! Where else something fits on a GPU.
//!
//! Slices decide, but for instances with media engines. So for nearly all demands a mask is enough, which is
//! much quicker than a whole layout; the others have one.

use mig::{Engines, GpuModel, Layout, Placement, Profile, ProfileIndex, SliceMask};

/// What a GPU has room for.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    taken: SliceMask,
    /// Where slices alone do not decide.
    layout: Option<Layout>,
}

impl Room {
    /// The room beside a layout for instances of the profiles that are wanted, and for others that may be put there.
    pub(crate) fn beside(
        layout: Layout,
        model: &GpuModel,
        mut wanted: impl Iterator<Item = ProfileIndex>,
        others: impl Iterator<Item = ProfileIndex>,
    ) -> Self {
        let standing = layout.occupants().iter().map(|one| one.profile);
        let by_slices = wanted.all(|wanted| model.profile(wanted).is_some_and(needs_slices_alone))
            && standing.chain(others).all(|one| !excludes_all(model, one));
        Self {
            taken: layout.occupied(),
            layout: (!by_slices).then_some(layout),
        }
    }

    /// Where an instance of the profile could be made, by ascending start from this slice on.
    pub(crate) fn places<'a>(
        &'a self,
        model: &'a GpuModel,
        profile: ProfileIndex,
        from: u8,
    ) -> impl Iterator<Item = Placement> + 'a {
        let by_slices = model.profile(profile).filter(|_| self.layout.is_none());
        let all = by_slices
            .into_iter()
            .flat_map(|profile| &profile.placements);
        let free = all.filter(|p| !p.mask().overlaps(self.taken)).copied();
        let layout = self.layout.iter();
        let by_layout = layout.flat_map(move |layout| layout.free_placements(model, profile));
        free.chain(by_layout).filter(move |p| p.start >= from)
    }

    /// With an instance in one of these places.
    pub(crate) fn with(
        &self,
        model: &GpuModel,
        profile: ProfileIndex,
        placement: Placement,
    ) -> Option<Self> {
        let mut next = self.clone();
        next.fill(model, profile, placement).then_some(next)
    }

    /// Puts an instance there if it fits, and says whether it does.
    pub(crate) fn fill(
        &mut self,
        model: &GpuModel,
        profile: ProfileIndex,
        placement: Placement,
    ) -> bool {
        let fits = match &mut self.layout {
            Some(layout) => layout.place(model, profile, placement).is_ok(),
            None => !placement.mask().overlaps(self.taken),
        };
        if fits {
            self.taken = self.taken.union(placement.mask());
        }
        fits
    }
}

/// Whether instances of the profile need nothing but their slices, and take nothing else from others.
fn needs_slices_alone(profile: &Profile) -> bool {
    profile.name.engines() == Engines::Shared
        && usize::from(profile.max_instances) >= profile.placements.len()
}

/// Whether even an instance without engines in its name cannot stand beside it.
fn excludes_all(model: &GpuModel, profile: ProfileIndex) -> bool {
    let profile = model.profile(profile);
    profile.is_some_and(|profile| profile.name.engines().excludes(Engines::Shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(model: &GpuModel, standing: &[(&str, u8)], wanted: &str) -> Vec<u8> {
        let find = |name: &str| model.find(&name.parse().unwrap()).unwrap();
        let mut layout = Layout::default();
        for (name, start) in standing {
            let (index, profile) = find(name);
            let placement = Placement::new(*start, profile.size());
            layout.place(model, index, placement).unwrap();
        }
        let (wanted, _) = find(wanted);
        let room = Room::beside(layout, model, [wanted].into_iter(), [].into_iter());
        room.places(model, wanted, 0).map(|p| p.start).collect()
    }

    #[test]
    fn slices_and_media_engines_decide() {
        let model = GpuModel::known("NVIDIA A100-SXM4-40GB").unwrap();
        assert_eq!(places(&model, &[("3g.20gb", 4)], "2g.10gb"), [0, 2]);
        assert_eq!(places(&model, &[("3g.20gb", 4)], "1g.5gb+me"), [0, 1, 2, 3]);
        assert_eq!(places(&model, &[("1g.5gb+me", 4)], "1g.5gb+me"), [0u8; 0]);
        assert_eq!(places(&model, &[("1g.5gb+me", 4)], "3g.20gb"), [0]);
    }

    #[test]
    fn nothing_but_slices_decides_for_plain_profiles() {
        for product in [
            "NVIDIA A30",
            "NVIDIA A100-SXM4-40GB",
            "NVIDIA H100 80GB HBM3",
        ] {
            let model = GpuModel::known(product).unwrap();
            let plain = |p: &&Profile| p.name.engines() == Engines::Shared;
            for profile in model.profiles.iter().filter(plain) {
                assert!(
                    needs_slices_alone(profile),
                    "{}: {}",
                    model.name,
                    profile.name
                );
            }
        }
    }
}
