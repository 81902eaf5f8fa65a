//! Lines over a common axis, with error bars.

use std::fmt::Display;
use std::ops::Range;

use plotters::prelude::*;

use crate::{ChartError, FONT, colour};

const SIZE: (u32, u32) = (760, 440);
/// Room to the right of the lines for their names.
const NAMES: u32 = 150;

/// Lines with more points have no dots and are thin.
const MOST_DOTS: usize = 40;

/// One line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points: x, y, and how far y may be off in either direction (0 for no bar). Points that
    /// are not finite are left out.
    pub points: Vec<(f64, f64, f64)>,
}

/// Lines over a common axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What is on the horizontal axis, with its unit.
    pub x: String,
    /// What is on the vertical axis, with its unit.
    pub y: String,
    /// The lines, the most important first: it is drawn on top, and thicker unless there are many
    /// points.
    pub lines: Vec<Line>,
}

impl Chart {
    /// The plot as SVG.
    ///
    /// # Errors
    /// If there is no point.
    pub fn svg(&self) -> Result<String, ChartError> {
        let (x, y) = self.ranges().ok_or_else(|| ChartError::Nothing {
            title: self.title.clone(),
        })?;
        let mut svg = String::new();
        self.draw(&mut svg, x, y)?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String, x: Range<f64>, y: Range<f64>) -> Result<(), ChartError> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|why| self.failed(why))?;
        let (left, right) = root.split_horizontally(SIZE.0 - NAMES);
        let mut chart = ChartBuilder::on(&left)
            .caption(&self.title, (FONT, 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(x, y)
            .map_err(|why| self.failed(why))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .axis_style(RGBColor(120, 120, 120))
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .x_labels(9)
            .y_labels(9)
            .x_desc(&self.x)
            .y_desc(&self.y)
            .draw()
            .map_err(|why| self.failed(why))?;
        for (number, line) in self.lines.iter().enumerate().rev() {
            let is_dense = line.points.len() > MOST_DOTS;
            let width = match (is_dense, number) {
                (true, _) => 1,
                (false, 0) => 3,
                (false, _) => 2,
            };
            let style = colour(number).stroke_width(width);
            let points = || finite(line).map(|(x, y, _)| (x, y));
            let series = LineSeries::new(points(), style);
            chart.draw_series(series).map_err(|why| self.failed(why))?;
            let dots = points()
                .take_while(|_| !is_dense)
                .map(|point| Circle::new(point, 3, colour(number).filled()));
            chart.draw_series(dots).map_err(|why| self.failed(why))?;
            let bars = finite(line).filter(|(_, _, off)| *off > 0.0);
            let bars = bars
                .map(|(x, y, off)| PathElement::new([(x, y - off), (x, y + off)], colour(number)));
            chart.draw_series(bars).map_err(|why| self.failed(why))?;
        }
        for (number, line) in self.lines.iter().enumerate() {
            let at = i32::try_from(number).unwrap_or(0) * 22 + 60;
            let dash = PathElement::new([(4, at), (26, at)], colour(number).stroke_width(3));
            right.draw(&dash).map_err(|why| self.failed(why))?;
            let style = (FONT, 13).into_font();
            let name = Text::new(line.name.clone(), (32, at - 6), style);
            right.draw(&name).map_err(|why| self.failed(why))?;
        }
        root.present().map_err(|why| self.failed(why))
    }

    /// What the axes must show; `None` without points.
    fn ranges(&self) -> Option<(Range<f64>, Range<f64>)> {
        let all = || self.lines.iter().flat_map(finite);
        let x = padded(all().flat_map(|(x, ..)| [x, x]), 0.02)?;
        let y = padded(all().flat_map(|(_, y, off)| [y - off, y + off]), 0.06)?;
        Some((x, y))
    }

    fn failed(&self, why: impl Display) -> ChartError {
        ChartError::Draw {
            title: self.title.clone(),
            why: why.to_string(),
        }
    }
}

fn finite(line: &Line) -> impl Iterator<Item = (f64, f64, f64)> {
    let points = line.points.iter().copied();
    points.filter(|(x, y, off)| x.is_finite() && y.is_finite() && off.is_finite())
}

/// From the least to the most, and a part of that beyond either end.
fn padded(values: impl Iterator<Item = f64>, part: f64) -> Option<Range<f64>> {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| {
        (least.min(v), most.max(v))
    });
    if least > most {
        return None;
    }
    let pad = if most > least {
        (most - least) * part
    } else {
        1.0
    };
    Some(least - pad..most + pad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let line = |name: &str, y: f64| Line {
            name: name.to_owned(),
            points: vec![(0.5, y, 0.0), (0.75, y - 1.0, 0.25), (1.0, y - 4.0, 0.5)],
        };
        Chart {
            title: "accepted pods".to_owned(),
            x: "load".to_owned(),
            y: "accepted pods (%)".to_owned(),
            lines: vec![line("ours", 100.0), line("FF <first fit>", 98.0)],
        }
    }

    #[test]
    fn lines_have_names_points_and_bars() {
        insta::assert_snapshot!(chart().svg().unwrap());
    }

    #[test]
    fn points_that_are_no_numbers_are_left_out() {
        let mut with = chart();
        with.lines[0].points.insert(1, (0.6, f64::NAN, 0.0));
        assert_eq!(with.svg().unwrap(), chart().svg().unwrap());
    }

    #[test]
    fn many_points_are_a_line_without_dots() {
        let mut dense = chart();
        for line in &mut dense.lines {
            line.points = (0..100).map(|x| (f64::from(x), 1.0, 0.0)).collect();
        }
        let svg = dense.svg().unwrap();
        assert!(svg.contains("<polyline") && !svg.contains("<circle"));
    }

    #[test]
    fn a_chart_without_points_says_so() {
        let mut empty = chart();
        empty.lines.clear();
        let error = empty.svg().unwrap_err().to_string();
        assert!(error.contains("accepted pods"), "{error}");
    }

    #[test]
    fn one_point_alone_has_room_around_it() {
        let mut single = chart();
        single.lines.truncate(1);
        single.lines[0].points.truncate(1);
        assert!(single.svg().unwrap().contains("circle"));
    }
}
