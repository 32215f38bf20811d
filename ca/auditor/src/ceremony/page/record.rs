//! The record: what happened, as the transcript says.

use jiff::Timestamp;
use undercroft_ca::plan::Plan;

use super::html::Html;
use crate::ceremony::{Record, Verdict};

pub(super) fn record(html: &mut Html, plan: &Plan, verdict: &Verdict, record: &Record) {
    html.raw("<section class=\"page\">\n<h2>The record</h2>\n<p>Times are those of the machine in the room, in UTC, as they stand in the signed transcript.</p>\n");
    html.raw("<table><thead><tr><th class=\"number\">#</th><th style=\"width: 34mm\">Step</th><th style=\"width: 21mm\">Begun</th><th style=\"width: 21mm\">Done</th><th>Took</th><th>SHA-256 of the file that was written or given</th></tr></thead><tbody>\n");
    for (step, told) in plan.steps().iter().zip(&record.steps) {
        html.between("<tr><td class=\"number\">", &told.number.to_string(), "</td>");
        html.between("<td>", step.name(), "");
        if told.attempts > 1 {
            html.between("<br><small>", &format!("{} attempts", told.attempts), "</small>");
        }
        html.between("</td><td>", &clock(told.begun), "</td><td>").between(
            "",
            &clock(told.done),
            "</td><td>",
        );
        html.text(&took(told.begun, told.done));
        let output = told.output.map(|output| output.to_string()).unwrap_or_default();
        html.between("</td><td class=\"mono\">", &output, "</td></tr>\n");
    }
    html.raw("</tbody></table>\n");
    approvals(html, record);
    devices_and_keys(html, record);
    html.raw("<h3>Deviations</h3>\n");
    if verdict.deviations.is_empty() {
        html.raw("<p>None is recorded.</p>\n");
    } else {
        html.raw("<table><thead><tr><th class=\"narrow\">Entry</th><th>Kind</th><th>What</th><th>Approved by</th></tr></thead><tbody>\n");
        for it in &verdict.deviations {
            let by = if it.approved_by.is_empty() { "nobody".to_owned() } else { it.approved_by.join(", ") };
            html.row([it.entry.to_string().as_str(), &it.kind_in_words(), &it.reason, &by]);
        }
        html.raw("</tbody></table>\n");
    }
    html.raw("<h3>Notes, pauses and interruptions</h3>\n");
    if record.told.is_empty() {
        html.raw("<p>None is recorded.</p>\n");
    } else {
        html.raw("<table><thead><tr><th class=\"narrow\">Entry</th><th>Time</th><th>What</th><th>Text</th></tr></thead><tbody>\n");
        for (entry, time, what, text) in &record.told {
            html.row([entry.to_string().as_str(), &clock(Some(*time)), what, text]);
        }
        html.raw("</tbody></table>\n");
    }
    html.between("<h3>The signed head of the transcript</h3>\n<pre>", &record.note, "</pre>\n</section>\n");
}

fn approvals(html: &mut Html, record: &Record) {
    html.raw("<h3>Approvals</h3>\n");
    if record.approvals.is_empty() {
        html.raw("<p>There are none.</p>\n");
        return;
    }
    html.raw("<table><thead><tr><th class=\"narrow\">Entry</th><th>Of</th><th>At</th><th>By</th><th>SHA-256 of its object</th></tr></thead><tbody>\n");
    for it in &record.approvals {
        let who = if it.who.is_empty() { "nobody that counts".to_owned() } else { it.who.join(", ") };
        html.between("<tr><td>", &it.entry.to_string(), "</td>").between("<td>the ", it.of, "</td>");
        html.between("<td>", &clock(Some(it.time)), "").between(
            "<br><small>good until ",
            &it.expires,
            "</small></td>",
        );
        html.between("<td>", &who, "</td>").between("<td class=\"mono\">", &it.object, "</td></tr>\n");
    }
    html.raw("</tbody></table>\n");
}

fn devices_and_keys(html: &mut Html, record: &Record) {
    html.raw("<h3>Devices, as they said of themselves</h3>\n");
    if record.devices.is_empty() {
        html.raw("<p>None is recorded.</p>\n");
    } else {
        html.raw("<table><thead><tr><th class=\"narrow\">Entry</th><th>Device</th></tr></thead><tbody>\n");
        for (entry, text) in &record.devices {
            html.row([entry.to_string().as_str(), text]);
        }
        html.raw("</tbody></table>\n");
    }
    html.raw("<h3>Inventory of keys, with custody as it was judged again</h3>\n");
    for key in &record.keys {
        html.raw("<div class=\"object\"><dl>\n");
        html.fact("Key of", &key.purpose);
        html.fact(
            "Recorded",
            &format!("entry {}, {:?}, {}", key.entry, key.event, key.algorithm).to_lowercase(),
        );
        html.fact("Named", &key.uri);
        html.raw("<dt>Key id</dt>").between("<dd class=\"mono\">", &key.key_id, "</dd>\n");
        html.raw("<dt>Custody</dt>").between("<dd><strong>", &key.grade, "</strong>");
        for finding in &key.findings {
            html.between("<br><small>", finding, "</small>");
        }
        html.raw("</dd></dl></div>\n");
    }
    html.raw("<p class=\"small\">A key id is the SHA-256 of the SubjectPublicKeyInfo. <em>declared</em>: the token says so. <em>proven</em>: its manufacturer and a party other than the CA vouch for it.</p>\n");
}

/// 2026-11-22 08:00:05.
fn clock(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "not done".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn took(begun: Option<Timestamp>, done: Option<Timestamp>) -> String {
    let Some((begun, done)) = begun.zip(done) else { return String::new() };
    let seconds = (done.as_second() - begun.as_second()).max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        _ => format!("{} min", seconds / 60),
    }
}
