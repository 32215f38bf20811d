//! The plans: of a ceremony with everything in it, of the one before, and of a corporation's own.

use undercroft_ca::plan::Plan;

use crate::persons::PERSONS;

/// What the ceremony is about that others have made.
pub(crate) struct Foreign {
    /// SHA-256 of the head of the ceremony before.
    pub(crate) previous: String,
    pub(crate) old_root: String,
    pub(crate) old_key_id: String,
    pub(crate) corporate_root: String,
}

pub(crate) fn parse(text: &str) -> Plan {
    Plan::parse("plan.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

fn head(name: &str, title: &str) -> String {
    format!(
        r#"
version = 1
title = "{title}"
operator = "ca.example"
name = "{name}"
policy-arc = "1.3.6.1.4.1.32473.1"
transcript = {{ device = "roots", label = "ceremony-log" }}
entropy = "8c1d2f0e5b7a94d36e1f0c8b7a695847362514f3e2d1c0bfae9d8c7b6a594837"
"#
    )
}

fn root(name: &str, domain: &str, common_name: &str) -> String {
    format!(
        r#"
[[root]]
name = "{name}"
domains = ["{domain}"]
key = {{ device = "roots", label = "{name}", algorithm = "ecdsa-p384" }}
subject = {{ organization = "Example", common-name = "{common_name}" }}
not-before = 2025-11-22T00:00:00Z
not-after = 2045-11-22T00:00:00Z
urls = {{ crl = "http://pki.ca.example/{name}.crl", certificate = "http://pki.ca.example/{name}.cer" }}
follows = "CP 1.0 section 7.1.1"
output = "{name}.pem"
"#
    )
}

/// The ceremony before: it made the root that exists.
pub(crate) fn previous() -> String {
    head("2025-11", "Ceremony of 2025")
        + "requester = \"carol\"\n"
        + &terms(&["alice", "bob"], "2025-11-22")
        + &root("old-root", "prod.example", "prod.example Root R1")
        + &statement("first-roots", 1, r#"roots = ["old-root"]"#)
}

/// What is stated about the roots of prod.example.
fn statement(name: &str, number: u64, roots: &str) -> String {
    format!(
        r#"
[[bundle-statement]]
name = "{name}"
domain = "prod.example"
number = {number}
{roots}
not-before = 2025-11-22T00:00:00Z
not-after = 2027-12-31T00:00:00Z
follows = "CP 1.0 section 6.1.4"
output = "{name}.json"
"#
    )
}

/// A ceremony after it that states again which roots there are.
pub(crate) fn restated(previous: &str, old_root: &str, number: u64) -> String {
    head("2026-12", "Statement of 2026")
        + &format!("requester = \"carol\"\nprevious = \"{previous}\"\n")
        + &terms(&["alice", "bob"], "2026-11-22")
        + &format!(
            r#"
[[existing-root]]
name = "old-root"
domains = ["prod.example"]
key = {{ device = "roots", label = "old-root", algorithm = "ecdsa-p384" }}
certificate = """{old_root}"""
urls = {{ crl = "http://pki.ca.example/old-root.crl", certificate = "http://pki.ca.example/old-root.cer" }}
follows = "CP 1.0 section 7.1.1"
"#
        )
        + &statement("again", number, r#"roots = ["old-root"]"#)
}

/// The ceremony after that: it signs a CRL under the root, or makes another root.
pub(crate) fn next(root: Option<&str>) -> String {
    head("2026-11", "Ceremony of 2026")
        + &match root {
            None => self::root("other-root", "prod.example", "prod.example Root R2"),
            Some(certificate) => format!(
                r#"
[[existing-root]]
name = "old-root"
domains = ["prod.example"]
key = {{ device = "roots", label = "old-root", algorithm = "ecdsa-p384" }}
certificate = """{certificate}"""
urls = {{ crl = "http://pki.ca.example/old-root.crl", certificate = "http://pki.ca.example/old-root.cer" }}
follows = "CP 1.0 section 5.6"

[[crl]]
name = "old-crl"
issuer = "old-root"
number = 2
this-update = 2025-11-22T00:00:00Z
next-update = 2026-05-22T00:00:00Z
revoked = []
follows = "CP 1.0 section 7.2"
output = "old-root.crl"
"#
            ),
        }
}

/// The corporation's own ceremonies: its root, and the certificate that it gives ours.
pub(crate) fn corporate() -> String {
    head("corporate", "Corporate root") + &root("corporate", "corp.example", "Corporate Root")
}

/// The corporation signs our root.
pub(crate) fn corporate_answer(corporate_root: &str, old_root: &str) -> String {
    head("answer", "Answer to Example")
        + &format!(
            r#"
[[existing-root]]
name = "corporate"
domains = ["corp.example"]
key = {{ device = "roots", label = "corporate", algorithm = "ecdsa-p384" }}
certificate = """{corporate_root}"""
urls = {{ crl = "http://pki.corp.example/root.crl", certificate = "http://pki.corp.example/root.cer" }}
follows = "Corporate CP"

[[cross-certificate]]
name = "answer"
issuer = "corporate"
certificate = """{old_root}"""
not-before = 2025-11-22T00:00:00Z
not-after = 2030-11-22T00:00:00Z
follows = "Corporate CP"
output = "answer.pem"
"#
        )
}

/// Terms: two of these persons on that day; carol asks.
fn terms(persons: &[&str], day: &str) -> String {
    let person =
        |name: &str| format!("\n[[roster.person]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", PERSONS.key(name));
    format!(
        r#"
[roster]
quorum = 2
{}
[window]
begins = {day}T08:00:00Z
ends = {day}T20:00:00Z

[[device]]
name = "roots"
model = "YubiHSM"
firmware = "2.4"

[[device]]
name = "vault"
model = "YubiHSM"
firmware = "2.4"
"#,
        persons.iter().map(|name| person(name)).collect::<String>()
    )
}

/// The plan with everything in it.
pub(crate) fn everything(foreign: &Foreign) -> String {
    let Foreign { previous, old_root, old_key_id, corporate_root } = foreign;
    head("2026-11", "Rotation of 2026")
        + &format!("requester = \"carol\"\nprevious = \"{previous}\"\n")
        + &terms(&["alice", "bob", "carol", "dora"], "2026-11-22")
        + &format!(
            r#"
[[manual]]
name = "unseal"
instruction = "Take the tokens out of the safe and compare the numbers of their seals"
at = "begin"
follows = "CPS 1.0 section 5.1"

[[existing-root]]
name = "old-root"
domains = ["prod.example"]
key = {{ device = "roots", label = "old-root", algorithm = "ecdsa-p384" }}
certificate = """{old_root}"""
urls = {{ crl = "http://pki.ca.example/old-root.crl", certificate = "http://pki.ca.example/old-root.cer" }}
follows = "CP 1.0 section 7.1.1"
"#
        )
        + &root("new-root", "prod.example", "prod.example Root R2")
            .replace("new-root.cer\"", "new-root.cer\", ocsp = \"http://pki.ca.example/new-root/ocsp\"")
        + &format!(
            r#"
[[certificate-request]]
name = "corporate-request"
root = "new-root"
follows = "CP 1.0 section 4.1"
output = "corporate.csr.pem"

[[import]]
name = "corporate-answer"
root = "old-root"
issuer = """{corporate_root}"""
answer = "corporate/answer.pem"
follows = "CP 1.0 section 4.3"
output = "old-root-under-corporate.pem"

[[cross-certificate]]
name = "new-by-old"
issuer = "old-root"
subject = "new-root"
not-before = 2026-11-22T00:00:00Z
not-after = 2030-11-22T00:00:00Z
follows = "CP 1.0 section 7.1.3"
output = "cross/new-by-old.pem"

[[cross-certificate]]
name = "old-by-new"
issuer = "new-root"
subject = "old-root"
not-before = 2026-11-22T00:00:00Z
not-after = 2030-11-22T00:00:00Z
follows = "CP 1.0 section 7.1.3"
output = "cross/old-by-new.pem"

[[cross-certificate]]
name = "corporate-by-new"
issuer = "new-root"
certificate = """{corporate_root}"""
not-before = 2026-11-22T00:00:00Z
not-after = 2030-11-22T00:00:00Z
follows = "CP 1.0 section 7.1.3"
output = "cross/corporate-by-new.pem"

[[intermediate]]
name = "intermediate-1"
domain = "prod.example"
issuer = "new-root"
request = "prod.example/intermediate-1"
algorithm = "ecdsa-p256"
subject = {{ organization = "Example", common-name = "prod.example Intermediate I1" }}
not-before = 2026-11-22T00:00:00Z
not-after = 2027-11-17T00:00:00Z
follows = "CP 1.0 section 7.1.2"
output = "prod.example/intermediate-1.pem"

[[intermediate]]
name = "intermediate-2"
domain = "prod.example"
issuer = "new-root"
request = "prod.example/intermediate-2"
algorithm = "ecdsa-p256"
subject = {{ organization = "Example", common-name = "prod.example Intermediate I2" }}
not-before = 2026-11-22T00:00:00Z
not-after = 2027-11-17T00:00:00Z
follows = "CP 1.0 section 7.1.2"
output = "prod.example/intermediate-2.pem"

[[ocsp-signer]]
name = "new-ocsp"
issuer = "new-root"
request = "prod.example/new-ocsp"
algorithm = "ecdsa-p256"
subject = {{ organization = "Example", common-name = "prod.example Root R2 OCSP" }}
not-before = 2026-11-22T00:00:00Z
not-after = 2027-02-20T00:00:00Z
follows = "CP 1.0 section 7.3"
output = "new-ocsp.pem"

[[crl]]
name = "old-crl"
issuer = "old-root"
number = 2
this-update = 2026-11-22T00:00:00Z
next-update = 2027-05-21T00:00:00Z
revoked = [{{ serial = "01010101010101010101010101010101", date = 2026-11-21T00:00:00Z, reason = "superseded" }}]
follows = "CP 1.0 section 7.2"
output = "old-root.crl"

[[crl]]
name = "new-crl"
issuer = "new-root"
number = 1
this-update = 2026-11-22T00:00:00Z
next-update = 2027-05-21T00:00:00Z
follows = "CP 1.0 section 7.2"
output = "new-root.crl"

[[manual]]
name = "backup"
instruction = "Wrap the key of new-root and put the wrapped key on two sticks"
evidence = "backup/new-root.wrapped"
minutes = 10
follows = "CPS 1.0 section 6.2.4"

[[destruction]]
name = "retire-vault"
key = {{ device = "vault", label = "old-root-copy", algorithm = "ecdsa-p384" }}
key-id = "{old_key_id}"
follows = "CPS 1.0 section 6.2.10"
"#
        )
        + &statement(
            "second-roots",
            2,
            &format!("roots = [\"old-root\", \"new-root\"]\ncertificates = [\"\"\"{corporate_root}\"\"\"]"),
        )
}
