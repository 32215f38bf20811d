//! A rotation as a page: its calendar drawn, and what it waits for. The page needs no other file and no script.

use std::fmt::Write as _;

use jiff::Timestamp;
use undercroft_cli::Failure;
use undercroft_proto::v1;

/// Widths and heights in the picture.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 190.0;
const ROW: f64 = 30.0;
const TOP: f64 = 46.0;
const BAR: f64 = 18.0;

const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2430; max-width: 980px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 0 .2rem } h2 { font-size: 1.1rem; margin: 1.8rem 0 .4rem }
p { margin: .3rem 0 } .quiet { color: #5c6773 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #dde3ea }
th { font-weight: 600; color: #5c6773 } td.time, td.rule { white-space: nowrap }
svg { width: 100%; height: auto; font: 13px system-ui, sans-serif }
code { font-size: .85em; word-break: break-all }
@media print { body { margin: 0 } h2 { break-after: avoid } tr, svg { break-inside: avoid } }
";

/// A piece of a bar.
struct Piece {
    from: Timestamp,
    until: Timestamp,
    colour: &'static str,
    /// Whether it is to come, and is drawn hollow.
    is_ahead: bool,
}

/// The page.
pub(super) fn html(rotation: &v1::Rotation) -> Result<String, Failure> {
    let what = match rotation.new_root.is_empty() {
        true => "intermediates",
        false => "a root",
    };
    let phase = if rotation.phase.is_empty() { "planned, and not begun" } else { &rotation.phase };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Rotation {0} of {1}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Rotation {0} of {1}</h1>\n<p class=\"quiet\">Of {what}, {2} schedule. As of {3}; bundle {4} is published.</p>\n<p><strong>{5}</strong>{6}</p>\n",
        rotation.number,
        escape(&rotation.domain),
        escape(&rotation.schedule),
        readable(&rotation.now),
        rotation.bundle_sequence,
        escape(phase),
        match rotation.next.is_empty() {
            true => "; nothing is left to be done".to_owned(),
            false => format!("; next is <strong>{}</strong>", escape(&rotation.next)),
        }
    );
    page += &picture(rotation)?;
    page += &calendar(rotation);
    page += "<h2>What is replaced</h2>\n<table>\n<tr><th></th><th>old</th><th>new</th></tr>\n";
    if !rotation.new_root.is_empty() {
        let _ = writeln!(
            page,
            "<tr><td>root</td><td>{}</td><td>{}</td></tr>",
            escape(&rotation.old_root),
            escape(&rotation.new_root)
        );
    }
    for pair in &rotation.replace {
        let _ = writeln!(
            page,
            "<tr><td>authority</td><td>{}</td><td>{}</td></tr>",
            escape(&pair.old),
            escape(&pair.new)
        );
    }
    page += "</table>\n";
    page += &waits(rotation);
    page += &consumers(rotation);
    page += "</body>\n</html>\n";
    Ok(page)
}

fn calendar(rotation: &v1::Rotation) -> String {
    let mut text = "<h2>Calendar</h2>\n<table>\n<tr><th>phase</th><th>from</th><th>to</th></tr>\n".to_owned();
    for span in &rotation.calendar {
        let from = match span.begun {
            true => readable(&span.from),
            false => format!("{}, at the earliest", readable(&span.from)),
        };
        let until = match (span.until.is_empty(), span.begun) {
            (true, _) => String::new(),
            (false, true) if span.phase != rotation.phase => readable(&span.until),
            (false, _) => format!("{}, at the earliest", readable(&span.until)),
        };
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td class=\"time\">{from}</td><td class=\"time\">{until}</td></tr>",
            escape(&span.phase)
        );
    }
    text + "</table>\n"
}

fn waits(rotation: &v1::Rotation) -> String {
    if rotation.next.is_empty() {
        return String::new();
    }
    let mut text = format!("<h2>What <em>{}</em> waits for</h2>\n", escape(&rotation.next));
    if rotation.blockers.is_empty() {
        text += "<p>Nothing that time or others must do.</p>\n";
    } else {
        text += "<table>\n<tr><th>rule</th><th>what is missing</th><th>until</th></tr>\n";
        for blocker in &rotation.blockers {
            let until =
                if blocker.until.is_empty() { "it is done".to_owned() } else { readable(&blocker.until) };
            let _ = writeln!(
                text,
                "<tr><td class=\"rule\">{}</td><td>{}</td><td class=\"time\">{until}</td></tr>",
                escape(&blocker.rule),
                escape(&blocker.text)
            );
        }
        text += "</table>\n";
    }
    if !rotation.to_approve.is_empty() {
        let _ = writeln!(
            text,
            "<p>It changes the published roots. The quorum approves <code>{}</code>.</p>",
            escape(&rotation.to_approve)
        );
    }
    text
}

