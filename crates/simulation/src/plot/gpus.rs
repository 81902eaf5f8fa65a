//! A map of GPUs: what stands on every memory slice.

use placement::{Pool, placements};

use super::colour;
use super::svg::{Anchor, Svg};

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuMap {
    /// Above the map.
    pub title: String,
    /// GPUs side by side, at least 1.
    pub columns: usize,
}

const SLICE: f64 = 14.0;
const HEIGHT: f64 = 12.0;
const GAP: f64 = 6.0;
const LEFT: f64 = 16.0;
const TOP: f64 = 40.0;

impl GpuMap {
    /// The GPUs of a pool as SVG: instances that are held in the colour of their profile, idle ones
    /// as outlines, reserved and blocked slices grey.
    pub fn svg(&self, pool: &Pool) -> String {
        let geometry = pool.geometry();
        let slices = f64::from(geometry.slices());
        let columns = self.columns.max(1);
        let rows = pool.len().div_ceil(columns);
        let cell = (slices * SLICE + GAP, HEIGHT + GAP);
        let width = (LEFT * 2.0 + float(columns) * cell.0).max(320.0);
        let legend = TOP + float(rows) * cell.1 + 20.0;
        let height = legend + 20.0 * float(geometry.profiles().len().div_ceil(4)) + 8.0;
        let mut svg = Svg::new(width, height);
        svg.text((LEFT, 24.0), Anchor::Start, &self.title);
        for gpu in pool.gpus() {
            let (row, column) = (gpu.index() / columns, gpu.index() % columns);
            let (x, y) = (LEFT + float(column) * cell.0, TOP + float(row) * cell.1);
            let state = pool.state(gpu);
            svg.rect(x, y, slices * SLICE, HEIGHT, "fill=\"#f2f2f2\"");
            let kept = if state.unhealthy {
                geometry.full()
            } else {
                state.blocked | state.reserved
            };
            for slice in (0..geometry.slices()).filter(|slice| kept >> slice & 1 == 1) {
                let at = x + f64::from(slice) * SLICE;
                svg.rect(at, y, SLICE, HEIGHT, "fill=\"#bbbbbb\"");
            }
            for (set, is_held) in [(state.idle, false), (state.held, true)] {
                for id in placements(set) {
                    let spot = geometry.spot(id);
                    let colour = colour(spot.profile.index() + 1);
                    let style = if is_held {
                        format!("fill=\"{colour}\"")
                    } else {
                        format!("fill=\"none\" stroke=\"{colour}\"")
                    };
                    let at = x + f64::from(spot.placement.start) * SLICE + 0.5;
                    let wide = f64::from(spot.placement.size) * SLICE - 1.0;
                    svg.rect(at, y + 0.5, wide, HEIGHT - 1.0, &style);
                }
            }
        }
        for (index, profile) in geometry.profiles().iter().enumerate() {
            let (row, column) = (index / 4, index % 4);
            let (x, y) = (LEFT + float(column) * 76.0, legend + 20.0 * float(row));
            svg.rect(
                x,
                y - 9.0,
                10.0,
                10.0,
                &format!("fill=\"{}\"", colour(index + 1)),
            );
            svg.text((x + 14.0, y), Anchor::Start, &profile.name.to_string());
        }
        svg.finish()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a picture has few GPUs")]
fn float(count: usize) -> f64 {
    count as f64
}
