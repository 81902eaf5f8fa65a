//! Reading the resource names of a demand.

use mig::{
    ProfileName, RESOURCE_PREFIX,
    fraction::{Class, FRACTION_PREFIX},
};

use crate::{
    demand::Wants,
    explain,
    outcome::{Refusal, RefusalKind},
    work::{Kind, Want},
};

/// What the resources of a demand stand for, in their order.
pub(crate) fn read(wants: &Wants) -> Result<Vec<Want>, Refusal> {
    let invalid = |text: String| Refusal {
        kind: RefusalKind::InvalidProfile,
        text: format!("{text}; correct the pod's limits").into(),
    };
    let one = |(resource, count): (&String, &u32)| {
        let of = if resource.starts_with(RESOURCE_PREFIX) {
            let name = ProfileName::from_resource(resource);
            Kind::Profile(name.map_err(|error| invalid(error.to_string()))?)
        } else if resource.starts_with(FRACTION_PREFIX) {
            let class = Class::from_resource(resource);
            Kind::Class(class.ok_or_else(|| invalid(explain::no_class(resource)))?)
        } else {
            Kind::Fixed
        };
        Ok(Want {
            resource: resource.as_str().into(),
            of,
            count: *count,
        })
    };
    wants.iter().map(one).collect()
}
