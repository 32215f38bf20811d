//! The objects that came out, and what stands in them, as another library reads them.

use jiff::Timestamp;
use undercroft_ca::plan::Plan;
use undercroft_ca::profile::Profile;
use undercroft_ca::roots_statement::RootsStatement;
use undercroft_keys::PublicKey;
use undercroft_log::leaf::Digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use super::html::Html;
use crate::ceremony::Record;

/// id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1).
const NO_CHECK: &str = "1.3.6.1.5.5.7.48.1.5";

/// The most revoked certificates that are listed.
const SHOWN: usize = 50;

pub(super) fn objects(html: &mut Html, plan: &Plan, record: &Record) {
    html.raw("<section class=\"page\">\n<h2>Objects</h2>\n");
    if record.outputs.is_empty() {
        html.raw("<p>The files were not given, or there are none.</p>\n");
    }
    for output in &record.outputs {
        let name =
            plan.steps().iter().find(|step| step.number == output.number).map_or("", |step| step.name());
        html.raw("<div class=\"object\">\n");
        html.between("<h3>", name, ": ").between("<code>", &output.path, "</code></h3>\n<dl>\n");
        facts(html, &output.der);
        html.raw("<dt>SHA-256 of the file</dt>").between(
            "<dd class=\"mono\">",
            &output.sha256.to_string(),
            "</dd>\n",
        );
        if stated(&output.der).is_none() {
            html.raw("<dt>SHA-256 of the DER</dt>").between(
                "<dd class=\"mono\">",
                &Digest::of(&output.der).to_string(),
                "</dd>\n",
            );
        }
        html.raw("</dl></div>\n");
    }
    html.raw("</section>\n");
}

fn facts(html: &mut Html, der: &[u8]) {
    if let Ok((_, certificate)) = X509Certificate::from_der(der) {
        let tbs = &certificate.tbs_certificate;
        html.fact("Is", "a certificate");
        html.fact("Subject", &tbs.subject.to_string()).fact("Issuer", &tbs.issuer.to_string());
        html.fact("Serial number", &hex::encode(tbs.raw_serial()));
        html.fact(
            "Valid",
            &format!("{} to {}", time(&tbs.validity.not_before), time(&tbs.validity.not_after)),
        );
        key(html, tbs.subject_pki.raw);
        tbs.extensions().iter().for_each(|extension| one(html, extension));
        if tbs.extensions().iter().any(|extension| extension.oid.to_id_string() == NO_CHECK) {
            let days =
                (tbs.validity.not_after.timestamp() - tbs.validity.not_before.timestamp()) / (24 * 3600);
            html.fact(
                "Revocation",
                &format!("nobody asks whether it is revoked (id-pkix-ocsp-nocheck, RFC 6960 section 4.2.2.2.1): it lives {days} days, of {} at most", Profile::ocsp_signer_of_root().max_lifetime()),
            );
        }
    } else if let Ok((_, list)) = CertificateRevocationList::from_der(der) {
        let tbs = &list.tbs_cert_list;
        html.fact("Is", "a CRL");
        html.fact("Issuer", &tbs.issuer.to_string());
        html.fact("Number", &list.crl_number().map(ToString::to_string).unwrap_or_default());
        html.fact("This update", &time(&tbs.this_update));
        html.fact("Next update", &tbs.next_update.as_ref().map(time).unwrap_or_default());
        let revoked: Vec<_> = tbs.revoked_certificates.iter().collect();
        let mut lines: Vec<_> = revoked
            .iter()
            .take(SHOWN)
            .map(|it| format!("{} at {}", hex::encode(it.raw_serial()), time(&it.revocation_date)))
            .collect();
        if revoked.len() > SHOWN {
            lines.push(format!("and {} more", revoked.len() - SHOWN));
        }
        let lines = if lines.is_empty() { "none".to_owned() } else { lines.join("\n") };
        html.fact("Revoked", &lines);
    } else if let Ok((_, request)) = X509CertificationRequest::from_der(der) {
        let info = &request.certification_request_info;
        html.fact("Is", "a certification request").fact("Subject", &info.subject.to_string());
        key(html, info.subject_pki.raw);
    } else if let Some(statement) = stated(der) {
        html.fact("Is", "a statement about roots, which counts with the quorum's approval alone");
        html.fact("Trust domain", &statement.domain).fact("Number", &statement.number.to_string());
        html.fact("Good", &format!("{} to {}", statement.begins, statement.ends));
        for root in &statement.roots {
            html.fact("Root", &root.subject);
            html.raw("<dt>SHA-256 of its DER</dt>").between(
                "<dd class=\"mono\">",
                &root.sha256.to_string(),
                "</dd>\n",
            );
        }
    } else {
        html.fact("Is", "something that cannot be read");
    }
}

