//! The daemon: everything opened in order, served, and closed in the order that loses nothing.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use undercroft_ca::authority::Authority;
use undercroft_ca::certificate::AuthorityCertificate;
use undercroft_ca::log_key::LogKey;
use undercroft_ca::profile::{Kind, Profile};
use undercroft_ca::service::{
    CertificateAuthority, DomainSetup, NodeSetup, OcspSetup, RevocationSetup, ServiceError, Setup,
};
use undercroft_ca::store::{Effect, Facts as _};
use undercroft_cli::system::{SystemClock, SystemEntropy};
use undercroft_cli::{ExitStatus, Failure};
use undercroft_keymgr::{ErrorKind, Key, ReplicaNews, Replicas};
use undercroft_keys::{KeyAlgorithm, KeyType, PublicKey};
use undercroft_log::cosigning::Cosigner;
use undercroft_log::leaf::{Body, Leaf};
use undercroft_log::note::KeyName;
use undercroft_log::sequencer::{self, Fatal, Limits};
use undercroft_log::store::{LogReader, LogStore};
use undercroft_proto::node::attestation_server::AttestationServer;
use undercroft_proto::node::nodes_server::NodesServer;
use undercroft_proto::recovery::recovery_server::RecoveryServer;
use undercroft_proto::v1::admin_server::AdminServer;
use undercroft_proto::v1::issuance_server::IssuanceServer;
use undercroft_proto::v1::revocation_server::RevocationServer;
use undercroft_upstream::acceptor::accept;
use undercroft_upstream::{
    AdminApi, AdminSetup, Administrators, AttestationApi, CertificateForNames, IssuanceApi, NodesApi,
    RecoveryApi, RecoverySetup, RevocationApi, ServerCertificates,
};

use crate::acme;
use crate::anchors;
use crate::backup::Backups;
use crate::config::{self, Config, Domain};
use crate::custody;
use crate::gates::Gates;
use crate::http::Http;
use crate::keepers::{Keeper, Keepers};
use crate::published;
use crate::scrub;
use crate::store::{Database, DatabaseError};
use crate::tiles::{self, Logs};
use crate::witnesses::{self, Witnesses};

/// The longest request that is read: a CSR and some names.
const MAX_REQUEST: usize = 64 * 1024;

/// The longest message of a node: a hello and an answer with an event log.
const MAX_EVIDENCE: usize = 5 * 1024 * 1024;

/// The most connections that callers may have open.
const CONNECTIONS: usize = 4096;

/// File descriptors that are kept for everything but callers' connections.
const RESERVED_DESCRIPTORS: usize = 256;

/// Requests that one connection may have under way.
const REQUESTS_PER_CONNECTION: usize = 64;

/// Bytes of a request body, and half of those of a connection, that a peer may send before we have read them.
const WINDOW: u32 = 128 * 1024;

/// How often an idle peer is asked whether it is still there (RFC 9113 section 6.7). One that is not is let go.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long requests under way may take once we are told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// How often the certificates that we are known by are looked at, and tried again if they could not be renewed.
const RENEWAL_TICK: Duration = Duration::from_secs(60);

/// Runs the daemon until it is told to stop.
pub(crate) async fn serve(config: Config, version: &str) -> Result<(), Failure> {
    let database = Database::open(&config.database).await?;
    let mut drivers = JoinSet::new();
    let served = run(&config, version, &database, &mut drivers).await;
    // Whatever happened, what is queued in the logs is still done. Their drivers end when the last handle is gone.
    let mut ended: Result<(), Failure> = Ok(());
    while let Some(joined) = drivers.join_next().await {
        let failure = match joined {
            Ok(Ok(())) => continue,
            Ok(Err(Fatal::Failed(reason))) => Failure::failed(format!("a log has stopped: {reason}")),
            Ok(Err(Fatal::Alarm(reason))) => {
                Failure::tampered(format!("a log has stopped, and nothing may be issued: {reason}"))
            }
            Err(error) => Failure::failed(format!("a log has stopped: {error}")),
        };
        // Why the first one has stopped is why the others did. An alarm is told whatever else there is.
        if ended.is_ok() || failure.status() == ExitStatus::Tampered {
            ended = Err(failure);
        }
    }
    database.close().await;
    // Why a log has stopped is why we have.
    ended.and(served)
}

