//! One panel: horizontal bars in groups, with whiskers from quartile to quartile.
#![forbid(unsafe_code)]

use super::common::stats::Spread;
use super::label;
use super::svg::{Anchor, Canvas};

/// What is drawn.
pub struct Panel {
    pub title: &'static str,
    /// What the lengths mean.
    pub axis: &'static str,
    /// What the bars of each group are, from the top; empty where each group has one.
    pub series: Vec<String>,
    pub groups: Vec<Group>,
    /// Where the others are measured from, as a line.
    pub reference: Option<f64>,
    /// Of the figures beside the bars.
    pub decimals: usize,
}

/// The bars of one row of a table.
pub struct Group {
    pub label: String,
    pub bars: Vec<Bar>,
}

#[derive(Clone, Copy)]
pub struct Bar {
    pub spread: Spread,
    /// Its figure does not count.
    pub errors: bool,
}

impl Group {
    /// Whether there is any figure.
    pub fn says_something(&self) -> bool {
        self.bars.iter().any(|bar| bar.spread.median.is_finite())
    }

    fn height(&self) -> f64 {
        let bars = self.drawn().count() as f64 * BAR;
        let words = label::lines(&self.label).len() as f64 * LINE;
        bars.max(words) + GAP
    }

    /// A bar without a figure takes no room.
    fn drawn(&self) -> impl Iterator<Item = (usize, &Bar)> {
        let bars = self.bars.iter().enumerate();
        bars.filter(|(_, bar)| bar.spread.median.is_finite())
    }
}

/// From the left edge of a panel: the end of the labels, and the longest bar's.
const LABELS: f64 = 186.0;
const LONGEST: f64 = 420.0;
pub const WIDTH: f64 = 480.0;
const BAR: f64 = 9.0;
const LINE: f64 = 13.0;
const GAP: f64 = 7.0;
const HEAD: f64 = 26.0;
const FOOT: f64 = 44.0;
/// How many ticks there may be on an axis.
const TICKS: f64 = 5.0;

impl Panel {
    pub fn new(title: &'static str, axis: &'static str) -> Self {
        Self {
            title,
            axis,
            series: Vec::new(),
            groups: Vec::new(),
            reference: Some(1.0),
            decimals: 2,
        }
    }

    pub fn height(&self) -> f64 {
        let groups: f64 = self.groups.iter().map(Group::height).sum();
        HEAD + self.legend_height() + groups + FOOT
    }

    fn legend_height(&self) -> f64 {
        if self.series.len() > 1 { 18.0 } else { 0.0 }
    }

    /// Draws it with its upper left corner at (x, y).
    pub fn draw(&self, canvas: &mut Canvas, x: f64, y: f64) {
        canvas.text(x, y + 12.0, Anchor::Start, "title", self.title);
        if self.series.len() > 1 {
            self.draw_legend(canvas, x, y + HEAD);
        }
        let top = y + HEAD + self.legend_height();
        let bottom = y + self.height() - FOOT;
        let longest = self.longest();
        let at = |figure: f64| x + LABELS + (LONGEST - LABELS) * figure / longest;
        self.draw_axis(canvas, x, top, bottom, longest);
        if let Some(reference) = self.reference {
            canvas.line(
                (at(reference), top - 3.0),
                (at(reference), bottom),
                "reference",
            );
        }
        let mut y = top;
        for group in &self.groups {
            self.draw_group(canvas, group, x, y, &at);
            y += group.height();
        }
    }

    /// The figure that the longest bar or whisker stands for.
    fn longest(&self) -> f64 {
        let bars = self.groups.iter().flat_map(Group::drawn);
        let ends = bars.map(|(_, bar)| bar.spread.high.max(bar.spread.median));
        ends.chain(self.reference).fold(f64::MIN_POSITIVE, f64::max)
    }

    fn draw_legend(&self, canvas: &mut Canvas, x: f64, y: f64) {
        let width = |name: &String| 13.0 + label::width(name) + 14.0;
        let total: f64 = self.series.iter().map(width).sum();
        // Above the bars, or where it ends with the panel.
        let mut x = x + LABELS.min(WIDTH - total).max(0.0);
        for (number, name) in self.series.iter().enumerate() {
            canvas.bar((x, y - 8.0), (9.0, 8.0), &format!("other s{number}"));
            canvas.text(x + 13.0, y, Anchor::Start, "small", name);
            x += width(name);
        }
    }

    fn draw_axis(&self, canvas: &mut Canvas, x: f64, top: f64, bottom: f64, longest: f64) {
        let step = tick(longest);
        let decimals = usize::from(step < 1.0) + usize::from(step < 0.1);
        let mut figure = 0.0;
        while figure <= longest * 1.001 {
            let at = x + LABELS + (LONGEST - LABELS) * figure / longest;
            canvas.line((at, top - 3.0), (at, bottom), "grid");
            let words = format!("{figure:.decimals$}");
            canvas.text(at, bottom + 13.0, Anchor::Middle, "small", &words);
            figure += step;
        }
        canvas.text(x + LABELS, bottom + 28.0, Anchor::Start, "small", self.axis);
    }

    fn draw_group(
        &self,
        canvas: &mut Canvas,
        group: &Group,
        x: f64,
        y: f64,
        at: &impl Fn(f64) -> f64,
    ) {
        let lines = label::lines(&group.label);
        let middle = y + (group.height() - GAP) / 2.0;
        let mut baseline = middle - lines.len() as f64 * LINE / 2.0 + 10.0;
        let ours = group.label.contains("doorward") || group.label.starts_with("also ");
        let class = if ours { "label ours" } else { "label" };
        for line in &lines {
            canvas.text(x + LABELS - 8.0, baseline, Anchor::End, class, line);
            baseline += LINE;
        }
        let bars = group.drawn().count() as f64 * BAR;
        let mut y = middle - bars / 2.0;
        for (number, bar) in group.drawn() {
            let Spread { low, median, high } = bar.spread;
            let kind = if ours { "doorward" } else { "other" };
            let start = at(0.0);
            canvas.bar(
                (start, y + 0.5),
                (at(median) - start, BAR - 1.0),
                &format!("{kind} s{number}"),
            );
            canvas.line(
                (at(low), y + BAR / 2.0),
                (at(high), y + BAR / 2.0),
                "whisker",
            );
            let mut words = format!("{median:.*}", self.decimals);
            if bar.errors {
                words += " errors!";
            }
            let end = at(median.max(high)) + 4.0;
            canvas.text(end, y + BAR - 1.0, Anchor::Start, "figure", &words);
            y += BAR;
        }
    }
}

/// A round step, for at most so many ticks.
fn tick(longest: f64) -> f64 {
    let rough = longest / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}
