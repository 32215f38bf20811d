//! An ACME server (RFC 8555) for devices, with the one challenge `device-attest-01` (draft-ietf-acme-device-attest), as a value:
//! requests in, answers out, time and randomness as arguments. Who listens and who issues is elsewhere (`docs/acme.md`).
//!
//! Everything here is lost at a restart, and harmlessly: accounts have no rights, and clients repeat what was under way.

mod answers;
mod bounded;
mod jwk;
mod jws;
mod orders;
mod problem;

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

pub use answers::Answer;
use bounded::Bounded;
pub use jwk::Jwk;
pub use jws::{Jws, MAX_JWS, Signer};
pub use orders::{Attested, Identifier, Order, State};
pub use problem::{Problem, Type};

use crate::csr::{Csr, CsrError};
use crate::serial::Entropy;

/// How long an order, and a nonce, is good.
const LIFETIME: SignedDuration = SignedDuration::from_hours(1);
/// The most accounts, and the most orders.
const MOST: usize = 16 * 1024;
/// The most nonces that are out.
const MOST_NONCES: usize = 64 * 1024;

/// The server's memory.
#[derive(Debug)]
pub struct Acme {
    /// Its address, without a slash at its end.
    url: String,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    nonces: Bounded<()>,
    accounts: Bounded<Jwk>,
    orders: Bounded<Order>,
}

/// What somebody asked for, whose signature and nonce were good.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its account; none for a new one.
    account: Option<String>,
    key: Jwk,
    payload: Vec<u8>,
}

/// An answer to a challenge that is to be judged.
#[derive(Clone, Debug)]
pub struct Claim {
    order: String,
    /// The statement.
    pub object: Vec<u8>,
    /// What it must be about.
    pub key_authorization: String,
    /// Which device it must be.
    pub identifier: String,
    /// SHA-256 of the account's key (RFC 7638).
    pub account: [u8; 32],
}