async fn run(
    config: &Config,
    version: &str,
    database: &Database,
    drivers: &mut JoinSet<Result<(), Fatal>>,
) -> Result<(), Failure> {
    if config.development {
        tracing::warn!("development mode: keys in software are accepted. Never run production like this");
    }
    let (stop, stopping) = watch::channel(false);
    let mut logs: Vec<(String, Arc<dyn LogReader>)> = Vec::new();
    let mut domains = Vec::new();
    for domain in &config.domains {
        let store = Arc::new(database.log(domain.origin.as_str()).await?);
        logs.push((domain.name.as_str().to_owned(), store.clone()));
        domains.push(open_domain(config, domain, database, store, drivers, &stop).await?);
    }
    let (domains, keepers): (Vec<_>, Vec<_>) = domains.into_iter().unzip();
    let setup = Setup {
        version: version.to_owned(),
        configuration: config.digest,
        development: config.development,
        domains,
        policy: config.policy.clone(),
        policy_arc: config.policy_arc,
        caller_profile: config.caller_profile.clone(),
        ceremonies: crate::ceremonies::read(config)?,
        witness_grace: config.witness_grace,
        roster: config.recovery.clone(),
        nodes: config
            .node_policy
            .clone()
            .map(|policy| NodeSetup { policy, profiles: config.profiles.clone() }),
        facts: Arc::new(database.clone()),
        revocations: Arc::new(database.clone()),
        trust: config.trust.clone(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    };
    let ca = Arc::new(CertificateAuthority::start(setup).await?);
    tell_of_roots(config, &ca);
    let of_logs = ca.domains().iter().map(|domain| domain.log().clone());
    let keepers = of_logs
        .zip(keepers)
        .flat_map(|(log, keepers)| keepers.into_iter().map(move |keeper| (keeper, log.clone())));
    let keepers = Keepers::begin(keepers.collect(), &stopping).await?;
    if let Some(address) = config.listen_logs {
        serve_logs(address, &ca, Logs::new(ca.clone(), logs.clone()), stopping.clone()).await?;
    }
    let users = Administrators(config.admin_users.clone());
    let backup = Arc::new(Backups::new(config, version, database.clone(), ca.clone()));
    let recovery = RecoverySetup { ca: ca.clone(), users: users.clone(), backup };
    let admin = AdminSetup {
        ca: ca.clone(),
        logs,
        users,
        version: version.to_owned(),
        development: config.development,
    };
    let published = tokio::spawn(published::keep(ca.clone(), stopping.clone()));
    let custody = tokio::spawn(custody::keep(ca.clone(), config.custody_every.0, stop.clone()));
    let served = listen(config, &ca, admin, recovery, stop.clone(), stopping).await;
    stop.send_replace(true);
    let proved = custody.await.map_err(|error| Failure::failed(format!("custody: {error}")));
    let served = served.and(proved.and_then(|proved| proved));
    let ended = published.await.map_err(|error| Failure::failed(format!("revocations: {error}")));
    let served = served.and(ended);
    keepers.end().await;
    ca.close();
    served
}

/// Opens a domain's log and the keys of its authorities.
async fn open_domain(
    config: &Config,
    domain: &config::Domain,
    database: &Database,
    store: Arc<crate::store::SqliteLog>,
    drivers: &mut JoinSet<Result<(), Fatal>>,
    stop: &watch::Sender<bool>,
) -> Result<(DomainSetup, Vec<Keeper>), Failure> {
    let during = |failure: Failure| failure.during(format!("domain `{}`", domain.name.as_str()));
    let log_key = log_key(config, domain).await.map_err(during)?;
    let log_keys = log_key.keys().cloned().zip(domain.log_keys().map(ToString::to_string)).collect();
    continues(&domain.origin, &*store).await.map_err(during)?;
    let mut keepers = Vec::new();
    for hardware in &domain.hardware {
        let keeper = Keeper::open(hardware, &config.tokens, log_key.verifier(), &*store, database).await;
        keepers.push(keeper.map_err(during)?);
    }
    let http = Http::new()?;
    let gates: Vec<_> = domain
        .authorities
        .iter()
        .map(|authority| {
            let addresses = authority.gates.clone();
            (!addresses.is_empty()).then(|| Arc::new(Gates::new(addresses, http.clone(), store.clone())))
        })
        .collect();
    let cosigner = config.witnesses.as_ref().map(|policy| {
        let gates = gates.iter().flatten().cloned().collect();
        Arc::new(Witnesses::new(policy.clone(), http, gates)) as Arc<dyn Cosigner>
    });
    let clock = Arc::new(SystemClock);
    let opened = sequencer::open_witnessed::<Effect>(
        store.clone(),
        Arc::new(log_key),
        cosigner,
        clock,
        Limits::default(),
    )
    .await;
    let (log, driver) = opened.map_err(|error| during(error.into()))?;
    // It ends soon after its log, and nobody waits for that.
    tokio::spawn(witnesses::keep_asking(log.watch()));
    for task in [driver, Box::pin(scrub::keep(log.watch(), store))] {
        let stop = stop.clone();
        drivers.spawn(async move {
            let ended = task.await;
            if ended.is_err() {
                // A log that stops by itself takes the daemon with it: nothing may be issued without it.
                stop.send_replace(true);
            }
            ended
        });
    }
    let roots = known_roots(domain, database).await.map_err(during)?;
    let (mut authorities, mut replicas) = (Vec::new(), Vec::new());
    for (authority, gates) in domain.authorities.iter().zip(gates) {
        let opened = open_replicas(config, authority).await;
        let (key, uri, others) =
            opened.map_err(|failure| during(failure.during(format!("authority `{}`", authority.name))))?;
        replicas.extend(others.into_iter().map(|(key, uri)| (authority.name.clone(), key, uri)));
        let opened = Authority::new(
            authority.name.clone(),
            domain.name.clone(),
            authority.certificate.clone(),
            &roots,
            key,
            authority.urls.clone(),
        );
        let mut opened = opened.map_err(|error| during(Failure::usage(error.to_string())))?;
        if let Some(gates) = gates {
            // They remember the log as witnesses do: one that has seen more of it knows that it went back.
            if let Some(head) = log.checkpoint() {
                gates.show(&head).await.map_err(|what| during(Failure::tampered(what)))?;
            }
            opened = opened.with_gates(gates);
        }
        authorities.push((opened, uri));
    }
    let revocation = open_responders(config, domain).await.map_err(during)?;
    let setup = DomainSetup {
        name: domain.name.clone(),
        revocation,
        log,
        log_keys,
        authorities,
        replicas,
        roots,
        refresh_hint: domain.refresh_hint,
        consumers: domain.consumers.clone(),
        custody: domain.custody,
        log_custody: domain.log_custody,
    };
    Ok((setup, keepers))
}

/// The roots that a domain's authorities may be below: those of the configuration, and after the first start those that
/// were published since, or that a rotation will publish.
async fn known_roots(domain: &Domain, database: &Database) -> Result<Vec<AuthorityCertificate>, Failure> {
    let published = database.bundle(domain.name.as_str()).await?;
    let rotated = database.rotations(domain.name.as_str()).await?;
    let published = published.iter().flat_map(|bundle| &bundle.roots);
    let rotated = rotated.iter().filter_map(|rotation| rotation.roots.as_ref()).map(|roots| &roots.new);
    let mut roots = domain.roots.clone();
    for der in published.chain(rotated) {
        let root = AuthorityCertificate::from_der(&der.0)
            .map_err(|error| Failure::tampered(format!("a root in the database: {error}")))?;
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

/// What configuration says of roots and is not so.
fn tell_of_roots(config: &Config, ca: &CertificateAuthority) {
    for domain in &config.domains {
        let Some(bundle) = ca.domain(domain.name.as_str()).map(|domain| domain.bundle()) else { continue };
        for root in domain.roots.iter().filter(|root| !bundle.roots().contains(root)) {
            tracing::warn!(
                domain = domain.name.as_str(),
                root = %root.subject(),
                "a root of the configuration is not published; see `undercroft rotate status`"
            );
        }
    }
}

/// The key of an authority, wherever it is, and the URI that it is known by; and those of its replicas besides the first
/// that is there.
///
/// One whose token is not available now is left out until the next start: what custody it has is not known. All that is
/// there must be right.
async fn open_replicas(
    config: &Config,
    authority: &crate::config::Authority,
) -> Result<(Key, String, Vec<(Key, String)>), Failure> {
    if authority.replicas.is_empty() {
        let key = config.tokens.open(&authority.key, authority.algorithm).await?;
        return Ok((key, authority.key.to_string(), Vec::new()));
    }
    let mut found = Vec::new();
    let mut away = None;
    for uri in authority.keys() {
        match config.tokens.open(uri, authority.algorithm).await {
            Ok(key) if key.signer.public_key() != authority.certificate.public_key() => {
                return Err(Failure::usage(format!(
                    "{uri} holds the key {}, which is not that of the certificate; correct the URI",
                    key.signer.public_key().id()
                )));
            }
            Ok(key) => found.push((uri.to_string(), key)),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::error!(replica = %uri, %error, "a replica is not there and is left out until the next start");
                away = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut others: Vec<_> = found.iter().map(|(uri, key)| (key.clone(), uri.clone())).collect();
    if others.is_empty() {
        return Err(away.map_or_else(|| Failure::usage("it has no key"), Failure::from));
    }
    let (_, uri) = others.remove(0);
    let key = Replicas::new(found, tell_of_replica)?.into_key()?;
    Ok((key, uri, others))
}

fn tell_of_replica(news: ReplicaNews) {
    match news {
        ReplicaNews::Rests { uri, why } => {
            tracing::warn!(replica = uri, why, "a replica is not available; the others sign");
        }
        ReplicaNews::Serves { uri } => tracing::info!(replica = uri, "a replica serves again"),
        ReplicaNews::IsOut { uri, why } => tracing::error!(
            replica = uri,
            why,
            "A REPLICA ANSWERED WHAT CANNOT BE AND IS TAKEN OUT. Find out who changed its token"
        ),
    }
}

/// How the revocations of a domain's authorities are published, with the keys of their OCSP responders.
async fn open_responders(config: &Config, domain: &Domain) -> Result<Vec<RevocationSetup>, Failure> {
    let mut setups = Vec::new();
    for authority in &domain.authorities {
        let Some(revocation) = &authority.revocation else { continue };
        let mut ocsp = None;
        if let Some(found) = &revocation.ocsp {
            let opened = config.tokens.open(&found.key, found.algorithm).await;
            let key =
                opened.map_err(|error| Failure::from(error).during(format!("ocsp-key {}", found.key)))?;
            if key.signer.public_key() == authority.certificate.public_key() {
                return Err(Failure::usage(format!(
                    "authority `{}`: ocsp-key is the authority's own key; a responder has a key of its own, so that the other one signs nothing else",
                    authority.name
                )));
            }
            ocsp = Some(OcspSetup { key, uri: found.key.to_string(), lifetime: found.lifetime });
        }
        setups.push(RevocationSetup {
            authority: authority.name.clone(),
            crl_lifetime: revocation.crl_lifetime,
            delta_lifetime: revocation.delta_lifetime,
            ocsp,
        });
    }
    Ok(setups)
}

/// The keys of a domain's log, opened where they are.
pub(crate) async fn log_key(config: &Config, domain: &Domain) -> Result<LogKey, Failure> {
    let opened = config.tokens.open(&domain.log_key, KeyAlgorithm::Ed25519).await;
    let key = opened.map_err(|error| Failure::from(error).during("the log key"))?;
    let log_key = LogKey::new(domain.origin.clone(), key)
        .map_err(|error| Failure::usage(format!("the log key: {error}")))?;
    let Some(uri) = &domain.second_log_key else { return Ok(log_key) };
    let opened = config.tokens.open(uri, KeyAlgorithm::EcdsaP256).await;
    let second = opened.map_err(|error| Failure::from(error).during("the second log key"))?;
    log_key.with_second(second).map_err(|error| Failure::usage(format!("the second log key: {error}")))
}

/// A log of a later epoch begins with the head of the one before, which `recover new-epoch` writes.
async fn continues(origin: &KeyName, log: &dyn LogStore<Effect>) -> Result<(), Failure> {
    if origin.as_str().rsplit('/').next() == Some("1") {
        return Ok(());
    }
    let first = match log.head().await?.size {
        0 => None,
        _ => log.entries(0..1).await?.pop(),
    };
    match first.and_then(|entry| Leaf::parse(&entry).ok()).map(|leaf| leaf.body) {
        Some(Body::Epoch(_)) => Ok(()),
        _ => Err(Failure::usage(format!(
            "{origin} has not begun: a later epoch begins with the head of the one before; run `undercroft recover new-epoch`"
        ))),
    }
}

/// Serves the logs, CRLs and OCSP to anybody, in a task of its own, until the daemon stops.
async fn serve_logs(
    address: SocketAddr,
    ca: &Arc<CertificateAuthority>,
    logs: Logs,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::unreachable(format!("cannot listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    tracing::info!(address = %listener.local_addr().map_err(failed)?, "logs are served");
    let stopped = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let published = from_fn_with_state(ca.clone(), published::answer);
    let router = tiles::router(logs).fallback(nothing).layer(published);
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
        if let Err(error) = served {
            tracing::error!(%error, "the logs are not served any more");
        }
    });
    Ok(())
}

async fn nothing() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Serves until a signal comes or a log stops.
async fn listen(
    config: &Config,
    ca: &Arc<CertificateAuthority>,
    admin: AdminSetup,
    recovery: RecoverySetup,
    stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let certificates = Arc::new(ServerCertificates::default());
    let renewed = match renew(config, ca, &certificates).await {
        Ok(()) => true,
        Err(failure) if failure.status() == ExitStatus::Refused => {
            // What is frozen is released over the administration socket, which needs no certificate.
            tracing::error!(%failure, "NOBODY IS SERVED BUT ON THE ADMINISTRATION SOCKET until it is released");
            false
        }
        Err(failure) => return Err(failure),
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| Failure::unreachable(format!("cannot listen on {}: {error}", config.listen)))?;
    let address =
        listener.local_addr().map_err(|error| Failure::unreachable(format!("cannot listen: {error}")))?;
    let admin_socket = bind_admin(&config.admin_socket)?;
    let connections = accept(listener, anchors::of(ca.clone()), certificates.clone(), most_connections())
        .map_err(|error| Failure::failed(format!("TLS: {error}")))?;
    if let Some(settings) = &config.acme {
        acme::serve(settings, ca, certificates.clone(), stopping.clone()).await?;
    }
    let limited = |service: IssuanceApi| IssuanceServer::new(service).max_decoding_message_size(MAX_REQUEST);
    let attestation = AttestationServer::new(AttestationApi::new(ca.clone()));
    let attestation = attestation.max_decoding_message_size(MAX_EVIDENCE);
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        // An error means that nobody can tell us to go on, which is the same.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let api = Server::builder()
        .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION)
        .max_concurrent_streams(REQUESTS_PER_CONNECTION as u32)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(limited(IssuanceApi::new(ca.clone())))
        .add_service(attestation)
        .serve_with_incoming_shutdown(connections, stopped(stopping.clone()));
    let admin = AdminApi::new(admin);
    let revocation = RevocationServer::new(RevocationApi::new(admin.clone()));
    let nodes = NodesServer::new(NodesApi::new(admin.clone()));
    let administration = Server::builder()
        .add_service(AdminServer::new(admin).max_decoding_message_size(MAX_REQUEST))
        .add_service(RecoveryServer::new(RecoveryApi::new(recovery)).max_decoding_message_size(MAX_REQUEST))
        .add_service(revocation.max_decoding_message_size(MAX_REQUEST))
        .add_service(nodes.max_decoding_message_size(MAX_REQUEST))
        .add_service(limited(IssuanceApi::new(ca.clone())))
        .serve_with_incoming_shutdown(unhurried(admin_socket), stopped(stopping.clone()));
    let renewing = keep_renewed(config, ca, &certificates, renewed, stopping.clone());
    // Before anybody is told that we are ready, and may tell us to stop.
    let signals = wait_for_signals(stop)?;
    tracing::info!(%address, admin = %config.admin_socket.display(), "ready");
    undercroft_cli::ready(address);
    let serving = async {
        let (api, administration) = tokio::join!(api, administration);
        api.and(administration).map_err(|error| Failure::failed(format!("serving: {error}")))
    };
    let deadline = async {
        stopped(stopping).await;
        tracing::info!("stopping");
        tokio::time::sleep(GRACE).await;
    };
    let result = tokio::select! {
        served = serving => served,
        () = deadline => {
            // Idle connections, mostly. What was under way has its outcome in the log before the logs are closed.
            tracing::warn!("connections were still open after {GRACE:?}");
            Ok(())
        }
        () = renewing => Ok(()),
        never = signals => match never {},
    };
    // Left behind, it would only puzzle the next start.
    let _ = fs::remove_file(&config.admin_socket);
    result
}

/// As many file descriptors as we may have, and how many connections that leaves room for beside the administration
/// socket, the database and the tokens.
fn most_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // It may be raised to its hard limit by anyone; if not, the soft one is what there is.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let descriptors = if raised.is_ok() { limit.maximum } else { limit.current };
    let descriptors = descriptors.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    descriptors.saturating_sub(RESERVED_DESCRIPTORS).clamp(16, CONNECTIONS)
}

/// Connections to a socket. After a failure (no file descriptor is left, mostly) it rests for a moment instead of
/// spinning.
fn unhurried(socket: UnixListener) -> impl Stream<Item = std::io::Result<UnixStream>> {
    UnixListenerStream::new(socket).then(|connection| async {
        if let Err(error) = &connection {
            tracing::warn!(%error, "cannot accept a connection on the administration socket");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        connection
    })
}

/// Listens for signals from now on. What it gives tells everybody to stop when one comes, and never ends.
fn wait_for_signals(stop: watch::Sender<bool>) -> Result<impl Future<Output = Infallible>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        std::future::pending().await
    })
}

/// Binds the administration socket.
fn bind_admin(path: &Path) -> Result<UnixListener, Failure> {
    let failed =
        |error: std::io::Error| Failure::unreachable(format!("cannot listen on {}: {error}", path.display()));
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Failure::unreachable(format!(
                "another daemon listens on {}; stop it first",
                path.display()
            )));
        }
        if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
            return Err(Failure::usage(format!(
                "admin-socket: {} is there and is no socket; choose another path",
                path.display()
            )));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Anyone may knock. Who may administer is decided by the kernel's word for who knocks.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// Issues the certificates that the daemon is known by, for new keys that live in this process alone.
