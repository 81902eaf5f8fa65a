//! The variable by which ClearML's agent inside the container knows its share.
//!
//! Its decoder (clearml-agent, `GpuFractionsHandler` in `helper/resource_monitor.py`) takes either a
//! list of decimals, one for each GPU and none above 1, or items of profile and count. Decimals are
//! right on every GPU; items only on those whose size it knows by name.

use std::collections::BTreeMap;

use mig::fraction::Share;

/// Its name.
pub const FRACTIONS_VARIABLE: &str = "CLEARML_AGENT_GPU_FRACTIONS";

/// The decimals for what was asked, in the order of the names, as ClearML's own encoder has them.
pub(crate) fn decimals(asked: &BTreeMap<String, Share>) -> String {
    let one = Share::whole(1);
    let mut items = Vec::new();
    for share in asked.values() {
        if *share <= one {
            items.push(share.to_string());
        } else {
            let gpus = usize::try_from(share.nanos() / one.nanos()).unwrap_or_default();
            items.extend(std::iter::repeat_n("1".to_owned(), gpus));
        }
    }
    items.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gpu_has_its_own_decimal_and_none_is_above_one() {
        let asked = |shares: &[(&str, &str)]| {
            shares
                .iter()
                .map(|(name, share)| ((*name).to_owned(), share.parse().unwrap()))
                .collect::<BTreeMap<String, Share>>()
        };
        assert_eq!(decimals(&asked(&[("clear.ml/fraction-1", "0.500")])), "0.5");
        assert_eq!(
            decimals(&asked(&[
                ("clear.ml/fraction-2", "0.25"),
                ("clear.ml/fraction-1", "0.5"),
                ("clear.ml/fraction", "2"),
            ])),
            "1,1,0.5,0.25"
        );
    }
}
