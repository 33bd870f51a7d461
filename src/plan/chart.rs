//! A picture of a report: what waited, and for how long, over time.

use plotters::backend::SVGBackend;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::Shift,
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea},
    element::PathElement,
    series::LineSeries,
    style::{BLACK, Color, RED, RGBColor, WHITE},
};

use super::report::{Report, Sample};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 640;
const INTERACTIVE: RGBColor = RGBColor(31, 119, 180);
const BULK: RGBColor = RGBColor(255, 127, 14);

/// One line of a chart.
struct Line<'a> {
    name: &'a str,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

/// The picture, as SVG.
pub fn svg(report: &Report) -> Result<String, String> {
    let mut text = String::new();
    draw(report, &mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// A page with the picture and a text under it.
pub fn html(report: &Report, text: &str) -> Result<String, String> {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let picture = svg(report)?;
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <title>userpilot-gateway plan</title>\n\
         <style>body {{ max-width: 960px; margin: 1em auto; }} pre {{ margin-left: 80px; }}</style>\n\
         {picture}\n<pre>\n{text}</pre>\n</html>\n"
    ))
}

type Failure = DrawingAreaErrorKind<std::io::Error>;

fn draw(report: &Report, text: &mut String) -> Result<(), Failure> {
    let root = SVGBackend::with_string(text, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.split_vertically(HEIGHT / 2);
    let points = |of: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        report.samples.iter().map(|sample| (sample.at_s / 3_600.0, of(sample))).collect()
    };
    let waiting = [
        Line {
            name: "interactive",
            color: INTERACTIVE,
            points: points(|sample| sample.interactive_rows as f64),
        },
        Line { name: "bulk", color: BULK, points: points(|sample| sample.bulk_rows as f64) },
    ];
    let oldest =
        [Line { name: "oldest", color: RED, points: points(|sample| sample.oldest_s / 60.0) }];
    lines(&upper, "users that wait", &waiting)?;
    lines(&lower, "minutes that the oldest has waited", &oldest)?;
    root.present()
}

fn lines(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    caption: &str,
    lines: &[Line<'_>],
) -> Result<(), Failure> {
    let all = || lines.iter().flat_map(|line| &line.points);
    let hours = all().map(|point| point.0).fold(0.1, f64::max);
    let most = all().map(|point| point.1).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..hours, 0.0..most * 1.05)?;
    chart
        .configure_mesh()
        .x_desc("hours")
        .x_label_formatter(&|hours| number(*hours))
        .y_label_formatter(&|of| number(*of))
        .label_style(("sans-serif", 13))
        .light_line_style(WHITE)
        .draw()?;
    for line in lines {
        let color = line.color;
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    // One line is what the caption says.
    if lines.len() < 2 {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 13))
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
}

/// A number at an axis: without the fraction of a whole one, and with its thousands apart.
fn number(number: f64) -> String {
    let text = format!("{number:.1}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let mut apart = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    if fraction != "0" {
        apart = apart + "." + fraction;
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_at_an_axis_reads_at_a_glance() {
        let check = |of, expected: &str| assert_eq!(number(of), expected);
        check(0.0, "0");
        check(0.5, "0.5");
        check(12.0, "12");
        check(600.0, "600");
        check(60_000.0, "60,000");
        check(1_000_000.0, "1,000,000");
    }
}
