//! What a gate answers over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use futures::executor::block_on;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;
use undercroft_log::authorise::Word;
use undercroft_witness::gate::freeze::Freeze;
use undercroft_witness::gate::serve::router;

use crate::site::{Log, ORIGIN, Site};

fn send(router: &Router, request: Request<Body>) -> (u16, Option<String>, String) {
    block_on(async {
        let response = router.clone().oneshot(request).await.unwrap();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    })
}

fn post(router: &Router, path: &str, kind: &str, body: String) -> (u16, String) {
    let request = Request::post(path).header("content-type", kind).body(Body::from(body)).unwrap();
    let (status, _, body) = send(router, request);
    (status, body)
}

fn get(router: &Router, path: &str) -> (u16, Option<String>, String) {
    send(router, Request::get(path).body(Body::empty()).unwrap())
}

#[test]
fn each_answer_has_its_status() {
    let mut site = Site::new();
    let index = site.log_svid();
    let router = router(Arc::new(site.gate()));
    let show = |body: String| post(&router, "/add-checkpoint", "text/plain", body);
    let ask = |body: String| post(&router, "/authorise", "application/json", body);
    let size = site.log.size();
    let application = site.log.application(index, size);
    let json =
        |application: &undercroft_log::authorise::Application| serde_json::to_string(application).unwrap();

    // Nothing was accepted yet: it says which size has been.
    assert_eq!(ask(json(&application)), (409, "0\n".into()));
    assert_eq!(show("old".into()).0, 400);
    assert_eq!(show(Log::new("other.example/1").request(0, "")).0, 404);
    assert_eq!(show(site.log.request(0, "").replace(ORIGIN, "x.example/1")).0, 404);
    assert_eq!(show(site.log.request(0, "")), (200, String::new()));
    let mut fork = site.log.fork();
    fork.fill("fork", size + 1);
    assert_eq!(show(fork.request(size, "")).0, 422);
    assert_eq!(show(fork.request(0, "")), (409, format!("{size}\n")));

    for body in ["", "{}", "[]", "null", "{\"origin\":1}"] {
        let status = ask(body.to_owned()).0;
        assert!((400..500).contains(&status) && status != 403 && status != 409, "{body}: {status}");
    }
    let mut with_more = serde_json::to_value(&application).unwrap();
    with_more["more"] = json!(1);
    assert_eq!(ask(with_more.to_string()).0, 422);
    assert_eq!(post(&router, "/authorise", "text/plain", json(&application)).0, 415);
    let mut changed = application.clone();
    changed.nonce.0.clear();
    assert_eq!(ask(json(&changed)).0, 400);
    changed = application.clone();
    changed.proof.clear();
    let (status, why) = ask(json(&changed));
    assert!(status == 403 && why.contains("not-in-the-log"), "{why}");

    let freeze = Freeze::in_folder(site.folder.path());
    freeze.freeze("a drill").unwrap();
    let (status, why) = ask(json(&application));
    assert!(status == 403 && why.contains("issuance is frozen: a drill"), "{why}");
    freeze.release().unwrap();
    // What is wrong here is nobody's business there.
    std::fs::create_dir(site.folder.path().join("frozen")).unwrap();
    assert_eq!(ask(json(&application)), (503, "it cannot work now\n".into()));
    std::fs::remove_dir(site.folder.path().join("frozen")).unwrap();

    let (status, word) = ask(json(&application));
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<Word>(&word).unwrap().expiration > 0);
    assert_eq!(ask(json(&application)).0, 403);

    let leaf = format!("/{}/leaf/{index}", hex::encode(Sha256::digest(ORIGIN)));
    let kept = String::from_utf8(site.log.entries[index as usize].clone()).unwrap();
    assert_eq!(get(&router, &leaf), (200, Some("application/json".into()), kept));
    for (path, status) in [
        (leaf.replace("/leaf/", "/leaf/1"), 404),
        (leaf.replace("/leaf/", "/leaf/-"), 400),
        ("/..%2f..%2fetc/leaf/0".to_owned(), 404),
        (format!("/blob/{}", "0".repeat(64)), 404),
        ("/blob/..%2ffrozen".to_owned(), 404),
        ("/".to_owned(), 404),
        ("/authorise".to_owned(), 405),
    ] {
        assert_eq!(get(&router, &path).0, status, "{path}");
    }
}

#[test]
fn requests_and_what_is_too_long() {
    let site = Site::new();
    let router = router(Arc::new(site.gate()));
    let ask = |body: String| post(&router, "/authorise-request", "application/json", body);
    let nonce = "A".repeat(42) + "8=";
    let body = |key: &str, nonce: &str| json!({"key_id": key, "nonce": nonce}).to_string();
    let known = site.new_ca.id().to_string();
    assert_eq!(ask(body(&known, &nonce)).0, 200);
    assert_eq!(ask(body(&"0".repeat(64), &nonce)).0, 404);
    assert_eq!(ask(body(&known, "")).0, 400);
    assert_eq!(ask(body(&known.to_uppercase(), &nonce)).0, 422);
    assert_eq!(ask(body(&known, &"A".repeat(2048))).0, 413);
    let long = "x".repeat(undercroft_log::authorise::MAX_APPLICATION + 1);
    assert_eq!(post(&router, "/authorise", "application/json", long).0, 413);
    let long = "x".repeat(undercroft_log::add_checkpoint::MAX_REQUEST + 1);
    assert_eq!(post(&router, "/add-checkpoint", "text/plain", long).0, 413);
}
