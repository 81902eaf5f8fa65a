//! What the tests of several modules need.

use std::sync::Arc;

use mig::GpuModel;
use placement::Geometry;

/// The geometry that the published figures are for.
pub(crate) fn a100() -> Arc<Geometry> {
    let model = GpuModel::known("NVIDIA A100-SXM4-80GB").unwrap();
    Arc::new(Geometry::new(&model).unwrap())
}