fn consumers(rotation: &v1::Rotation) -> String {
    if rotation.consumers.is_empty() {
        return String::new();
    }
    let mut text =
        "<h2>Who takes the bundles</h2>\n<table>\n<tr><th>consumer</th><th>was last given</th></tr>\n"
            .to_owned();
    for consumer in &rotation.consumers {
        let kind = if consumer.spire_server { " (SPIRE server)" } else { "" };
        let holds = match consumer.holds {
            0 => "nothing that is remembered".to_owned(),
            holds => format!("bundle {holds}"),
        };
        let _ = writeln!(text, "<tr><td>{}{kind}</td><td>{holds}</td></tr>", escape(&consumer.id));
    }
    text + "</table>\n"
}

/// The calendar: a row for each phase, and below it who is published and who signs.
fn picture(rotation: &v1::Rotation) -> Result<String, Failure> {
    let now = time(&rotation.now)?;
    let begins = time(&rotation.planned)?;
    let mut spans = Vec::new();
    for span in &rotation.calendar {
        let until = (!span.until.is_empty()).then(|| time(&span.until)).transpose()?;
        spans.push((span.phase.as_str(), time(&span.from)?, until, span.begun));
    }
    let last = spans
        .iter()
        .flat_map(|(_, from, until, _)| [Some(*from), *until])
        .flatten()
        .fold(now, Timestamp::max);
    let length = (last.as_second() - begins.as_second()).max(60);
    let ends = Timestamp::from_second(last.as_second() + length / 8).unwrap_or(last);
    let scale = Scale { begins, ends };

    let mut rows: Vec<(String, Vec<Piece>)> = Vec::new();
    for (phase, from, until, begun) in &spans {
        let piece =
            Piece { from: *from, until: until.unwrap_or(ends), colour: colour(phase), is_ahead: !begun };
        // A phase that is under way is solid up to now.
        let pieces = match *begun && piece.until > now {
            true => vec![
                Piece { until: now, ..piece },
                Piece {
                    from: now.max(*from),
                    until: until.unwrap_or(ends),
                    colour: colour(phase),
                    is_ahead: true,
                },
            ],
            false => vec![piece],
        };
        rows.push(((*phase).to_owned(), pieces));
    }
    let when =
        |phase: &str| spans.iter().find(|(name, ..)| *name == phase).map_or(ends, |(_, from, ..)| *from);
    let lane = |from: Timestamp, until: Timestamp, colour| {
        let split = now.clamp(from, until);
        vec![
            Piece { from, until: split, colour, is_ahead: false },
            Piece { from: split, until, colour, is_ahead: true },
        ]
    };
    let of_phases = rows.len();
    if !rotation.new_root.is_empty() {
        let mut old = lane(begins, when("drain"), OLD);
        old.extend(lane(when("drain"), when("retire"), TAINTED));
        rows.push(("old root is published".to_owned(), old));
        rows.push(("new root is published".to_owned(), lane(when("pre-publish"), ends, NEW)));
    }
    rows.push(("old authorities sign".to_owned(), lane(begins, when("switch"), OLD)));
    rows.push(("new authorities sign".to_owned(), lane(when("switch"), ends, NEW)));
    Ok(draw(&rows, of_phases, &scale, now, !rotation.new_root.is_empty()))
}

const OLD: &str = "#7b8794";
const TAINTED: &str = "#c2410c";
const NEW: &str = "#15803d";

fn colour(phase: &str) -> &'static str {
    match phase {
        "pre-publish" => "#2563eb",
        "cross-sign" => "#7c3aed",
        "switch" => "#15803d",
        "drain" => "#c2410c",
        _ => "#475569",
    }
}

/// Where a time is in the picture.
struct Scale {
    begins: Timestamp,
    ends: Timestamp,
}

impl Scale {
    fn x(&self, at: Timestamp) -> f64 {
        let length = (self.ends.as_second() - self.begins.as_second()).max(1) as f64;
        let passed = (at.as_second() - self.begins.as_second()) as f64;
        LEFT + (WIDTH - LEFT - 10.0) * (passed / length).clamp(0.0, 1.0)
    }

    /// Six times, evenly spread.
    fn ticks(&self) -> impl Iterator<Item = Timestamp> {
        let (from, length) = (self.begins.as_second(), self.ends.as_second() - self.begins.as_second());
        (0..6).filter_map(move |tick| Timestamp::from_second(from + length * tick / 6).ok())
    }

    fn label(&self, at: Timestamp) -> String {
        let days = (self.ends.as_second() - self.begins.as_second()) / (24 * 3600);
        let text = at.to_string();
        match days {
            // Six ticks on fewer days would show a day twice.
            0..=12 => text.get(5..16).unwrap_or(&text).replace('T', " "),
            _ => text.get(..10).unwrap_or(&text).to_owned(),
        }
    }
}

