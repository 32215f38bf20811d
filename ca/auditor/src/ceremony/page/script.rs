//! The script: who takes part, and what is done, before it is.

use undercroft_ca::plan::{Plan, PlannedKey, Step, What};

use super::html::Html;

/// Rows for persons whom no plan names.
const WITNESSES: usize = 3;

/// Who takes part.
pub(super) fn participants(html: &mut Html, plan: &Plan) {
    html.raw("<section class=\"page\">\n<h2>Participants</h2>\n");
    match plan.terms() {
        Some(terms) => {
            let quorum = terms.roster.quorum();
            let text = format!(
                "{quorum} of these persons approve the plan before the ceremony and its result after it, with keys of their own. {} asked for the ceremony and does not approve.",
                terms.requester
            );
            html.between("<p>", &text, "</p>\n");
            html.raw("<table><thead><tr><th>Person of the roster</th><th>Role on the day</th><th>Present from, until</th><th class=\"narrow\">Initials</th></tr></thead><tbody>\n");
            for name in terms.roster.names() {
                html.between("<tr><td>", name, "</td>");
                html.raw("<td><span class=\"blank\"></span></td><td><span class=\"blank\"></span></td><td><span class=\"blank\"></span></td></tr>\n");
            }
        }
        None => {
            html.raw("<p>The plan has no roster: it is for development, and nobody approves it.</p>\n<table><thead><tr><th>Person</th><th>Role on the day</th><th>Present from, until</th><th class=\"narrow\">Initials</th></tr></thead><tbody>\n");
        }
    }
    for _ in 0..WITNESSES {
        html.raw("<tr><td><span class=\"blank\"></span></td><td>witness</td><td><span class=\"blank\"></span></td><td><span class=\"blank\"></span></td></tr>\n");
    }
    html.raw("</tbody></table>\n<h3>Devices</h3>\n");
    match plan.terms() {
        Some(terms) => {
            html.raw("<table><thead><tr><th>Device</th><th>Model</th><th>Firmware</th><th>Serial number, read from the case</th><th class=\"narrow\">Initials</th></tr></thead><tbody>\n");
            for device in &terms.devices {
                html.raw("<tr>");
                for cell in [&device.name, &device.model, &device.firmware] {
                    html.between("<td>", cell, "</td>");
                }
                html.raw(
                    "<td><span class=\"blank\"></span></td><td><span class=\"blank\"></span></td></tr>\n",
                );
            }
            html.raw("</tbody></table>\n");
        }
        None => {
            html.raw("<p>The plan names none.</p>\n");
        }
    }
    html.raw("</section>\n");
}

/// What is done, in order.
pub(super) fn steps(html: &mut Html, plan: &Plan) {
    html.raw("<section class=\"page\">\n<h2>The script</h2>\n<p>Steps are done in this order, each once. Tick a step when it is done, and initial it. A step that goes otherwise is a deviation: write it down before going on.</p>\n");
    html.raw("<table><thead><tr><th class=\"number\">#</th><th>What is done</th><th>Follows</th><th class=\"narrow\">Expected</th><th>Done</th><th class=\"narrow\">Initials</th></tr></thead><tbody>\n");
    for step in plan.steps() {
        html.between("<tr><td class=\"number\">", &step.number.to_string(), "</td><td>");
        html.between("<strong>", step.name(), "</strong><br>").text(&capital(&step.in_words()));
        for detail in details(&step) {
            html.between("<br><small>", &detail, "</small>");
        }
        html.between("</td><td>", step.follows(), "</td>");
        html.between("<td>", &minutes(step.expected().as_secs()), "</td>");
        html.raw("<td><span class=\"box\"></span></td><td><span class=\"blank\"></span></td></tr>\n");
    }
    html.raw("</tbody></table>\n</section>\n");
}

/// Sheets for what goes otherwise.
pub(super) fn deviations(html: &mut Html) {
    html.raw("<section class=\"page\">\n<h2>Deviations</h2>\n<p>One sheet each. A deviation from the plan or its rules needs the quorum's approval in the transcript as well.</p>\n");
    for number in ["1", "2", "3"] {
        html.raw("<div class=\"sheet\"><strong>Deviation ").raw(number);
        html.raw("</strong><div>At step, at (time)</div><div>What was expected</div><div>What happened</div><div>What was decided, and by whom</div><div>Signed</div></div>\n");
    }
    html.raw("</section>\n");
}

/// What whoever watches a step wants to compare.
fn details(step: &Step<'_>) -> Vec<String> {
    let key = |key: &PlannedKey| format!("key `{}` in device `{}`, {}", key.label, key.device, key.algorithm);
    let mut details = Vec::new();
    match step.what {
        What::Open(root) | What::Root(root) => details.push(key(root.key())),
        What::Destruction(it) => details.push(key(it.key())),
        What::Intermediate(_) | What::OcspSigner(_) => {
            let requested = step.requested();
            details.extend(requested.map(|it| format!("request {}.csr.pem, {}", it.request, it.algorithm)));
        }
        What::Import(it) => details.push(format!("answer {}", it.answer())),
        What::Manual(it) => details.extend(it.evidence().map(|evidence| format!("evidence {evidence}"))),
        What::BundleStatement(it) => {
            details.push(format!("the quorum approves it at the end, as {}.json", it.approval()));
        }
        What::CertificateRequest(_) | What::CrossCertificate(_) | What::Crl(_) => {}
    }
    details.extend(step.output().map(|output| format!("writes {output}")));
    details
}

fn minutes(seconds: u64) -> String {
    format!("{} min", seconds.div_ceil(60))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