/// A device that was attested, and what it asks a certificate for.
#[derive(Clone, Debug)]
pub struct Finalization {
    order: String,
    /// Who it is, and its key.
    pub attested: Attested,
    /// The request, for the attested key.
    pub request: Csr,
    /// SHA-256 of the account's key (RFC 7638).
    pub account: [u8; 32],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewAccount {
    #[serde(default)]
    only_return_existing: bool,
}

#[derive(Deserialize)]
struct NewOrder {
    identifiers: Vec<Identifier>,
    #[serde(rename = "notBefore")]
    not_before: Option<Value>,
    #[serde(rename = "notAfter")]
    not_after: Option<Value>,
}

#[derive(Deserialize)]
struct Answered {
    #[serde(rename = "attObj")]
    object: String,
}

#[derive(Deserialize)]
struct Finalize {
    csr: String,
}

impl Acme {
    /// A server at an address, such as `https://ca.example:8443`.
    pub fn new(url: &str) -> Self {
        let memory = Memory {
            nonces: Bounded::new(MOST_NONCES, Some(LIFETIME)),
            accounts: Bounded::new(MOST, None),
            orders: Bounded::new(MOST, Some(LIFETIME)),
        };
        Self { url: url.trim_end_matches('/').to_owned(), memory: Mutex::new(memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The directory (section 7.1.1).
    pub fn directory(&self) -> Value {
        json!({
            "newNonce": self.at("/acme/new-nonce"),
            "newAccount": self.at("/acme/new-account"),
            "newOrder": self.at("/acme/new-order"),
            "meta": { "externalAccountRequired": false },
        })
    }

    /// Where the directory is: each answer links to it.
    pub fn index(&self) -> String {
        self.at("/acme/directory")
    }

    /// A nonce, good once (section 6.5).
    ///
    /// # Errors
    /// There is no randomness.
    pub fn nonce(&self, now: Timestamp, entropy: &dyn Entropy) -> Result<String, Problem> {
        let nonce = identifier(entropy)?;
        self.memory().nonces.put(nonce.clone(), (), now);
        Ok(nonce)
    }

    /// Verifies a request to `path`: signature, address, nonce, account. The nonce is used up, whatever comes of it.
    ///
    /// # Errors
    /// `malformed`, `badNonce`, `unauthorized`, `accountDoesNotExist`, `badPublicKey`, `badSignatureAlgorithm`.
    pub fn authenticate(&self, path: &str, body: &[u8], now: Timestamp) -> Result<Asked, Problem> {
        let jws = Jws::read(body)?;
        let mut memory = self.memory();
        // Section 6.4: an address that is another's is told as such, whoever signed.
        if jws.url() != self.at(path) {
            return Err(Problem::new(Type::Unauthorized, "`url` is not the address of this request"));
        }
        if memory.nonces.take(jws.nonce(), now).is_none() {
            return Err(Problem::new(Type::BadNonce, "the nonce is unknown, was used, or has expired"));
        }
        let is_new = path == "/acme/new-account";
        let (account, key) = match (jws.signer(), is_new) {
            (Signer::Key(key), true) => (None, key.clone()),
            (Signer::Account(url), false) => {
                let id = url.strip_prefix(&self.at("/acme/account/")).unwrap_or_default();
                let key = memory.accounts.used(id, now).cloned();
                let key = key.ok_or_else(|| {
                    Problem::new(Type::AccountDoesNotExist, "the account is not known here; make a new one")
                })?;
                (Some(id.to_owned()), key)
            }
            (Signer::Key(_), false) => {
                return Err(Problem::malformed("`jwk` is for new accounts; name the account by `kid`"));
            }
            (Signer::Account(_), true) => {
                return Err(Problem::malformed("a new account is signed for by its own key, in `jwk`"));
            }
        };
        jws.verify(&key)?;
        Ok(Asked { account, key, payload: jws.into_payload() })
    }

    /// Makes an account, or finds that of the key (sections 7.3 and 7.3.1). Its name is the thumbprint of its key.
    ///
    /// # Errors
    /// `malformed`, `accountDoesNotExist`.
    pub fn new_account(&self, asked: &Asked, now: Timestamp) -> Result<Answer, Problem> {
        let wanted: NewAccount = payload(asked)?;
        let id = Base64UrlUnpadded::encode_string(&asked.key.thumbprint());
        let mut memory = self.memory();
        let known = memory.accounts.used(&id, now).is_some();
        if !known && wanted.only_return_existing {
            return Err(Problem::new(Type::AccountDoesNotExist, "no account has this key"));
        }
        if !known {
            memory.accounts.put(id.clone(), asked.key.clone(), now);
        }
        let orders = self.at(&format!("/acme/account/{id}/orders"));
        let value = json!({ "status": "valid", "orders": orders });
        Ok(Answer::new(if known { 200 } else { 201 }, value).at(self.at(&format!("/acme/account/{id}"))))
    }

    /// Takes an order for one device (section 7.4).
    ///
    /// # Errors
    /// `malformed`, `rejectedIdentifier`, `unsupportedIdentifier`.
    pub fn new_order(&self, asked: &Asked, now: Timestamp, entropy: &dyn Entropy) -> Result<Answer, Problem> {
        let wanted: NewOrder = payload(asked)?;
        if wanted.not_before.is_some() || wanted.not_after.is_some() {
            return Err(Problem::malformed("policy decides the lifetime; leave notBefore and notAfter out"));
        }
        let [wanted] = &wanted.identifiers[..] else {
            return Err(Problem::new(Type::RejectedIdentifier, "an order is for one device")
                .coded("identifier-several"));
        };
        wanted.check()?;
        let account = account(asked)?;
        let (id, token) = (identifier(entropy)?, identifier(entropy)?);
        // RFC 8555 section 8.1: at least 128 bits; a token of 256 costs nothing more.
        let token = format!("{token}{}", identifier(entropy)?);
        let order = Order::new(account.to_owned(), wanted.clone(), token, now + LIFETIME);
        let shown = order.show(&id, &self.url);
        self.memory().orders.put(id.clone(), order, now);
        Ok(Answer::new(201, shown).at(self.at(&format!("/acme/order/{id}"))))
    }

    /// An order (section 7.4), by POST-as-GET.
    ///
    /// # Errors
    /// `malformed`, `unauthorized`.
    pub fn order(&self, id: &str, asked: &Asked, now: Timestamp) -> Result<Answer, Problem> {
        is_get(asked)?;
        self.with_order(id, asked, now, |order| Ok(Answer::new(200, order.show(id, &self.url))))
    }

    /// An authorization (section 7.5), by POST-as-GET.
    ///
    /// # Errors
    /// As [`Acme::order`].
    pub fn authorization(&self, id: &str, asked: &Asked, now: Timestamp) -> Result<Answer, Problem> {
        is_get(asked)?;
        self.with_order(id, asked, now, |order| Ok(Answer::new(200, order.authorization(id, &self.url))))
    }

    /// An answer to a challenge (section 7.5.1), or a look at it by POST-as-GET. Whoever has a claim from here judges it, once,
    /// and says what came of it by [`Acme::judged`].
    ///
    /// # Errors
    /// `malformed`, `unauthorized`.
    pub fn challenge(
        &self,
        id: &str,
        asked: &Asked,
        now: Timestamp,
    ) -> Result<Result<Claim, Answer>, Problem> {
        let url = &self.url;
        let show = |order: &Order| {
            let up = format!("{url}/acme/authorization/{id}");
            Answer::new(200, order.challenge(id, url)).up(up)
        };
        if asked.payload.is_empty() {
            return self.with_order(id, asked, now, |order| Ok(Err(show(order))));
        }
        let answered: Answered = payload(asked)?;
        let object = decode("attObj", &answered.object)?;
        self.with_order(id, asked, now, |order| {
            // One try: what is being judged, or was, is shown as it is.
            if !order.is_taken() {
                return Ok(Err(show(order)));
            }
            let thumbprint = asked.key.thumbprint();
            Ok(Ok(Claim {
                order: id.to_owned(),
                object,
                key_authorization: order.key_authorization(&thumbprint),
                identifier: order.identifier().to_owned(),
                account: thumbprint,
            }))
        })
    }

    /// What came of a claim: a device and its statement, or the refusal.
    ///
    /// # Errors
    /// The order is gone.
    pub fn judged(
        &self,
        claim: &Claim,
        judged: Result<Attested, Problem>,
        now: Timestamp,
    ) -> Result<Answer, Problem> {
        let mut memory = self.memory();
        let order = memory.orders.get(&claim.order, now).ok_or_else(gone)?;
        order.judged(judged);
        let up = self.at(&format!("/acme/authorization/{}", claim.order));
        Ok(Answer::new(200, order.challenge(&claim.order, &self.url)).up(up))
    }

    /// A request for the certificate (section 7.4). Whoever has it from here issues, once, and says what came of it by
    /// [`Acme::issued`].
    ///
    /// # Errors
    /// `malformed`, `unauthorized`, `orderNotReady`, `badCSR`.
    pub fn finalize(&self, id: &str, asked: &Asked, now: Timestamp) -> Result<Finalization, Problem> {
        let wanted: Finalize = payload(asked)?;
        let der = decode("csr", &wanted.csr)?;
        self.with_order(id, asked, now, |order| {
            let attested = order.ready()?.clone();
            let bad = |error: CsrError| Problem::new(Type::BadCsr, error.to_string()).coded(error.rule());
            let request = Csr::from_der(&der).map_err(bad)?;
            if request.public_key().spki() != attested.key.spki() {
                let why = "the request is for another key than the one that the TPM certified";
                return Err(Problem::new(Type::BadCsr, why).coded("csr-key-mismatch"));
            }
            order.processing();
            let account = asked.key.thumbprint();
            Ok(Finalization { order: id.to_owned(), attested, request, account })
        })
    }

    /// What came of a finalization: the chain in PEM, or why there is none. An order that policy refused stays ready; what the
    /// installation cannot do now may be asked for again.
    ///
    /// # Errors
    /// The refusal; or the order is gone.
    pub fn issued(
        &self,
        finalization: &Finalization,
        issued: Result<String, Problem>,
        now: Timestamp,
    ) -> Result<Answer, Problem> {
        let mut memory = self.memory();
        let id = &finalization.order;
        let order = memory.orders.get(id, now).ok_or_else(gone)?;
        order.issued(issued)?;
        Ok(Answer::new(200, order.show(id, &self.url)).at(self.at(&format!("/acme/order/{id}"))))
    }

    /// A certificate (section 7.4.2), by POST-as-GET: the chain in PEM.
    ///
    /// # Errors
    /// `malformed`, `unauthorized`, `orderNotReady`.
    pub fn certificate(&self, id: &str, asked: &Asked, now: Timestamp) -> Result<String, Problem> {
        is_get(asked)?;
        self.with_order(id, asked, now, |order| order.certificate().map(str::to_owned))
    }

    /// The orders of an account (section 7.1.2.1): none are told, since they are gone after an hour.
    ///
    /// # Errors
    /// `malformed`, `unauthorized`.
    pub fn account(&self, id: &str, asked: &Asked, orders: bool) -> Result<Answer, Problem> {
        if account(asked)? != id {
            return Err(Problem::new(Type::Unauthorized, "it is another account's"));
        }
        let list = self.at(&format!("/acme/account/{id}/orders"));
        Ok(Answer::new(
            200,
            if orders { json!({ "orders": [] }) } else { json!({ "status": "valid", "orders": list }) },
        ))
    }

    fn with_order<T>(
        &self,
        id: &str,
        asked: &Asked,
        now: Timestamp,
        look: impl FnOnce(&mut Order) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let account = account(asked)?;
        let mut memory = self.memory();
        // Whether another account has such an order is nobody's business.
        let order = memory.orders.get(id, now).filter(|order| order.is_of(account)).ok_or_else(gone)?;
        look(order)
    }
}

fn gone() -> Problem {
    Problem::new(Type::Unauthorized, "the account has no such order, or it has expired; begin again")
}

fn account(asked: &Asked) -> Result<&str, Problem> {
    asked.account.as_deref().ok_or_else(|| Problem::malformed("name the account by `kid`"))
}

fn is_get(asked: &Asked) -> Result<(), Problem> {
    match asked.payload.is_empty() {
        true => Ok(()),
        // RFC 8555 section 6.3.
        false => Err(Problem::malformed("to read, POST an empty payload")),
    }
}

fn payload<'a, T: Deserialize<'a>>(asked: &'a Asked) -> Result<T, Problem> {
    serde_json::from_slice(&asked.payload)
        .map_err(|error| Problem::malformed(&format!("the payload: {error}")))
}

fn decode(field: &str, text: &str) -> Result<Vec<u8>, Problem> {
    Base64UrlUnpadded::decode_vec(text)
        .map_err(|_| Problem::malformed(&format!("`{field}` is no base64url without padding")))
}

/// 128 random bits.
fn identifier(entropy: &dyn Entropy) -> Result<String, Problem> {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes).map_err(|error| Problem::new(Type::ServerInternal, error.to_string()))?;
    Ok(Base64UrlUnpadded::encode_string(&bytes))
}

#[cfg(test)]
mod tests;