fn draw(
    rows: &[(String, Vec<Piece>)],
    of_phases: usize,
    scale: &Scale,
    now: Timestamp,
    of_root: bool,
) -> String {
    let gap = 16.0;
    let y_of = |row: usize| TOP + row as f64 * ROW + if row >= of_phases { gap } else { 0.0 };
    let bottom = y_of(rows.len()) + 4.0;
    let height = bottom + 26.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"calendar of the rotation\" xmlns=\"http://www.w3.org/2000/svg\">\n"
    );
    for tick in scale.ticks() {
        let x = scale.x(tick);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"#dde3ea\"/><text x=\"{x:.1}\" y=\"{:.1}\" fill=\"#5c6773\">{}</text>",
            TOP - 6.0,
            TOP - 12.0,
            scale.label(tick)
        );
    }
    for (number, (name, pieces)) in rows.iter().enumerate() {
        let y = y_of(number);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#1c2430\">{}</text>",
            LEFT - 12.0,
            y + 14.0,
            escape(name)
        );
        for piece in pieces.iter().filter(|piece| piece.from < piece.until) {
            let (x, end) = (scale.x(piece.from), scale.x(piece.until));
            let (colour, opacity) = (piece.colour, if piece.is_ahead { "0.25" } else { "1" });
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\" fill-opacity=\"{opacity}\" stroke=\"{colour}\"/>",
                (end - x).max(2.0)
            );
        }
    }
    let x = scale.x(now);
    let _ = writeln!(
        svg,
        "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#b91c1c\" stroke-width=\"2\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#b91c1c\">now</text>",
        TOP - 6.0,
        bottom + 4.0,
        bottom + 20.0
    );
    svg += "</svg>\n<p class=\"quiet\">Full: as it was. Pale: to come, at the earliest.";
    if of_root {
        svg += " Orange, in the lane of the old root: it is tainted, and what stands under it goes on verifying until it is retired.";
    }
    svg + "</p>\n"
}

fn time(text: &str) -> Result<Timestamp, Failure> {
    text.parse().map_err(|_| Failure::failed(format!("the daemon told a time that is none: {text}")))
}

/// A time for people: `2026-11-22 08:00:00 UTC`.
fn readable(text: &str) -> String {
    escape(&text.replacen('T', " ", 1).replacen('Z', " UTC", 1))
}

/// Text as HTML has it. What the daemon tells may hold what strangers wrote.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c if c.is_control() && c != '\n' => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation() -> v1::Rotation {
        let span = |phase: &str, from: &str, until: &str, begun| v1::RotationSpan {
            phase: phase.into(),
            from: from.into(),
            until: until.into(),
            begun,
        };
        v1::Rotation {
            domain: "prod.example".into(),
            number: 1,
            schedule: "planned".into(),
            phase: "pre-publish".into(),
            next: "switch".into(),
            planned: "2026-11-22T08:00:00Z".into(),
            new_root: "CN=R2".into(),
            old_root: "CN=<script>alert(1)</script>".into(),
            calendar: vec![
                span("pre-publish", "2026-11-22T09:00:00Z", "2026-11-24T09:00:00Z", true),
                span("switch", "2026-11-24T09:00:00Z", "", false),
            ],
            blockers: vec![v1::RotationBlocker {
                rule: "consumer".into(),
                text: "a & b \"quoted\"".into(),
                until: String::new(),
            }],
            now: "2026-11-23T09:00:00Z".into(),
            ..v1::Rotation::default()
        }
    }

    #[test]
    fn a_page_is_whole_and_executes_nothing() {
        let page = html(&rotation()).unwrap();
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("a &amp; b &quot;quoted&quot;"));
        assert!(!page.contains("src=") && !page.contains("href="), "it needs no other file");
        for tag in ["html", "body", "svg", "table"] {
            assert_eq!(page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
        }
        let untimely = v1::Rotation { now: "soon".into(), ..rotation() };
        assert!(html(&untimely).unwrap_err().to_string().contains("soon"));
    }

    /// Each bar begins where its time is.
    #[test]
    fn times_are_where_they_belong() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let scale = Scale { begins: at("2026-11-22T08:00:00Z"), ends: at("2026-11-24T08:00:00Z") };
        let right = WIDTH - 10.0;
        for (text, x) in [
            ("2026-11-22T08:00:00Z", LEFT),
            ("2026-11-23T08:00:00Z", f64::midpoint(LEFT, right)),
            ("2026-11-24T08:00:00Z", right),
            ("2026-11-25T08:00:00Z", right),
            ("2026-11-21T08:00:00Z", LEFT),
        ] {
            assert!((scale.x(at(text)) - x).abs() < 0.01, "{text}");
        }
    }
}
