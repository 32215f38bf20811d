//! The protocol without a network: a client with an Ed25519 key, and everything that it could do wrong. What a TPM states is judged
//! elsewhere.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{key, now};
use crate::serial::NoEntropy;

const URL: &str = "https://ca.example:8443";

struct Random;

impl Entropy for Random {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        aws_lc_rs::rand::fill(buffer).map_err(|error| NoEntropy(error.to_string()))
    }
}

struct Client<'a> {
    acme: &'a Acme,
    pair: Ed25519KeyPair,
    kid: Option<String>,
}

impl<'a> Client<'a> {
    fn new(acme: &'a Acme) -> Self {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { acme, pair: Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap(), kid: None }
    }

    fn registered(acme: &'a Acme) -> Self {
        let mut client = Self::new(acme);
        let asked = client.ask("/acme/new-account", Some(json!({})), now()).unwrap();
        let answer = acme.new_account(&asked, now()).unwrap();
        assert_eq!(answer.status, 201);
        client.kid = answer.location;
        client
    }

    fn jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": Base64UrlUnpadded::encode_string(self.pair.public_key().as_ref()) })
    }

    fn signed(&self, header: &Value, payload: Option<&Value>) -> Vec<u8> {
        let protected = Base64UrlUnpadded::encode_string(header.to_string().as_bytes());
        let payload = payload.map(ToString::to_string).unwrap_or_default();
        let payload = Base64UrlUnpadded::encode_string(payload.as_bytes());
        let signature = self.pair.sign(format!("{protected}.{payload}").as_bytes());
        let signature = Base64UrlUnpadded::encode_string(signature.as_ref());
        json!({ "protected": protected, "payload": payload, "signature": signature }).to_string().into_bytes()
    }

    fn header(&self, path: &str, now: Timestamp) -> Value {
        let nonce = self.acme.nonce(now, &Random).unwrap();
        let mut header = json!({ "alg": "EdDSA", "nonce": nonce, "url": format!("{URL}{path}") });
        match &self.kid {
            Some(kid) => header["kid"] = kid.clone().into(),
            None => header["jwk"] = self.jwk(),
        }
        header
    }

    fn ask(&self, path: &str, payload: Option<Value>, now: Timestamp) -> Result<Asked, Problem> {
        let body = self.signed(&self.header(path, now), payload.as_ref());
        self.acme.authenticate(path, &body, now)
    }

    /// An order for `device-7`: its id.
    fn order(&self) -> String {
        let wanted = json!({ "identifiers": [{ "type": "permanent-identifier", "value": "device-7" }] });
        let asked = self.ask("/acme/new-order", Some(wanted), now()).unwrap();
        let answer = self.acme.new_order(&asked, now(), &Random).unwrap();
        answer.location.unwrap().rsplit('/').next().unwrap().to_owned()
    }

    fn claim(&self, id: &str) -> Result<Claim, Answer> {
        let asked = self.ask(&format!("/acme/challenge/{id}"), Some(json!({ "attObj": "AAAA" })), now());
        self.acme.challenge(id, &asked.unwrap(), now()).unwrap()
    }

    fn status(&self, id: &str, now: Timestamp) -> Result<String, Type> {
        let asked = self.ask(&format!("/acme/order/{id}"), None, now).unwrap();
        let answer = self.acme.order(id, &asked, now).map_err(|problem| problem.kind)?;
        Ok(answer.body["status"].as_str().unwrap().to_owned())
    }
}

fn attested() -> Attested {
    let key = key(undercroft_keys::KeyAlgorithm::EcdsaP256);
    Attested { key, identifier: "device-7".into(), evidence: [7; 32] }
}

fn refused() -> Problem {
    Problem::new(Type::BadAttestationStatement, "it is forged").coded("key-name")
}

