//! Curves as SVG: lines over two axes, each linear or by powers of two or ten.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
/// Room for the axes and the title.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 56.0;

/// What is drawn on, in light and in dark.
const STYLE: &str = "<style>.page{fill:#fff}.text{fill:#1c2733}.grid{stroke:#d8dee6}\
    @media (prefers-color-scheme:dark){.page{fill:#10161e}.text{fill:#e6edf5}.grid{stroke:#2b3644}}</style>";

/// Of the lines, in turn: seen on light and dark, and told apart also without colors by their dashes.
const STROKES: [(&str, &str); 6] = [
    ("#3b76f0", ""),
    ("#e0602a", "6 4"),
    ("#22a355", "2 3"),
    ("#a855f7", "9 3 2 3"),
    ("#0e9ab8", "4 2"),
    ("#8290a3", "1 3"),
];

/// A picture with one or more lines.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Across.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// The lines.
    pub lines: Vec<Line>,
}

/// What an axis shows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Axis {
    /// What, and its unit.
    pub label: String,
    /// By powers of this; linear from 0 for none.
    pub powers: Option<f64>,
}

/// A line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Line {
    /// Beside it.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// Where values of an axis lie, from 0 to 1.
#[derive(Debug)]
struct Scale {
    powers: Option<f64>,
    /// In powers or as they are.
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Chart {
    /// The picture.
    pub fn svg(&self) -> String {
        let scale = |axis: &Axis, value: fn(&(f64, f64)) -> f64| {
            let all = self
                .lines
                .iter()
                .flat_map(|line| line.points.iter().map(value));
            Scale::of(axis, all)
        };
        let (x, y) = (
            scale(&self.x, |point| point.0),
            scale(&self.y, |point| point.1),
        );
        let mut out = String::new();
        // Writing to a String does not fail.
        self.frame(&mut out, &x, &y).unwrap_or_default();
        for (at, line) in self.lines.iter().enumerate() {
            draw(&mut out, line, at, &x, &y).unwrap_or_default();
        }
        out + "</svg>\n"
    }

    fn frame(&self, out: &mut String, x: &Scale, y: &Scale) -> std::fmt::Result {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"13\" class=\"text\">\n{STYLE}\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" class=\"page\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"600\">{title}</text>",
            title = escape(&self.title)
        )?;
        for tick in &x.ticks {
            let at = across(x, *tick);
            writeln!(
                out,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" class=\"grid\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                short(*tick)
            )?;
        }
        for tick in &y.ticks {
            let at = up(y, *tick);
            writeln!(
                out,
                "<path d=\"M{LEFT} {at:.1}H{right}\" class=\"grid\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.5,
                short(*tick)
            )?;
        }
        let middle = f64::midpoint(LEFT, right);
        let half = f64::midpoint(TOP, bottom);
        writeln!(
            out,
            "<text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(20 {half}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 14.0,
            escape(&self.x.label),
            escape(&self.y.label)
        )
    }
}

impl Scale {
    fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let (mut from, mut to) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| value.is_finite()) {
            from = from.min(value);
            to = to.max(value);
        }
        if let Some(base) = axis.powers {
            let from = from.clamp(f64::MIN_POSITIVE, 1e12).log(base).floor();
            let to = to
                .max(f64::MIN_POSITIVE)
                .log(base)
                .ceil()
                .clamp(from + 1.0, from + 30.0);
            let ticks = steps(from, to, 1.0).map(|power| base.powf(power)).collect();
            Self {
                powers: axis.powers,
                from,
                to,
                ticks,
            }
        } else {
            let step = nice(to / 5.0);
            let to = (to / step).ceil().max(1.0) * step;
            Self {
                powers: None,
                from: 0.0,
                to,
                ticks: steps(0.0, to, step).collect(),
            }
        }
    }

    fn place(&self, value: f64) -> f64 {
        let value = self
            .powers
            .map_or(value, |base| value.max(f64::MIN_POSITIVE).log(base));
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// Draws a line without the points that were not measured.
fn draw(out: &mut String, line: &Line, at: usize, x: &Scale, y: &Scale) -> std::fmt::Result {
    let is_measured = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
    let points: Vec<_> = line.points.iter().filter(is_measured).collect();
    let (color, dashes) = STROKES[at % STROKES.len()];
    let mut path = String::new();
    for (index, (across_value, up_value)) in points.iter().enumerate() {
        let letter = if index == 0 { 'M' } else { 'L' };
        write!(
            path,
            "{letter}{:.1} {:.1}",
            across(x, *across_value),
            up(y, *up_value)
        )?;
    }
    writeln!(
        out,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2.25\" stroke-dasharray=\"{dashes}\"/>"
    )?;
    for point in &points {
        let (at_x, at_y) = (across(x, point.0), up(y, point.1));
        writeln!(
            out,
            "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"3\" fill=\"{color}\"/>"
        )?;
    }
    let legend = TOP + 12.0 + 24.0 * f64::from(u32::try_from(at).unwrap_or(0));
    let left = WIDTH - RIGHT + 14.0;
    writeln!(
        out,
        "<path d=\"M{left} {legend}h26\" stroke=\"{color}\" stroke-width=\"2.25\" stroke-dasharray=\"{dashes}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        left + 32.0,
        legend + 4.5,
        escape(&line.name)
    )
}

fn across(scale: &Scale, value: f64) -> f64 {
    LEFT + scale.place(value) * (WIDTH - LEFT - RIGHT)
}

fn up(scale: &Scale, value: f64) -> f64 {
    HEIGHT - BOTTOM - scale.place(value) * (HEIGHT - TOP - BOTTOM)
}

/// From one value to another, both included.
fn steps(from: f64, to: f64, step: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(from), move |at| Some(at + step))
        .take_while(move |at| *at <= to + step / 1000.0)
        .take(40)
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn nice(step: f64) -> f64 {
    let power = 10.0_f64.powf(step.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= step);
    factor.unwrap_or(10.0) * power
}

/// A number without needless zeros.
fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        10_000.0.. => format!("{} k", value / 1e3),
        _ => format!("{}", (value * 1e4).round() / 1e4),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_where_the_axes_say() {
        let axis = |powers| Axis {
            label: "a & b".to_owned(),
            powers,
        };
        let line = Line {
            name: "one".to_owned(),
            points: vec![(1.0, 0.0), (4.0, 50.0), (16.0, 100.0)],
        };
        let chart = Chart {
            title: "t".to_owned(),
            x: axis(Some(4.0)),
            y: axis(None),
            lines: vec![line],
        };
        let svg = chart.svg();
        assert!(
            svg.contains("d=\"M80.0 344.0L325.0 195.0L570.0 46.0\""),
            "{svg}"
        );
        assert!(svg.contains("a &amp; b"));
    }

    #[test]
    fn no_points_and_odd_ones_are_drawn_too() {
        for points in [
            vec![],
            vec![(0.0, 0.0)],
            vec![(f64::NAN, 1.0), (f64::INFINITY, 2.0)],
        ] {
            for powers in [None, Some(2.0)] {
                let axis = Axis {
                    label: String::new(),
                    powers,
                };
                let lines = vec![Line {
                    name: String::new(),
                    points: points.clone(),
                }];
                let chart = Chart {
                    title: String::new(),
                    x: axis.clone(),
                    y: axis,
                    lines,
                };
                assert!(chart.svg().ends_with("</svg>\n"));
            }
        }
    }
}
