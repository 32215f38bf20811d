//! A second opinion on CRLs: what a gate can see of one without knowing what is revoked.
//!
//! Every field is read from the to-be-signed bytes and held to a rule, and the CRL is built again from what was read.
//! Which certificates are in it is the CA's word: a gate keeps the bytes, and an auditor compares them with the log.

use jiff::Timestamp;
use undercroft_log::leaf::{Channel, Intent, Object};
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::TbsCertList;

use super::{FRESH, Review};
use crate::names::SERVER_PATH;
use crate::policy::Refusal;
use crate::revocation::Shards;
use crate::revocation::facts::reason_from_code;
use crate::serial::SerialNumber;
use crate::tbs::{CrlScope, CrlSpec, HttpUrl, RevocationReason, Revoked, crl};
use crate::time::Validity;

const DELTA_CRL_INDICATOR: &str = "2.5.29.27";
const FRESHEST_CRL: &str = "2.5.29.46";

impl Review {
    /// Decides whether `tbs`, a TBSCertList for which `intent` was logged at `time`, may be signed `now`.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn judge_crl(
        &self,
        intent: &Intent,
        tbs: &[u8],
        time: Timestamp,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if intent.object != Object::Crl {
            return Err(Refusal::new("object", "the intent is not that of a CRL"));
        }
        self.is_ours(intent, time, now)?;
        let Some(longest) = self.crls else {
            return Err(Refusal::new(
                "object",
                "this gate lets no CRLs pass: its authority has no crl-lifetime",
            ));
        };
        let daemon = format!("{}{SERVER_PATH}", self.domain.id_string());
        if intent.caller.by != Channel::Daemon || intent.caller.id != daemon {
            return Err(Refusal::new("caller-unknown", "the daemon makes CRLs, and nobody asks for them"));
        }
        if intent.profile != "crl" {
            return Err(Refusal::new("profile", format!("CRLs are of no profile `{}`", intent.profile)));
        }
        let (rest, list) = TbsCertList::from_der(tbs).map_err(|error| unreadable(&error))?;
        if !rest.is_empty() {
            return Err(unreadable(&"bytes follow it"));
        }
        let next = list.next_update.ok_or_else(|| unreadable(&"it has no nextUpdate"))?;
        let period = Validity::new(at(list.this_update.timestamp())?, at(next.timestamp())?);
        let period = period.map_err(|error| unreadable(&error))?;
        // From now: a thief lays in no CRL for a time when more is revoked.
        if period.not_before() < time - FRESH || time < period.not_before() {
            return Err(Refusal::new(
                "not-from-now",
                format!("its thisUpdate is {}, and its entry is of {time}", period.not_before()),
            ));
        }
        if period.not_after().duration_since(period.not_before()).unsigned_abs() > longest.0 {
            return Err(Refusal::new(
                "lifetime-over-cap",
                format!("it is good until {}, which is more than {longest}", period.not_after()),
            ));
        }
        if !self.issuer.validity.covers(&period) {
            return Err(Refusal::new("outlives-issuer", "it is good when its issuer is not"));
        }
        let number = self.number(&list, time)?;
        let delta_of = delta_of(&list)?;
        if delta_of.is_some_and(|base| base >= number) {
            return Err(Refusal::new("crl-number", "it changes a CRL that is not older"));
        }
        let revoked = revoked(&list, &period, delta_of.is_some())?;
        let shard = self.shard(&list)?;
        let deltas = shard.as_ref().unwrap_or(&self.issuer.urls.crl).delta();
        let freshest = list.extensions().iter().any(|it| it.oid.to_id_string() == FRESHEST_CRL);
        let scope = CrlScope { shard: shard.as_ref(), delta_of, freshest: freshest.then_some(&deltas) };
        let built = crl(&CrlSpec { issuer: &self.issuer, number, period, revoked: &revoked, scope });
        let built = built.map_err(|error| Refusal::new("unbuildable", error.to_string()))?;
        match built.der() == tbs && (delta_of.is_none() || !freshest) {
            true => Ok(()),
            false => Err(Refusal::new(
                "not-what-was-granted",
                "the bytes to be signed are not the CRL that this authority makes of what they say: another issuer or key, or other extensions",
            )),
        }
    }

    /// The number, which is the time (`docs/revocation.md`): with one that is far ahead, every CRL after would be older.
    fn number(&self, list: &TbsCertList<'_>, time: Timestamp) -> Result<u64, Refusal> {
        let number = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::CRLNumber(number) => u64::try_from(number).ok(),
            _ => None,
        });
        let seconds = |time: Timestamp| u64::try_from(time.as_second()).unwrap_or_default();
        match number {
            Some(number) if (seconds(time - FRESH)..=seconds(time + FRESH)).contains(&number) => Ok(number),
            number => Err(Refusal::new(
                "crl-number",
                format!("its number is {number:?}; it must be the time in seconds, within ten minutes"),
            )),
        }
    }

    /// The URL of the shard that it covers, which must be one of this authority's.
    fn shard(&self, list: &TbsCertList<'_>) -> Result<Option<HttpUrl>, Refusal> {
        let named = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::IssuingDistributionPoint(point) => Some(point),
            _ => None,
        });
        let Some(named) = named else { return Ok(None) };
        let uri = match &named.distribution_point {
            Some(DistributionPointName::FullName(names)) => match names[..] {
                [GeneralName::URI(uri)] => Some(uri),
                _ => None,
            },
            _ => None,
        };
        let shards = self.issuer.urls.crl_shards.map_or(0, Shards::count);
        let mut own = (0..shards).map(|shard| self.issuer.urls.shard(shard));
        match own.find(|url| uri.is_some_and(|uri| url.as_str() == uri)) {
            Some(own) => Ok(Some(own)),
            None => Err(Refusal::new("crl-scope", format!("{uri:?} is no shard of this authority"))),
        }
    }
}

