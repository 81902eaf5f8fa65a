//! Line charts: acceptance against load, use over time.

use super::colour;
use super::scale::Scale;
use super::svg::{Anchor, Svg};

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name, beside its end.
    pub name: String,
    /// Points from left to right. Those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A chart of several lines.
#[derive(Clone, Debug, PartialEq)]
pub struct LineChart {
    /// Above the chart.
    pub title: String,
    /// Below the horizontal axis, with its unit.
    pub across: String,
    /// Beside the vertical axis, with its unit.
    pub up: String,
    /// Whether each point gets a dot; wanted where points are few.
    pub dots: bool,
    /// The lines, in the order of their colours.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 364.0;
/// Least distance of two names beside one another.
const LINE: f64 = 15.0;

impl LineChart {
    /// The chart as SVG. Without any point it has axes from 0 to 1.
    pub fn svg(&self) -> String {
        let points = || {
            let all = self.series.iter().flat_map(|series| &series.points);
            all.filter(|(x, y)| x.is_finite() && y.is_finite())
        };
        let across = Scale::new(range(points().map(|(x, _)| *x)), (LEFT, RIGHT));
        let up = Scale::new(range(points().map(|(_, y)| *y)), (BOTTOM, TOP));
        let mut svg = Svg::new(WIDTH, HEIGHT);
        svg.text((LEFT, 24.0), Anchor::Start, &self.title);
        for (value, text) in across.ticks() {
            let x = across.place(value);
            svg.stroke((x, TOP), (x, BOTTOM), "#dddddd");
            svg.text((x, BOTTOM + 18.0), Anchor::Middle, &text);
        }
        for (value, text) in up.ticks() {
            let y = up.place(value);
            svg.stroke((LEFT, y), (RIGHT, y), "#dddddd");
            svg.text((LEFT - 8.0, y + 4.0), Anchor::End, &text);
        }
        svg.text(
            (f64::midpoint(LEFT, RIGHT), HEIGHT - 16.0),
            Anchor::Middle,
            &self.across,
        );
        svg.upright((18.0, f64::midpoint(TOP, BOTTOM)), &self.up);

        let mut names = Vec::new();
        for (index, series) in self.series.iter().enumerate() {
            let finite = series
                .points
                .iter()
                .filter(|(x, y)| x.is_finite() && y.is_finite());
            let places: Vec<(f64, f64)> = finite
                .map(|(x, y)| (across.place(*x), up.place(*y)))
                .collect();
            svg.path(&places, colour(index));
            if self.dots {
                for place in &places {
                    svg.dot(*place, colour(index));
                }
            }
            if let Some((_, y)) = places.last() {
                names.push((*y, index));
            }
        }
        self.name(&mut svg, names);
        svg.finish()
    }

    /// Names beside the ends of the lines, moved apart where they would touch.
    fn name(&self, svg: &mut Svg, mut names: Vec<(f64, usize)>) {
        names.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let mut free = f64::NEG_INFINITY;
        for (y, index) in names {
            let y = y.max(free);
            free = y + LINE;
            svg.stroke((RIGHT + 6.0, y), (RIGHT + 20.0, y), colour(index));
            svg.text(
                (RIGHT + 24.0, y + 4.0),
                Anchor::Start,
                &self.series[index].name,
            );
        }
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.fold(start, |(low, high), x| (low.min(x), high.max(x)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}
