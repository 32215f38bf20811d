//! Files that came out, and that went in.

use super::*;

#[test]
fn other_files() {
    fn replace(c: &Copy, name: &str, bytes: &[u8]) {
        let path = c.places.out.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    fn read(c: &Copy, name: &str) -> Vec<u8> {
        std::fs::read(c.places.out.join(name)).unwrap()
    }
    each_is_found(&[
        (
            "a file is missing",
            |c| std::fs::remove_file(c.places.out.join("new-root.pem")).unwrap(),
            &["output-missing"],
        ),
        (
            "a file has one byte more",
            |c| {
                let bytes = [&read(c, "new-root.pem")[..], b"\n"].concat();
                replace(c, "new-root.pem", &bytes);
            },
            &["output-digest"],
        ),
        (
            "two files are exchanged",
            |c| {
                let (one, two) =
                    (read(c, "prod.example/intermediate-1.pem"), read(c, "prod.example/intermediate-2.pem"));
                replace(c, "prod.example/intermediate-1.pem", &two);
                replace(c, "prod.example/intermediate-2.pem", &one);
            },
            &["output-content", "output-digest"],
        ),
        (
            "a file of the rehearsal in place of the ceremony's",
            |c| {
                let bytes = std::fs::read(c.places.rehearsal.join("REHEARSAL-new-root.pem")).unwrap();
                replace(c, "new-root.pem", &bytes);
            },
            &["output-content", "output-digest"],
        ),
        (
            "a file of the rehearsal, and the transcript says so",
            |c| {
                then_approved(c, |c| {
                    let bytes = std::fs::read(c.places.rehearsal.join("REHEARSAL-new-root.pem")).unwrap();
                    replace(c, "new-root.pem", &bytes);
                    let at = c.step("done", "new-root");
                    c.log
                        .edit_body(at, |body| body["step"]["output"] = json!(Digest::of(&bytes).to_string()));
                })
            },
            &["output-content"],
        ),
        (
            "no certificate at all",
            |c| {
                then_approved(c, |c| {
                    replace(c, "new-root.pem", b"nothing");
                    let at = c.step("done", "new-root");
                    c.log.edit_body(at, |body| {
                        body["step"]["output"] = json!(Digest::of(b"nothing").to_string())
                    });
                })
            },
            &["output-content"],
        ),
        (
            "a certificate that no step made",
            |c| {
                let bytes = std::fs::read(c.places.rehearsal.join("REHEARSAL-new-root.pem")).unwrap();
                replace(c, "prod.example/new-root.pem", &bytes);
            },
            &["output-extra"],
        ),
        (
            "a file of the rehearsal among the ceremony's",
            |c| {
                let name = "REHEARSAL-new-root.pem";
                let bytes = std::fs::read(c.places.rehearsal.join(name)).unwrap();
                replace(c, name, &bytes);
            },
            &["output-extra"],
        ),
        (
            "a CRL that no step made",
            |c| {
                let bytes = read(c, "new-root.crl");
                replace(c, "copies/new-crl.bin", &bytes);
            },
            &["output-extra"],
        ),
        (
            "an answer that the corporate root did not give",
            |c| {
                then_approved(c, |c| {
                    let bytes = read(c, "cross/old-by-new.pem");
                    replace(c, "old-root-under-corporate.pem", &bytes);
                    std::fs::write(c.places.requests.join("corporate/answer.pem"), &bytes).unwrap();
                    let at = c.step("done", "corporate-answer");
                    c.log
                        .edit_body(at, |body| body["step"]["output"] = json!(Digest::of(&bytes).to_string()));
                })
            },
            &["output-chain"],
        ),
        (
            "other evidence",
            |c| {
                std::fs::write(c.places.requests.join("backup/new-root.wrapped"), b"other").unwrap();
            },
            &["evidence-digest"],
        ),
        (
            "evidence is missing",
            |c| {
                std::fs::remove_file(c.places.requests.join("backup/new-root.wrapped")).unwrap();
            },
            &["evidence-missing"],
        ),
        (
            "another answer went in",
            |c| {
                let bytes = read(c, "cross/old-by-new.pem");
                std::fs::write(c.places.requests.join("corporate/answer.pem"), bytes).unwrap();
            },
            &["evidence-digest"],
        ),
        (
            "another request went in",
            |c| {
                write_request(
                    &c.places.requests,
                    "prod.example/intermediate-1",
                    &software(KeyAlgorithm::EcdsaP256),
                );
            },
            &["request-digest"],
        ),
    ]);
}
