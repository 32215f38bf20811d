//! The last page: what people sign for.

use undercroft_ca::plan::Plan;

use super::html::Html;

/// What no program can see.
const STATEMENTS: [&str; 6] = [
    "The place was physically secured from the beginning to the end; by:",
    "Everybody in the room is named above, and everybody named was present as noted.",
    "All of it was recorded on video, or witnessed by a qualified auditor; where, or who:",
    "PINs and activation materials were held by different persons; who held what:",
    "Tokens, backups and papers were sealed and stored afterwards; seal numbers and place:",
    "Every deviation is written down above or on the sheets; number of sheets:",
];

pub(super) fn sign_off(html: &mut Html, plan: &Plan) {
    html.raw("<section class=\"page\">\n<h2>Sign-off</h2>\n");
    html.raw("<table class=\"sign\"><thead><tr><th>What the participants state</th><th style=\"width: 62mm\">Remarks</th></tr></thead><tbody>\n");
    for statement in STATEMENTS {
        html.raw("<tr><td>").raw(statement).raw("</td><td></td></tr>\n");
    }
    html.raw("</tbody></table>\n");
    html.raw("<h3>Performed as the script says, save the deviations that are noted</h3>\n");
    html.raw("<table class=\"sign\"><thead><tr><th style=\"width: 45mm\">Name</th><th style=\"width: 35mm\">Role</th><th>Signature</th><th style=\"width: 28mm\">Date</th></tr></thead><tbody>\n");
    for name in plan.terms().iter().flat_map(|terms| terms.roster.names()) {
        html.between("<tr><td>", name, "</td><td></td><td></td><td></td></tr>\n");
    }
    for role in ["ceremony administrator", "operator", "witness", "witness", "auditor"] {
        html.raw("<tr><td></td><td>").raw(role).raw("</td><td></td><td></td></tr>\n");
    }
    html.raw("</tbody></table>\n</section>\n");
}
