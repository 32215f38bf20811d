//! A responder that a root has delegated to in a ceremony answers for the root's intermediates: OpenSSL serves the answers, and
//! OpenSSL believes them or does not.

use std::fs;
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use e2e::{Ran, Tool};
use undercroft_ca::certificate::public_key_from_pem;

use super::formal::{Formal, serial};

/// The environment of a program at an hour of a day of the year.
type At<'a> = &'a dyn Fn(u32, u32) -> Vec<(String, String)>;

/// Makes the responder's key where OpenSSL can sign with it, and its request with a custody file.
pub(super) fn create_key(site: &Formal) {
    let requests = site.path("ceremony/requests/prod.example");
    let key = site.path("ocsp.key.pem");
    let generate = Tool::foreign("openssl").args(["genpkey", "-algorithm", "EC", "-pkeyopt"]);
    generate.args(["ec_paramgen_curve:P-256", "-out"]).arg(&key).done().unwrap();
    let request = Tool::foreign("openssl").args(["req", "-new", "-subj", "/CN=responder", "-key"]).arg(&key);
    request.arg("-out").arg(requests.join("ocsp.csr.pem")).done().unwrap();
    let public = Tool::foreign("openssl").args(["pkey", "-pubout", "-in"]).arg(&key).done().unwrap().stdout;
    let evidence = Base64::encode_string(public_key_from_pem(&public).unwrap().spki());
    // A key in a file, as a trial may have it.
    let custody = format!(
        "{{\"uri\":\"file:ocsp.key.pem\",\"algorithm\":\"ecdsa-p256\",\"format\":\"software-v1\",\"evidence\":\"{evidence}\"}}"
    );
    fs::write(requests.join("ocsp.custody.json"), custody).unwrap();
}

/// OpenSSL answers about both intermediates with the ceremony's certificate, from a list as its newest CRL has them.
pub(super) fn answers(site: &Formal, at: At<'_>) {
    let signer = site.path("prod.example/r2-ocsp.pem");
    let text = Tool::foreign("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&signer).done().unwrap();
    for part in ["OCSP Signing", "OCSP No Check", "CA:FALSE"] {
        assert!(text.stdout.contains(part), "{part}: {}", text.stdout);
    }
    let below = Tool::foreign("openssl").args(["x509", "-noout", "-ocsp_uri", "-in"]);
    let below = below.arg(site.path("prod.example/intermediate-3.pem")).done().unwrap();
    assert_eq!(below.stdout.trim(), "http://pki.ca.example/prod/r2/ocsp");

    let number = |name: &str| {
        serial(&site.path(&format!("prod.example/{name}.pem")))
            .trim()
            .trim_start_matches("serial=")
            .to_owned()
    };
    let (good, revoked) = (number("intermediate-3"), number("intermediate-2"));
    let index = format!(
        "V\t280101000000Z\t\t{good}\tunknown\t/CN=3\nR\t280101000000Z\t270101000000Z,CACompromise\t{revoked}\tunknown\t/CN=2\n"
    );
    fs::write(site.path("index.txt"), index).unwrap();
    let asked = Asked { site, at };
    asked.says("intermediate-3", &signer, "intermediate-3.pem: good");
    let revoked = asked.says("intermediate-2", &signer, "intermediate-2.pem: revoked");
    assert!(revoked.stdout.contains("cACompromise"), "{revoked:?}");

    // Nobody else's answer is believed: of an intermediate, which is no responder; of a signer that has ended.
    let other = site.path("other.pem");
    let key = site.path("ocsp.key.pem");
    let own = Tool::foreign("openssl").args(["req", "-x509", "-subj", "/CN=responder", "-key"]).arg(&key);
    own.arg("-out").arg(&other).with(&at(232, 8)).done().unwrap();
    let refused = asked.answer("intermediate-3", &other, 232);
    assert!(refused.stderr.contains("Response Verify Failure"), "{refused:?}");
    let refused = asked.answer("intermediate-3", &signer, 322);
    assert!(refused.stderr.contains("certificate has expired"), "{refused:?}");
}

struct Asked<'a> {
    site: &'a Formal,
    at: At<'a>,
}

impl Asked<'_> {
    fn says(&self, name: &str, signer: &Path, part: &str) -> Ran {
        let ran = self.answer(name, signer, 232);
        assert!(ran.stdout.contains(part) && ran.stderr.contains("Response verify OK"), "{part}: {ran:?}");
        ran
    }

    /// What whoever trusts the root is told of an intermediate on that day, by a responder with this certificate.
    fn answer(&self, name: &str, signer: &Path, day: u32) -> Ran {
        let (root, certificate) =
            (self.site.path("prod.example/root-2.pem"), self.site.path(&format!("prod.example/{name}.pem")));
        let (request, response) = (self.site.path("ocsp.req"), self.site.path("ocsp.resp"));
        let tool = |hour| Tool::foreign("openssl").arg("ocsp").with(&(self.at)(day, hour));
        let ask = tool(9).args(["-no_nonce", "-issuer"]).arg(&root).arg("-cert").arg(&certificate);
        ask.arg("-reqout").arg(&request).done().unwrap();
        let serve = tool(9).arg("-index").arg(self.site.path("index.txt")).arg("-CA").arg(&root);
        let serve = serve.arg("-rsigner").arg(signer).arg("-rkey").arg(self.site.path("ocsp.key.pem"));
        let serve = serve.args(["-nmin", "120", "-reqin"]).arg(&request).arg("-respout").arg(&response);
        serve.done().unwrap();
        let judge = tool(10).arg("-respin").arg(&response).args(["-no_nonce", "-CAfile"]).arg(&root);
        judge.arg("-issuer").arg(&root).arg("-cert").arg(&certificate).run().unwrap()
    }
}