/// The statement about roots that a file holds; that of a rehearsal stands behind a line that says so.
fn stated(bytes: &[u8]) -> Option<RootsStatement> {
    let text = std::str::from_utf8(bytes).ok()?;
    RootsStatement::parse(&text[text.find('{')?..]).ok()
}

fn key(html: &mut Html, spki: &[u8]) {
    let (kind, id) = match PublicKey::from_spki(spki) {
        Ok(key) => (key.key_type().to_string(), key.id().to_string()),
        Err(error) => (error.to_string(), Digest::of(spki).to_string()),
    };
    html.fact("Key", &kind);
    html.raw("<dt>Key id</dt>").between("<dd class=\"mono\">", &id, "</dd>\n");
}

fn one(html: &mut Html, extension: &X509Extension<'_>) {
    let critical = if extension.critical { " (critical)" } else { "" };
    let mut fact = |name, what: String| {
        html.fact(name, &format!("{what}{critical}"));
    };
    match extension.parsed_extension() {
        ParsedExtension::BasicConstraints(it) => fact(
            "Basic constraints",
            match it.path_len_constraint {
                Some(length) => format!("CA: {}, path length {length}", it.ca),
                None => format!("CA: {}", it.ca),
            },
        ),
        ParsedExtension::KeyUsage(it) => fact("Key usage", it.to_string()),
        ParsedExtension::SubjectKeyIdentifier(it) => fact("Subject key identifier", hex::encode(it.0)),
        ParsedExtension::AuthorityKeyIdentifier(it) => {
            fact(
                "Authority key identifier",
                it.key_identifier.as_ref().map(|it| hex::encode(it.0)).unwrap_or_default(),
            );
        }
        ParsedExtension::CertificatePolicies(it) => {
            let policies = it.iter().map(|policy| policy.policy_id.to_id_string());
            fact("Certificate policies", policies.collect::<Vec<_>>().join(", "));
        }
        ParsedExtension::SubjectAlternativeName(it) => {
            fact("Subject alternative name", names(&it.general_names))
        }
        ParsedExtension::NameConstraints(it) => {
            let permitted = it.permitted_subtrees.iter().flatten().map(|it| name(&it.base));
            let excluded = it.excluded_subtrees.iter().flatten().map(|it| format!("not {}", name(&it.base)));
            fact("Name constraints", permitted.chain(excluded).collect::<Vec<_>>().join(", "));
        }
        ParsedExtension::CRLDistributionPoints(it) => {
            let points = it.iter().filter_map(|point| match &point.distribution_point {
                Some(DistributionPointName::FullName(of)) => Some(names(of)),
                _ => None,
            });
            fact("CRL distribution point", points.collect::<Vec<_>>().join(", "));
        }
        ParsedExtension::AuthorityInfoAccess(it) => {
            let places = it.accessdescs.iter().map(|it| name(&it.access_location));
            fact("Authority information", places.collect::<Vec<_>>().join(", "));
        }
        _ => fact("Extension", extension.oid.to_id_string()),
    }
}

fn names(names: &[GeneralName<'_>]) -> String {
    names.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        GeneralName::DNSName(dns) => format!("DNS {dns}"),
        other => other.to_string(),
    }
}

fn time(time: &ASN1Time) -> String {
    Timestamp::from_second(time.timestamp()).map(|time| time.to_string()).unwrap_or_default()
}
