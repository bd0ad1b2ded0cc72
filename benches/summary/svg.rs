//! The plot as an SVG file: two columns of panels, in the colours of who looks at it, light or dark.
#![forbid(unsafe_code)]

use super::chart::{self, Panel};
use super::label;
use std::fmt::Write;

/// Each colour is a class, so that the dark ones need only other classes. (Custom properties would be shorter; not
/// everything that draws SVG has them.)
const STYLE: &str = "
text { font: 11px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328; }
.page { fill: #ffffff; }
.title { font-size: 13px; font-weight: 600; }
.small { font-size: 10px; fill: #59636e; }
.figure { font-size: 9px; fill: #1f2328; stroke: #ffffff; stroke-width: 2.5px; paint-order: stroke; }
.ours { font-weight: 600; }
.grid { stroke: #d1d9e0; stroke-width: 1; }
.reference { stroke: #cf222e; stroke-width: 1; stroke-dasharray: 3 2; }
.whisker { stroke: #1f2328; stroke-width: 1; }
.doorward.s0 { fill: #80b4f5; } .doorward.s1 { fill: #3f86e0; } .doorward.s2 { fill: #0a50a8; } .doorward.s3 { fill: #06326b; }
.other.s0 { fill: #c4cbd2; } .other.s1 { fill: #98a2ac; } .other.s2 { fill: #6c7781; } .other.s3 { fill: #444d56; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; }
.page { fill: #0d1117; }
.small { fill: #9198a1; }
.figure { fill: #f0f6fc; stroke: #0d1117; }
.grid { stroke: #3d444d; }
.reference { stroke: #f85149; }
.whisker { stroke: #f0f6fc; }
.doorward.s0 { fill: #1c4f91; } .doorward.s1 { fill: #2f76d2; } .doorward.s2 { fill: #6cabf7; } .doorward.s3 { fill: #b6d6fc; }
.other.s0 { fill: #3d444d; } .other.s1 { fill: #656c76; } .other.s2 { fill: #9198a1; } .other.s3 { fill: #c4cbd2; }
}
";

const MARGIN: f64 = 18.0;
const COLUMNS: usize = 2;
const FOOT: f64 = 16.0;

/// The whole file; `caption` says where the figures were taken.
pub fn page(panels: &[Panel], caption: &str) -> String {
    let mut canvas = Canvas::default();
    let mut ends = [MARGIN; COLUMNS];
    for panel in panels {
        // The next goes where there is most room.
        let Some((column, end)) = ends
            .iter_mut()
            .enumerate()
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
        else {
            break;
        };
        panel.draw(
            &mut canvas,
            MARGIN + column as f64 * (chart::WIDTH + MARGIN),
            *end,
        );
        *end += panel.height() + MARGIN;
    }
    let width = MARGIN + COLUMNS as f64 * (chart::WIDTH + MARGIN);
    let mut end = ends.into_iter().fold(0.0, f64::max);
    let caption = format!("Medians; whiskers from quartile to quartile. {caption}");
    for line in label::wrap(&caption, (width - 2.0 * MARGIN) / label::CHARACTER) {
        canvas.text(MARGIN, end, Anchor::Start, "small", &line);
        end += FOOT;
    }
    let height = end + MARGIN - FOOT / 2.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height:.0}\" viewBox=\"0 0 {width} {height:.0}\" role=\"img\">\n<title>What doorward costs beside its neighbours</title>\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n{}</svg>\n",
        canvas.0
    )
}

/// Which end of a text stands at its place.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// The drawing so far.
#[derive(Default)]
pub struct Canvas(String);

impl Canvas {
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    pub fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        self.add(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    fn add(&mut self, element: std::fmt::Arguments) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{element}");
    }
}

/// Names of rows come from a command line: nothing of theirs may be markup. (XML has no control characters at all.)
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
