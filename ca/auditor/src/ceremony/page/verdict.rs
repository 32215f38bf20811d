//! The verdict as a table, and what others demand with the checks that show it.

use super::html::Html;
use crate::ceremony::clauses::CLAUSES;
use crate::ceremony::{Status, Verdict};

pub(super) fn verdict(html: &mut Html, verdict: &Verdict) {
    html.raw("<section class=\"page\">\n<h2>The verdict</h2>\n");
    html.raw("<table><thead><tr><th>Check</th><th>Result</th><th>What was compared</th><th>Serves</th></tr></thead><tbody>\n");
    for check in &verdict.checks {
        html.between("<tr><td class=\"name\">", check.check.name(), "</td><td>");
        status(html, check.status);
        html.between("</td><td>", &check.compared, "");
        for finding in &check.findings {
            html.between("<br><span class=\"finding\">", &finding.to_string(), "</span>");
        }
        html.between("</td><td><small>", &check.clauses.join("; "), "</small></td></tr>\n");
    }
    html.raw("</tbody></table>\n");
    html.between("<p><strong>", &verdict.conclusion(), "</strong></p>\n</section>\n");
    html.raw("<section class=\"page\">\n<h2>What is demanded of a key ceremony</h2>\n<p>WebTrust Principles and Criteria for Certification Authorities, criterion 4.1; CA/Browser Forum Baseline Requirements; ETSI EN 319 411-1 clause 6.5.1. Demands are named by their subject. A check shows a demand as far as files can; the last column is for people.</p>\n");
    html.raw("<table class=\"demands\"><thead><tr><th style=\"width: 30mm\">Clause</th><th>Demand</th><th>Shown by</th><th>Left to people</th></tr></thead><tbody>\n");
    for clause in CLAUSES {
        html.between("<tr><td>", &clause.source.to_string(), "</td>").between(
            "<td>",
            clause.demand,
            "</td><td>",
        );
        for (at, subject) in clause.shown_by.iter().enumerate() {
            html.raw(if at > 0 { ", " } else { "" }).between("", subject.name(), " ");
            if let Some(check) = verdict.check(*subject) {
                status(html, check.status);
            }
        }
        if clause.shown_by.is_empty() {
            html.raw("<span class=\"other\">no program can</span>");
        }
        html.between("</td><td>", clause.people, "</td></tr>\n");
    }
    html.raw("</tbody></table>\n</section>\n");
}

fn status(html: &mut Html, status: Status) {
    html.raw(match status {
        Status::Ok => "<span class=\"ok\">",
        Status::Failed => "<span class=\"failed\">",
        Status::NotApplicable | Status::NotLookedAt => "<span class=\"other\">",
    });
    html.raw(status.in_words()).raw("</span>");
}