/// The entries: each once, in the order of serial numbers, and none of a time to come.
fn revoked(list: &TbsCertList<'_>, period: &Validity, is_delta: bool) -> Result<Vec<Revoked>, Refusal> {
    let mut all: Vec<Revoked> = Vec::with_capacity(list.revoked_certificates.len());
    for entry in &list.revoked_certificates {
        let serial = entry.raw_serial().try_into().ok().and_then(SerialNumber::from_bytes);
        let serial = serial.ok_or_else(|| unreadable(&"a serial number in it is none of ours"))?;
        let date = at(entry.revocation_date.timestamp())?;
        let code = entry.reason_code().map_or(0, |(_, reason)| reason.0);
        let reason = reason_from_code(code).map_err(|error| unreadable(&error))?;
        let wrong = |what: &str| Err(Refusal::new("crl-entry", format!("{serial} {what}")));
        if all.last().is_some_and(|last| last.serial >= serial) {
            return wrong("is listed twice, or out of order");
        }
        if date > period.not_before() {
            return wrong("is revoked after thisUpdate");
        }
        if reason == Some(RevocationReason::RemoveFromCrl) && !is_delta {
            return wrong("is released by a CRL that is no delta (RFC 5280 section 5.3.1)");
        }
        all.push(Revoked { serial, date, reason });
    }
    Ok(all)
}

/// Of a delta CRL, the number of its base.
fn delta_of(list: &TbsCertList<'_>) -> Result<Option<u64>, Refusal> {
    let extension = list.extensions().iter().find(|it| it.oid.to_id_string() == DELTA_CRL_INDICATOR);
    let Some(extension) = extension else { return Ok(None) };
    let (_, base) =
        x509_parser::asn1_rs::Integer::from_der(extension.value).map_err(|error| unreadable(&error))?;
    base.as_u64().map(Some).map_err(|error| unreadable(&error))
}

fn at(second: i64) -> Result<Timestamp, Refusal> {
    Timestamp::from_second(second).map_err(|error| unreadable(&error))
}

fn unreadable(what: &dyn std::fmt::Display) -> Refusal {
    Refusal::new("unreadable", format!("the TBSCertList: {what}"))
}