/// RFC 8037, appendix A.3.
#[test]
fn thumbprints_are_those_of_the_standards() {
    let members = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "use": "sig" });
    let jwk = Jwk::read(members.as_object().unwrap()).unwrap();
    let thumbprint = Base64UrlUnpadded::encode_string(&jwk.thumbprint());
    assert_eq!(thumbprint, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    // RFC 7638, section 3.1, whose key verifies RS256 with e = AQAB.
    let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let members = json!({ "kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
    let jwk = Jwk::read(members.as_object().unwrap()).unwrap();
    let thumbprint = Base64UrlUnpadded::encode_string(&jwk.thumbprint());
    assert_eq!(thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn an_order_goes_its_way_once() {
    let acme = Acme::new(&format!("{URL}/"));
    let client = Client::registered(&acme);
    let id = client.order();
    assert_eq!(client.status(&id, now()).unwrap(), "pending");
    let claim = client.claim(&id).unwrap();
    assert_eq!((claim.object.as_slice(), claim.identifier.as_str()), (&[0, 0, 0][..], "device-7"));
    let (token, thumbprint) = claim.key_authorization.split_once('.').unwrap();
    assert!(Base64UrlUnpadded::decode_vec(token).unwrap().len() >= 16);
    assert_eq!(thumbprint, Base64UrlUnpadded::encode_string(&claim.account));
    // While it is judged, nobody judges another answer.
    assert_eq!(client.claim(&id).unwrap_err().body["status"], "processing");
    acme.judged(&claim, Ok(attested()), now()).unwrap();
    assert_eq!(client.status(&id, now()).unwrap(), "ready");
    assert_eq!(client.claim(&id).unwrap_err().body["status"], "valid");
    // A verdict that comes late changes nothing.
    acme.judged(&claim, Err(refused()), now()).unwrap();
    assert_eq!(client.status(&id, now()).unwrap(), "ready");
}

#[test]
fn what_is_refused_stays_so_and_what_was_not_judged_may_be_again() {
    let acme = Acme::new(URL);
    let client = Client::registered(&acme);
    let id = client.order();
    let claim = client.claim(&id).unwrap();
    acme.judged(&claim, Err(Problem::new(Type::ServerInternal, "the database is away")), now()).unwrap();
    assert_eq!(client.status(&id, now()).unwrap(), "pending");
    let claim = client.claim(&id).unwrap();
    let answer = acme.judged(&claim, Err(refused()), now()).unwrap();
    assert_eq!(answer.body["error"]["code"], "key-name");
    assert_eq!(answer.body["error"]["type"], "urn:ietf:params:acme:error:badAttestationStatement");
    assert_eq!(client.status(&id, now()).unwrap(), "invalid");
    acme.judged(&claim, Ok(attested()), now()).unwrap();
    assert_eq!(client.status(&id, now()).unwrap(), "invalid");
    let asked = client.ask(&format!("/acme/order/{id}/finalize"), Some(json!({ "csr": "AAAA" })), now());
    assert_eq!(acme.finalize(&id, &asked.unwrap(), now()).unwrap_err().kind, Type::OrderNotReady);
}

#[test]
fn time_ends_orders_and_nonces() {
    let acme = Acme::new(URL);
    let client = Client::registered(&acme);
    let id = client.order();
    assert!(client.status(&id, now() + LIFETIME).is_ok());
    let late = now() + LIFETIME + SignedDuration::from_secs(1);
    assert_eq!(client.status(&id, late), Err(Type::Unauthorized));
    let body = client.signed(&client.header("/acme/new-order", now()), Some(&json!({})));
    let problem = acme.authenticate("/acme/new-order", &body, late).unwrap_err();
    assert_eq!(problem.kind, Type::BadNonce);
}

/// Each row differs in one thing from a request that is taken.
#[test]
fn requests_that_are_not_what_they_say_are_refused() {
    type Change = fn(&mut Value, &Client<'_>);
    let rows: [(&str, Type, Change); 15] = [
        ("alg none", Type::BadSignatureAlgorithm, |header, _| header["alg"] = "none".into()),
        ("alg HS256", Type::BadSignatureAlgorithm, |header, _| header["alg"] = "HS256".into()),
        ("alg ES256 with Ed25519", Type::BadSignatureAlgorithm, |header, _| header["alg"] = "ES256".into()),
        ("no alg", Type::Malformed, |header, _| drop(header.as_object_mut().unwrap().remove("alg"))),
        ("no nonce", Type::Malformed, |header, _| drop(header.as_object_mut().unwrap().remove("nonce"))),
        ("no url", Type::Malformed, |header, _| drop(header.as_object_mut().unwrap().remove("url"))),
        ("a nonce of nobody", Type::BadNonce, |header, _| header["nonce"] = "AAAAAAAAAAAAAAAAAAAAAA".into()),
        ("another address", Type::Unauthorized, |header, _| header["url"] = format!("{URL}/acme/x").into()),
        ("http", Type::Unauthorized, |header, _| {
            header["url"] = "http://ca.example:8443/acme/new-order".into()
        }),
        ("jwk too", Type::Malformed, |header, client| header["jwk"] = client.jwk()),
        ("jwk instead", Type::Malformed, |header, client| {
            drop(header.as_object_mut().unwrap().remove("kid"));
            header["jwk"] = client.jwk();
        }),
        ("neither", Type::Malformed, |header, _| drop(header.as_object_mut().unwrap().remove("kid"))),
        ("an account of nobody", Type::AccountDoesNotExist, |header, _| {
            header["kid"] = format!("{URL}/acme/account/AAAA").into();
        }),
        ("an account elsewhere", Type::AccountDoesNotExist, |header, _| {
            let kid = header["kid"].as_str().unwrap().replace("ca.example", "ca.elsewhere");
            header["kid"] = kid.into();
        }),
        ("crit", Type::Malformed, |header, _| header["crit"] = json!(["exp"])),
    ];
    let acme = Acme::new(URL);
    let client = Client::registered(&acme);
    let path = "/acme/new-order";
    let asked = |change: Change| {
        let mut header = client.header(path, now());
        change(&mut header, &client);
        acme.authenticate(path, &client.signed(&header, Some(&json!({}))), now())
    };
    assert!(asked(|_, _| ()).is_ok());
    for (what, expected, change) in rows {
        assert_eq!(asked(change).unwrap_err().kind, expected, "{what}");
    }
    // A signature of somebody else, and one of nobody.
    let other = Client::registered(&acme);
    let body = other.signed(&client.header(path, now()), Some(&json!({})));
    assert_eq!(acme.authenticate(path, &body, now()).unwrap_err().kind, Type::Unauthorized);
    // One nonce is good once, even if the first request was refused for its signature.
    let header = client.header(path, now());
    assert!(acme.authenticate(path, &other.signed(&header, None), now()).is_err());
    let again = acme.authenticate(path, &client.signed(&header, None), now());
    assert_eq!(again.unwrap_err().kind, Type::BadNonce);
    // Members that no JWS of ACME has, members twice, what is too long, and what is no JSON.
    let whole = String::from_utf8(client.signed(&client.header(path, now()), None)).unwrap();
    for wrong in [
        whole.replacen('{', "{\"header\":{},", 1),
        whole.replacen('{', "{\"payload\":\"\",", 1),
        whole.replacen('{', "{\"signatures\":[],", 1),
        format!("{whole}x"),
        String::new(),
        format!("{whole}{}", " ".repeat(MAX_JWS)),
    ] {
        assert_eq!(acme.authenticate(path, wrong.as_bytes(), now()).unwrap_err().kind, Type::Malformed);
    }
}

#[test]
fn keys_that_are_none_make_no_account() {
    let point = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for members in [
        json!({}),
        json!({ "kty": "oct", "k": "AAAA" }),
        json!({ "kty": "EC", "crv": "P-256", "x": point, "y": point }),
        json!({ "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "EC", "crv": "secp256k1", "x": point, "y": point }),
        json!({ "kty": "OKP", "crv": "X25519", "x": point }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "d": "AA" }),
        json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
        json!({ "kty": "RSA", "n": format!("AA{}", "q".repeat(340)), "e": "AQAB" }),
        json!({ "kty": "RSA", "n": "q".repeat(342), "e": "Aw" }),
    ] {
        let refused = Jwk::read(members.as_object().unwrap()).unwrap_err();
        assert_eq!(refused.kind, Type::BadPublicKey, "{members}");
    }
}

#[test]
fn one_account_sees_nothing_of_another() {
    let acme = Acme::new(URL);
    let (client, other) = (Client::registered(&acme), Client::registered(&acme));
    let id = client.order();
    assert_eq!(other.status(&id, now()), Err(Type::Unauthorized));
    let asked = |path: &str, payload| other.ask(path, payload, now()).unwrap();
    let of = |path: &str| format!("/acme/{path}/{id}");
    let answer = Some(json!({ "attObj": "AAAA" }));
    let refused = acme.challenge(&id, &asked(&of("challenge"), answer), now());
    assert_eq!(refused.unwrap_err().kind, Type::Unauthorized);
    let refused = acme.authorization(&id, &asked(&of("authorization"), None), now());
    assert_eq!(refused.unwrap_err().kind, Type::Unauthorized);
    let refused = acme.certificate(&id, &asked(&of("certificate"), None), now());
    assert_eq!(refused.unwrap_err().kind, Type::Unauthorized);
    // The order still waits for its owner's answer.
    assert!(client.claim(&id).is_ok());
}

#[test]
fn an_order_is_for_one_device_whose_name_can_stand_in_an_id() {
    let acme = Acme::new(URL);
    let client = Client::registered(&acme);
    let long = "x".repeat(256);
    let ordered = |identifiers: Value| {
        let asked = client.ask("/acme/new-order", Some(json!({ "identifiers": identifiers })), now());
        acme.new_order(&asked.unwrap(), now(), &Random).map_err(|problem| (problem.kind, problem.code))
    };
    let one = |kind: &str, value: &str| json!([{ "type": kind, "value": value }]);
    for value in ["", ".", "..", "a/b", "a b", "%2e", "\u{e4}", &long] {
        let (kind, _) = ordered(one("permanent-identifier", value)).unwrap_err();
        assert_eq!(kind, Type::RejectedIdentifier, "{value}");
    }
    for kind in ["hardware-module", "dns", "ip", ""] {
        let refused = ordered(one(kind, "device-7")).unwrap_err();
        assert_eq!(refused, (Type::UnsupportedIdentifier, Some("identifier-type")));
    }
    let several = Some("identifier-several");
    assert_eq!(ordered(json!([])).unwrap_err(), (Type::RejectedIdentifier, several));
    let identifier = json!({ "type": "permanent-identifier", "value": "device-7" });
    assert_eq!(ordered(json!([identifier, identifier])).unwrap_err(), (Type::RejectedIdentifier, several));
    assert!(ordered(json!([identifier])).is_ok());
}
