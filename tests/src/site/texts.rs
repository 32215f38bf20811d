//! The files that a person would write: plan, configuration, policy.

use undercroft_cli::Failure;
use undercroft_cli::system::SystemClock;
use undercroft_log::Clock as _;

use super::{Domain, Listen, first_label};

/// The key of a domain's log, in the token for log keys.
pub(super) fn log_key(domain: &Domain) -> String {
    format!("pkcs11:token=logs;object={}-log", first_label(&domain.name))
}

/// The `[[device]]` table of one device, and what stands before all tables.
pub(super) fn only_device(devices: &str, name: &str) -> String {
    let mut parts = devices.split("[[device]]");
    let head = parts.next().unwrap_or_default();
    let named = format!("name = \"{name}\"\n");
    let tables = parts.filter(|table| table.contains(&named)).map(|table| format!("[[device]]{table}"));
    head.to_owned() + &tables.collect::<String>()
}

/// A plan whose validity begins today.
pub(super) fn plan(domains: &[Domain]) -> Result<String, Failure> {
    let failed = |error: jiff::Error| Failure::failed(error.to_string());
    let today = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| format!("{date}T00:00:00Z");
    let begins = day(today);
    let root_ends = day(today.checked_add(jiff::Span::new().years(20)).map_err(failed)?);
    let ends = day(today.checked_add(jiff::Span::new().days(360)).map_err(failed)?);
    let next_update = day(today.checked_add(jiff::Span::new().days(180)).map_err(failed)?);
    let mut text =
        r#"# The first ceremony of Example: a root for each trust domain, and an intermediate below each.
version = 1
title = "First ceremony of Example"
operator = "ca.example"
name = "first"
policy-arc = "1.3.6.1.4.1.32473.1"
transcript = { device = "roots", label = "ceremony-log" }
entropy = "a00e2623a9ae131e34c6400ae569a6aedf34c4d848cb9947dcd736ad18b79c08"
"#
        .to_owned();
    let mut roots: Vec<(&str, Vec<&str>, &str)> = Vec::new();
    for domain in domains {
        let root = domain.shared_root.as_deref().unwrap_or(first_label(&domain.name));
        match roots.iter_mut().find(|(name, _, _)| *name == root) {
            Some((_, names, _)) => names.push(&domain.name),
            None => roots.push((
                root,
                vec![&domain.name],
                domain.shared_root.as_deref().unwrap_or(&domain.folder),
            )),
        }
    }
    for (name, domains, folder) in &roots {
        let subject = if domains.len() > 1 { name } else { domains[0] };
        text += &format!(
            r#"
[[root]]
name = "{name}-root"
domains = {domains:?}
key = {{ device = "roots", label = "{name}-root-r1", algorithm = "ecdsa-p384" }}
subject = {{ organization = "Example", common-name = "{subject} Root R1" }}
not-before = {begins}
not-after = {root_ends}
urls = {{ crl = "http://pki.ca.example/{name}/root.crl", certificate = "http://pki.ca.example/{name}/root.cer" }}
follows = "CP 1.0 section 7.1.1"
output = "{folder}/root.pem"

[[crl]]
name = "{name}-root-crl"
issuer = "{name}-root"
number = 1
this-update = {begins}
next-update = {next_update}
follows = "CP 1.0 section 7.2"
output = "{folder}/root.crl"
"#
        );
    }
    for domain in domains {
        let Domain { name, folder, algorithm, .. } = domain;
        let label = first_label(name);
        let root = domain.shared_root.as_deref().unwrap_or(label);
        let constraints = match domain.shared_root {
            Some(_) => format!("constraints = {{ dns-names = [\"{name}\"] }}\n"),
            None => String::new(),
        };
        text += &format!(
            r#"
[[intermediate]]
name = "{label}-intermediate"
domain = "{name}"
issuer = "{root}-root"
request = "{folder}/intermediate"
algorithm = "{algorithm}"
subject = {{ organization = "Example", common-name = "{name} Intermediate I1" }}
not-before = {begins}
not-after = {ends}
{constraints}follows = "CP 1.0 section 7.1.2"
output = "{folder}/intermediate.pem"
"#
        );
    }
    Ok(text)
}

pub(super) fn configuration(domains: &[Domain], devices: &str, listen: Listen, user: u32) -> String {
    let port = match listen {
        Listen::Anywhere => 0,
        Listen::Port(port) => port,
    };
    // `development` stands in the file of devices already.
    let (head, tables) = devices.split_once("[[device]]").unwrap_or((devices, ""));
    let mut text = format!(
        r#"{head}operator = "ca.example"
control = "control.example"
policy = "policy.toml"
policy-arc = "1.3.6.1.4.1.32473.1"
database = "undercroft.db"

[listen]
address = "127.0.0.1:{port}"
admin-socket = "admin.sock"
admin-users = [{user}]

[[ceremony]]
plan = "../ceremony/plan.toml"
transcript = "../ceremony/transcript"
"#
    );
    for domain in domains {
        let Domain { name, folder, key, algorithm, .. } = domain;
        let log_key = log_key(domain);
        let root = domain.shared_root.as_deref().unwrap_or(folder);
        let label = domain.shared_root.as_deref().unwrap_or(first_label(name));
        let server_names = match folder.as_str() {
            "control" => "server-names = [\"ca.control.example\"]\n",
            _ => "",
        };
        text += &format!(
            r#"
[[domain]]
name = "{name}"
roots = ["../{root}/root.pem"]
log-key = "{log_key}"
{server_names}
[[domain.authority]]
name = "i1"
certificate = "../{folder}/intermediate.pem"
key = "{key}"
algorithm = "{algorithm}"
urls = {{ crl = "http://pki.ca.example/{label}/i1.crl", certificate = "http://pki.ca.example/{label}/i1.cer" }}
"#
        );
    }
    format!("{text}\n[[device]]{tables}")
}

/// Operators may have workloads' and SPIRE servers' certificates issued in every domain but the control domain.
pub(super) fn policy(domains: &[Domain]) -> String {
    let mut text = String::new();
    for Domain { name, .. } in domains.iter().skip(1) {
        let label = first_label(name);
        text += &format!(
            r#"[[rule]]
name = "{label}-workloads"
callers = ["spiffe://control.example/operator/*"]
domain = "{name}"
profile = "svid"
spiffe-ids = ["spiffe://{name}/ns/*/sa/*"]
dns-names = ["*.{name}"]
max-lifetime = "4h"

[[rule]]
name = "{label}-spire"
callers = ["spiffe://control.example/server/{label}"]
domain = "{name}"
profile = "spire-ca"
max-lifetime = "24h"

"#
        );
    }
    text
}