async fn renew(
    config: &Config,
    ca: &CertificateAuthority,
    certificates: &ServerCertificates,
) -> Result<(), Failure> {
    // The control domain comes first: its certificate is for clients that ask for no name that we know.
    for domain in config.domains.iter().filter(|domain| !domain.server_names.is_empty()) {
        let failed = |what: String| Failure::failed(format!("the server's own certificate: {what}"));
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|error| failed(error.to_string()))?;
        let key = pair.to_pkcs8v1().map_err(|error| failed(error.to_string()))?;
        let public_key = PublicKey::from_ec_point(KeyType::P256, pair.public_key().as_ref())
            .map_err(|error| failed(error.to_string()))?;
        let issued = ca
            .issue_server_certificate(&domain.name, &domain.server_names, &public_key)
            .await
            .map_err(|error| match error {
                ServiceError::Refused(refusal) => {
                    Failure::refused(format!("the server's own certificate: {refusal}"))
                }
                error => failed(error.to_string()),
            })?;
        let certificate = CertificateForNames {
            names: domain.server_names.iter().map(|name| name.as_str().to_owned()).collect(),
            chain: issued.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
            key: PrivatePkcs8KeyDer::from(key.as_ref().to_vec()).into(),
        };
        certificates.present(certificate).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// Renews them at half of their life, and keeps trying if it fails: the old ones are good for the other half.
async fn keep_renewed(
    config: &Config,
    ca: &CertificateAuthority,
    certificates: &ServerCertificates,
    renewed: bool,
    mut stopping: watch::Receiver<bool>,
) {
    let half = Profile::standard(Kind::Server).lifetime().0 / 2;
    let mut issued = renewed.then(|| ca.now());
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEWAL_TICK) => {}
            _ = stopping.wait_for(|stop| *stop) => std::future::pending().await,
        }
        // By the clock on the wall: a machine that slept has lost that time, too.
        if issued.is_some_and(|issued| ca.now() < issued + half) {
            continue;
        }
        match renew(config, ca, certificates).await {
            Ok(()) => issued = Some(ca.now()),
            Err(failure) => {
                tracing::error!(%failure, "cannot renew the server's own certificates; trying again in a minute");
            }
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        let status = match error {
            DatabaseError::Unavailable { .. } | DatabaseError::InUse { .. } => ExitStatus::Unreachable,
            DatabaseError::Foreign { .. } | DatabaseError::Version { .. } => ExitStatus::Usage,
        };
        Self::new(status, error.to_string())
    }
}
