//! Who gets through the door at all.

use e2e::{Caller, Issue, Tool, request};

use crate::place::Place;

#[test]
fn the_door_opens_to_tls_13_and_certificates_directly_under_a_known_authority() {
    let mut place = Place::prod();
    let address = place.daemon().address().to_owned();
    let roots = place.path("control/root.pem");
    let connect = |arguments: &[&str]| {
        let s_client = Tool::foreign("openssl").args([
            "s_client",
            "-connect",
            &address,
            "-brief",
            "-verify_return_error",
        ]);
        s_client.arg("-CAfile").arg(&roots).args(arguments).run().unwrap()
    };
    connect(&["-tls1_3"]).expect(0).unwrap().says("TLSv1.3").unwrap();
    let old = connect(&["-tls1_2"]);
    assert_ne!(old.status, 0, "{old:?}");

    // A SPIRE server's CA could mint any name in its domain: what it signs opens no door here.
    let server = place.site.enrolled(place.daemon(), "/server/prod").unwrap();
    let out = place.path("spire");
    let (key, csr) = request(&out, "leaf", "P-256", Some("spiffe://prod.example")).unwrap();
    let issue = Issue { domain: "prod.example", profile: "spire-ca", csr: &csr, out: &out, more: &[] };
    place.ask(&server, &issue).expect(0).unwrap();
    let (minted, request_of) = request(&out, "minted", "P-256", None).unwrap();
    let extensions = out.join("extensions");
    std::fs::write(
        &extensions,
        "subjectAltName=URI:spiffe://prod.example/operator/alice\nextendedKeyUsage=clientAuth\n",
    )
    .unwrap();
    let sign = Tool::foreign("openssl").args(["x509", "-req", "-days", "1", "-in"]).arg(&request_of);
    let sign =
        sign.arg("-CA").arg(out.join("leaf.pem")).arg("-CAkey").arg(&key).arg("-extfile").arg(&extensions);
    let leaf = sign.done().unwrap().stdout;
    let chain = out.join("minted.chain.pem");
    std::fs::write(&chain, leaf + &std::fs::read_to_string(out.join("chain.pem")).unwrap()).unwrap();
    let minted = Caller { cert: chain, key: minted };
    let (_, csr) = request(&out, "workload", "P-256", Some("spiffe://prod.example/ns/a/sa/b")).unwrap();
    let issue = Issue { domain: "prod.example", profile: "svid", csr: &csr, out: &out, more: &[] };
    place.ask(&minted, &issue).expect(4).unwrap().says("turned the client certificate away").unwrap();

    // A certificate with somebody else's key proves nothing.
    let thief = Caller { cert: place.operator.cert.clone(), key };
    let ran = place.ask(&thief, &issue);
    assert!([2, 4].contains(&ran.status), "{ran:?}");

    // A workload's own certificate gets through the door, and policy knows it not.
    place.issue("prod.example", "workload", &[]).expect(0).unwrap();
    let workload = Caller { cert: place.path("workload/chain.pem"), key: place.path("workload/leaf.key") };
    place.ask(&workload, &issue).expect(4).unwrap().says("caller-unknown").unwrap();
    place.stop();
}
