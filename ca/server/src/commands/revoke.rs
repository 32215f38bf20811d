//! `undercroft revoke`: certificates are revoked, put on hold or released.

use std::path::PathBuf;

use serde_json::json;
use undercroft_ca::certificate::certificates_from_pem;
use undercroft_ca::serial::SerialNumber;
use undercroft_cli::{Failure, Terminal, read_text};
use undercroft_log::leaf::Reason;
use undercroft_proto::v1;
use undercroft_proto::v1::revocation_client::RevocationClient;
use undercroft_proto::v1::revoke_request::Event;

use super::client::{AdminArgs, block_on, told};

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The trust domain.
    #[arg(long)]
    domain: String,
    /// The authority that issued them; any of the domain if absent.
    #[arg(long, default_value = "")]
    authority: String,
    #[command(flatten)]
    which: Which,
    /// Why (RFC 5280 section 5.3.1).
    #[arg(long, conflicts_with_all = ["hold", "release"])]
    reason: Option<Reason>,
    /// Put them on hold: revoked until they are released.
    #[arg(long, conflicts_with = "release")]
    hold: bool,
    /// Release them from a hold.
    #[arg(long)]
    release: bool,
    /// Say what would become of them, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Which certificates.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// A serial number, 32 hexadecimal digits, colons allowed; may be repeated.
    #[arg(long)]
    serial: Vec<String>,
    /// A certificate (PEM); the first in the file.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// Every live certificate with this SPIFFE ID.
    #[arg(long)]
    spiffe_id: Option<String>,
}

impl RevokeArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let event = match (self.hold, self.release) {
            (true, _) => Event::Hold,
            (_, true) => Event::Release,
            _ => Event::Revoke,
        };
        let request = v1::RevokeRequest {
            domain: self.domain.clone(),
            authority: self.authority.clone(),
            serials: self.which.serials()?,
            spiffe_id: self.which.spiffe_id.clone().unwrap_or_default(),
            event: event.into(),
            reason: self.reason.map(|reason| reason.to_string()).unwrap_or_default(),
            dry_run: self.dry_run,
        };
        let told = block_on(async {
            let mut client = RevocationClient::new(self.admin.connect().await?);
            Ok(client.revoke(request).await.map_err(told)?.into_inner())
        })?;
        let certificates: Vec<_> = told
            .certificates
            .iter()
            .map(|found| {
                json!({
                    "serial": hex::encode(&found.serial),
                    "issuer": found.issuer,
                    "name": found.name,
                    "not-after": found.not_after,
                })
            })
            .collect();
        let value = json!({
            "domain": self.domain,
            "event": match event {
                Event::Hold => "hold",
                Event::Release => "release",
                _ => "revoke",
            },
            "dry-run": self.dry_run,
            "published": told.published,
            "certificates": certificates,
        });
        terminal.result(&value, || {
            let did = match (self.dry_run, event) {
                (true, Event::Hold) => "would be put on hold",
                (true, Event::Release) => "would be released",
                (true, _) => "would be revoked",
                (false, Event::Hold) => "is on hold",
                (false, Event::Release) => "is released",
                (false, _) => "is revoked",
            };
            let mut text = String::new();
            for found in &told.certificates {
                let serial = hex::encode(&found.serial);
                text += &format!("{serial} {did}: {}, until {}\n", found.name, found.not_after);
            }
            if !told.published {
                text += "The daemon publishes no CRLs of its authority: see [domain.authority.revocation] in docs/revocation.md\n";
            }
            text
        })
    }
}

impl Which {
    fn serials(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let mut serials = Vec::new();
        for text in &self.serial {
            let mut bytes = [0; 16];
            let digits = text.replace(':', "");
            let serial = hex::decode_to_slice(digits, &mut bytes).ok();
            let serial = serial.and_then(|()| SerialNumber::from_bytes(bytes)).ok_or_else(|| {
                Failure::usage(format!(
                    "--serial {text}: a serial number of ours has 32 hexadecimal digits; `openssl x509 -serial` prints it"
                ))
            })?;
            serials.push(serial.as_bytes().to_vec());
        }
        if let Some(path) = &self.certificate {
            let during = |failure: Failure| failure.during(path.display());
            let ders = certificates_from_pem(&read_text(path)?).map_err(|error| during(error.into()))?;
            let der = ders.first().ok_or_else(|| during(Failure::usage("there is no certificate in it")))?;
            let serial = SerialNumber::of_certificate(der)
                .ok_or_else(|| during(Failure::usage("it is no certificate with a serial number of ours")))?;
            serials.push(serial.as_bytes().to_vec());
        }
        Ok(serials)
    }
}
