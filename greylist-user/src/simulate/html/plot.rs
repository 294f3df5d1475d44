//! Bars as inline SVG, drawn by plotters and readable on a light page and a dark one: whatever it
//! draws in black takes the colour of the page's text, and the bars' colours are between the two.

use plotters::prelude::*;

use super::escaped;

/// Some bars with their names.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    /// For those who do not see it.
    pub(super) description: &'a str,
    /// Under the bars.
    pub(super) labels: Vec<String>,
    pub(super) series: Vec<Series<'a>>,
    /// One upon the other; beside each other else.
    pub(super) is_stacked: bool,
}

/// One colour's worth of it.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    /// One for each label.
    pub(super) values: Vec<u64>,
}

impl Plot<'_> {
    /// The picture; [`None`] if there is nothing to be seen.
    pub(super) fn drawn(&self) -> Option<String> {
        let most = (0..self.labels.len()).map(|at| self.height_at(at)).max()?;
        if most == 0 {
            return None;
        }
        let mut svg = String::new();
        self.draw(&mut svg, most).ok()?;
        Some(self.labelled(&svg))
    }

    fn height_at(&self, at: usize) -> u64 {
        let values = self.series.iter().filter_map(|it| it.values.get(at));
        if self.is_stacked {
            values.sum()
        } else {
            values.copied().max().unwrap_or(0)
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a picture is not exact to the last digit"
    )]
    fn draw(&self, svg: &mut String, most: u64) -> Result<(), Box<dyn std::error::Error>> {
        let count = self.labels.len();
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let (width, height) = (count as f64, most as f64 * 1.05);
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(64)
            .caption(self.title, ("sans-serif", 18))
            .build_cartesian_2d(0.0..width, 0.0..height)?;
        let label = |x: &f64| {
            let at = self.labels.iter().enumerate();
            let mut found = at.filter(|(at, _)| (*at as f64 - x).abs() < 0.01);
            found
                .next()
                .map_or_else(String::new, |(_, label)| label.clone())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .x_labels(count.min(8))
            .x_label_formatter(&label)
            .y_label_formatter(&|y| format!("{y:.0}"))
            .draw()?;
        let mut beneath = vec![0.0; count];
        let share = 0.9 / self.series.len().max(1) as f64;
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let bars = series.values.iter().enumerate().map(|(at, value)| {
                let (from, wide) = if self.is_stacked {
                    (at as f64, 0.9)
                } else {
                    (at as f64 + share * number as f64, share)
                };
                let bottom = if self.is_stacked { beneath[at] } else { 0.0 };
                let top = bottom + *value as f64;
                if self.is_stacked {
                    beneath[at] = top;
                }
                Rectangle::new([(from, bottom), (from + wide, top)], colour.filled())
            });
            let bars: Vec<_> = bars.collect();
            chart
                .draw_series(bars)?
                .label(series.name)
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled())
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .border_style(BLACK.mix(0.3))
            .draw()?;
        root.present()?;
        Ok(())
    }

    /// Says what it is, and gives the page's colour to what is black.
    fn labelled(&self, svg: &str) -> String {
        let svg = svg.replace("#000000", "currentColor");
        let at = svg.find('>').map_or(0, |at| at + 1);
        let (open, rest) = svg.split_at(at);
        let open = open.replacen("<svg ", "<svg role=\"img\" ", 1);
        let title = escaped(self.title);
        let description = escaped(self.description);
        format!("{open}<title>{title}</title><desc>{description}</desc>{rest}")
    }
}

const SIZE: (u32, u32) = (900, 320);
/// Told apart by those who see colours differently, on white and on black.
const COLOURS: [RGBColor; 3] = [
    RGBColor(0x2a, 0x93, 0x6f),
    RGBColor(0xd9, 0x82, 0x1f),
    RGBColor(0x8a, 0x63, 0xd2),
];
