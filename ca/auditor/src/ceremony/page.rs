//! The report, and the script: one HTML file each that prints to A4, without anything from elsewhere.

mod html;
mod objects;
mod record;
mod script;
mod sign_off;
mod verdict;

use undercroft_ca::plan::{Mode, Plan};
use undercroft_ca::spoken;
use undercroft_cli::Qr;

use self::html::Html;
use super::{Outcome, Verified};

/// Findings that stand on the first page. All of them stand in the verdict.
const FINDINGS_ON_COVER: usize = 5;

/// The script alone, before the ceremony.
pub fn script(plan: &Plan) -> String {
    let mut html = begin("Key ceremony script", plan, plan.mode() == Mode::Rehearsal);
    cover(&mut html, plan, "Script of a key ceremony", None);
    script::participants(&mut html, plan);
    script::steps(&mut html, plan);
    script::deviations(&mut html);
    sign_off::sign_off(&mut html, plan);
    end(html)
}

/// The report, after it.
pub fn report(plan: &Plan, verified: &Verified) -> String {
    let Verified { verdict, record } = verified;
    // What is refused may be a rehearsal, too: the transcript's name says it.
    let is_rehearsal = plan.clone().rehearsed().is_ok_and(|it| it.origin().as_str() == verdict.origin);
    let mut html = begin("Key ceremony report", plan, is_rehearsal);
    cover(&mut html, plan, "Report of a key ceremony", Some(verified));
    script::participants(&mut html, plan);
    script::steps(&mut html, plan);
    if let Some(record) = record {
        record::record(&mut html, plan, verdict, record);
        objects::objects(&mut html, plan, record);
    }
    verdict::verdict(&mut html, verdict);
    sign_off::sign_off(&mut html, plan);
    end(html)
}

fn begin(title: &'static str, plan: &Plan, is_rehearsal: bool) -> Html {
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    // Nothing that a name smuggled in could be run or fetched, even if it were markup.
    html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n");
    html.raw("<title>").raw(title).raw("</title>\n<style>\n").raw(include_str!("page/style.css"));
    // Every page says which plan it is of; a digest is hexadecimal and cannot leave its quotes.
    let digest = super::verdict::grouped(&plan.digest().to_string());
    html.raw("@page { @top-left { content: \"").raw(title).raw("\"; font: 8pt sans-serif; color: #555; }");
    html.raw(" @top-right { content: \"plan ")
        .text(&digest[..19])
        .raw(" …\"; font: 8pt monospace; color: #555; } }\n");
    if is_rehearsal {
        html.raw("@page { @top-center { content: \"REHEARSAL\"; font: bold 13pt sans-serif; letter-spacing: .3em; color: #a00; } }\n");
    }
    html.raw("</style></head><body>\n");
    // Behind every page, too: not every browser prints boxes in page margins.
    if is_rehearsal {
        html.raw("<div class=\"rehearsal\">REHEARSAL</div><div class=\"rehearsal-behind\">REHEARSAL</div>\n");
    }
    html
}

fn end(mut html: Html) -> String {
    html.raw("</body></html>\n");
    html.into_text()
}

/// The first page: what it is, and the digest that everybody compares.
fn cover(html: &mut Html, plan: &Plan, kind: &'static str, verified: Option<&Verified>) {
    html.raw("<section>\n<p class=\"kind\">").raw(kind).raw("</p>\n");
    html.between("<h1>", plan.title(), "</h1>\n");
    html.raw("<dl>\n");
    let operator = plan.origin().as_str().split('/').next().unwrap_or_default();
    html.fact("Operator", operator);
    match verified {
        Some(Verified { verdict, .. }) => {
            html.fact("Transcript", &verdict.origin);
            if let (Some(first), Some(last)) = (verdict.first, verdict.last) {
                html.fact("Begun", &first.to_string()).fact("Ended", &last.to_string());
            }
            html.fact("Entries", &verdict.entries.to_string()).fact("Root", &verdict.root);
        }
        None => {
            html.fact("Transcript", plan.origin().as_str());
        }
    }
    if let Some(terms) = plan.terms() {
        let window = terms.window;
        html.fact("Window", &format!("{} to {}", window.begins, window.ends));
        html.fact("Asked for by", &terms.requester);
    }
    let steps = plan.steps();
    let minutes = steps.iter().map(|step| step.expected().as_secs()).sum::<u64>().div_ceil(60);
    html.fact("Steps", &format!("{}, expected to take {minutes} minutes", steps.len()));
    html.raw("</dl>\n<h3>SHA-256 of the plan, to be compared by everybody in the room</h3>\n");
    html.raw("<div class=\"digest\">");
    for group in super::verdict::grouped(&plan.digest().to_string()).split(' ') {
        html.between("<span>", group, "</span>");
    }
    html.raw("</div>\n");
    aloud(html, plan);
    html.raw("<p class=\"small\">The plan is one file. <code>sha256sum</code> over it gives these digits; so does every entry of the transcript.</p>\n");
    if let Some(Verified { verdict, .. }) = verified {
        html.raw(match verdict.outcome {
            Outcome::Accepted => "<div class=\"conclusion\">",
            _ => "<div class=\"conclusion bad\">",
        });
        html.text(&verdict.conclusion()).raw("</div>\n");
        for finding in verdict.findings().take(FINDINGS_ON_COVER) {
            html.between("<p class=\"finding\">", &finding.to_string(), "</p>\n");
        }
        html.raw("<p class=\"small\">This is what a program has found in the files of the ceremony. What a program cannot see, people sign for on the last pages.</p>\n");
    }
    html.raw("</section>\n");
}

/// The digest as words to be read aloud, and as a QR code.
fn aloud(html: &mut Html, plan: &Plan) {
    let digest = plan.digest().0;
    html.raw("<div class=\"aloud\"><ol>");
    for line in spoken::words(&digest).chunks(4) {
        html.between("<li>", &line.join(" "), "</li>");
    }
    html.raw("</ol>");
    if let Ok(code) = Qr::of_digest(&digest) {
        html.picture(&code.svg());
    }
    html.raw("</div>\n");
}
