//! The walls between the packages: who may depend on whom, and who may name which library.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// Every package that there is or will be, and the packages of ours that it may depend on. `docs/architecture.md`
/// draws it.
const ARROWS: &[(&str, &[&str])] = &[
    ("undercroft-keys", &[]),
    ("undercroft-tpm-wire", &["undercroft-keys"]),
    ("undercroft-keymgr", &["undercroft-keys"]),
    ("undercroft-pkcs11", &["undercroft-keymgr", "undercroft-keys"]),
    ("undercroft-tpm", &["undercroft-keymgr", "undercroft-keys", "undercroft-tpm-wire"]),
    ("undercroft-kms", &["undercroft-keymgr", "undercroft-keys"]),
    ("undercroft-attestors", &["undercroft-keys", "undercroft-log", "undercroft-tpm-wire"]),
    ("undercroft-log", &["undercroft-keys"]),
    ("undercroft-log-files", &["undercroft-keys", "undercroft-log"]),
    (
        "undercroft-ca",
        &[
            "undercroft-attestors",
            "undercroft-keymgr",
            "undercroft-keys",
            "undercroft-log",
            "undercroft-tpm-wire",
        ],
    ),
    ("undercroft-cli", &["undercroft-attestors", "undercroft-ca", "undercroft-keymgr", "undercroft-log"]),
    ("undercroft-proto", &[]),
    ("undercroft-upstream", &["undercroft-ca", "undercroft-log", "undercroft-proto"]),
    (
        "undercroft",
        &[
            "undercroft-attestors",
            "undercroft-ca",
            "undercroft-cli",
            "undercroft-keymgr",
            "undercroft-keys",
            "undercroft-kms",
            "undercroft-log",
            "undercroft-log-files",
            "undercroft-pkcs11",
            "undercroft-proto",
            "undercroft-tpm",
            "undercroft-upstream",
        ],
    ),
    (
        "undercroft-ceremony",
        &[
            "undercroft-attestors",
            "undercroft-ca",
            "undercroft-cli",
            "undercroft-keymgr",
            "undercroft-keys",
            "undercroft-log",
            "undercroft-log-files",
            "undercroft-pkcs11",
            "undercroft-tpm",
        ],
    ),
    (
        "undercroft-audit",
        &[
            "undercroft-attestors",
            "undercroft-ca",
            "undercroft-cli",
            "undercroft-keys",
            "undercroft-log",
            "undercroft-log-files",
            "undercroft-tpm-wire",
        ],
    ),
    (
        "undercroft-witness",
        &[
            "undercroft-attestors",
            "undercroft-ca",
            "undercroft-cli",
            "undercroft-keymgr",
            "undercroft-keys",
            "undercroft-kms",
            "undercroft-log",
            "undercroft-log-files",
            "undercroft-pkcs11",
            "undercroft-tpm",
            "undercroft-tpm-wire",
        ],
    ),
    (
        "undercroft-node",
        &[
            "undercroft-attestors",
            "undercroft-ca",
            "undercroft-cli",
            "undercroft-keymgr",
            "undercroft-keys",
            "undercroft-log",
            "undercroft-proto",
            "undercroft-tpm",
            "undercroft-tpm-wire",
        ],
    ),
    (
        "undercroft-spire",
        &[
            "undercroft-attestors",
            "undercroft-cli",
            "undercroft-keymgr",
            "undercroft-keys",
            "undercroft-kms",
            "undercroft-pkcs11",
            "undercroft-proto",
            "undercroft-tpm",
        ],
    ),
    ("hsm-sim", &["undercroft-keymgr", "undercroft-keys"]),
];

/// Packages that are no part of a release, so that they may use everything, and nothing of a release may use them.
const UNRELEASED: [&str; 2] = ["hsm-sim", "e2e"];

/// Libraries that one place alone may name: the library as Rust code spells it, and the folder.
const NAMED_IN: [(&str, &str); 13] = [
    ("tss_esapi", "keymgr/tpm"),
    ("cryptoki", "keymgr/pkcs11"),
    ("sqlx", "ca/server/src/store"),
    ("aws_config", "keymgr/kms/src/aws"),
    ("aws_credential_types", "keymgr/kms/src/aws"),
    ("aws_sdk_kms", "keymgr/kms/src/aws"),
    ("azure_core", "keymgr/kms/src/azure"),
    ("azure_identity", "keymgr/kms/src/azure"),
    ("azure_security_keyvault_keys", "keymgr/kms/src/azure"),
    ("google_cloud_auth", "keymgr/kms/src/google"),
    ("google_cloud_gax", "keymgr/kms/src/google"),
    ("google_cloud_kms_v1", "keymgr/kms/src/google"),
    ("regorus", "ca/src/nodes/policy/rego.rs"),
];

/// Packages that decide, and so never name a runtime.
const WITHOUT_RUNTIME: [&str; 7] = [
    "undercroft-attestors",
    "undercroft-ca",
    "undercroft-keymgr",
    "undercroft-keys",
    "undercroft-log",
    "undercroft-log-files",
    "undercroft-tpm-wire",
];

/// What would let a program reach a network.
const NETWORK: [&str; 12] = [
    "h2",
    "hyper",
    "hyper-util",
    "mio",
    "reqwest",
    "rustls",
    "socket2",
    "sqlx",
    "tokio",
    "tokio-rustls",
    "tonic",
    "ureq",
];

/// What would make a program a server, or give it a database or a device. Everybody's client of HTTP brings parts of
/// these with it, so that the whole of each is named.
const SERVER_OR_BACKEND: [&str; 10] = [
    "axum",
    "cryptoki",
    "sqlx",
    "tonic",
    "tss-esapi",
    "undercroft",
    "undercroft-kms",
    "undercroft-pkcs11",
    "undercroft-proto",
    "undercroft-tpm",
];

/// The one file of the auditor that reaches a network.
const FETCH: &str = "ca/auditor/src/fetch.rs";

/// Names of files that say nothing about what is in them.
const NAMELESS: [&str; 6] = ["utils", "util", "common", "helpers", "misc", "manager"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        // Not offline: metadata wants the crates of other platforms, too, which a build has not fetched.
        .other_options(["--locked".to_owned()])
        .exec()
        .unwrap()
}

/// The same with every feature: what backends of clouds bring with them.
fn metadata_with_clouds() -> Metadata {
    MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .features(cargo_metadata::CargoOpt::AllFeatures)
        .other_options(["--locked".to_owned()])
        .exec()
        .unwrap()
}

fn released(metadata: &Metadata) -> Vec<&Package> {
    let packages = metadata.workspace_packages();
    packages.into_iter().filter(|package| !UNRELEASED.contains(&package.name.as_str())).collect()
}

#[test]
fn packages_depend_only_on_those_that_an_arrow_leads_to() {
    let metadata = metadata();
    let ours: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for package in metadata.workspace_packages() {
        if package.name.as_str() == "e2e" {
            continue;
        }
        let allowed = arrows.get(package.name.as_str());
        let allowed = allowed.unwrap_or_else(|| panic!("{} is no package of the design", package.name));
        for dependency in &package.dependencies {
            let of_tests = dependency.kind == DependencyKind::Development;
            if ours.contains(&dependency.name) && !of_tests {
                assert!(
                    allowed.contains(&dependency.name.as_str()),
                    "no arrow leads from {} to {}",
                    package.name,
                    dependency.name
                );
            }
        }
    }
}

#[test]
fn nothing_of_a_release_reaches_simulators_or_test_certificates() {
    let metadata = metadata();
    for package in released(&metadata) {
        let reached = closure(&metadata, &package.id);
        for forbidden in ["hsm-sim", "e2e", "rcgen"] {
            assert!(!reached.contains(forbidden), "{} reaches {forbidden}", package.name);
        }
    }
}

#[test]
fn the_ceremony_links_no_network_the_auditor_no_server_and_the_pure_ones_no_runtime() {
    let metadata = metadata();
    for package in released(&metadata) {
        let name = package.name.as_str();
        let reached = closure(&metadata, &package.id);
        let forbidden = match name {
            "undercroft-ceremony" => &NETWORK[..],
            "undercroft-audit" => &SERVER_OR_BACKEND[..],
            _ => &[],
        };
        for library in forbidden {
            assert!(!reached.contains(*library), "{name} reaches {library}");
        }
        if WITHOUT_RUNTIME.contains(&name) {
            for library in ["tokio", "async-std", "smol"] {
                assert!(!reached.contains(library), "{name} reaches {library}");
            }
        }
    }
}

/// The names of all packages that a package is built with: without its tests and build scripts.
fn closure(metadata: &Metadata, package: &PackageId) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: HashMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut reached = BTreeSet::new();
    let mut waiting = vec![package];
    while let Some(package) = waiting.pop() {
        for dependency in &nodes[package].deps {
            let normal = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if normal && reached.insert(metadata[&dependency.pkg].name.to_string()) {
                waiting.push(&dependency.pkg);
            }
        }
    }
    reached
}

#[test]
fn dependencies_are_those_that_deny_toml_allows() {
    let text = fs::read_to_string(workspace().join("deny.toml")).unwrap();
    let rules: toml::Table = text.parse().unwrap();
    let list = |section: &str, key: &str| rules[section][key].as_array().unwrap().clone();
    let allowed: Vec<_> = list("licenses", "allow")
        .iter()
        .map(|name| spdx::Licensee::parse(name.as_str().unwrap()).unwrap())
        .collect();
    let banned = list("bans", "deny");
    let registries: Vec<_> = list("sources", "allow-registry")
        .iter()
        .map(|registry| format!("registry+{}", registry.as_str().unwrap()))
        .collect();
    let metadata = metadata_with_clouds();
    let built = built();
    for package in metadata.packages.iter().filter(|package| package.source.is_some()) {
        let name = package.name.as_str();
        if !built.contains(name) {
            continue;
        }
        if let Some(ban) = banned.iter().find(|ban| ban["crate"].as_str() == Some(name)) {
            // Banned but for some, or for everybody.
            let wrappers = ban.get("wrappers").and_then(|wrappers| wrappers.as_array());
            let wrappers: Vec<_> = wrappers.into_iter().flatten().filter_map(|it| it.as_str()).collect();
            let users = users(&metadata, &package.id);
            let users: Vec<_> = users.iter().filter(|user| built.contains(*user)).collect();
            assert!(
                users.iter().all(|user| wrappers.contains(&user.as_str())),
                "{name} is banned for {users:?}"
            );
        }
        let source = package.source.as_ref().unwrap().to_string();
        assert!(registries.contains(&source), "{name} comes from {source}");
        let license = package.license.as_deref().unwrap().replace('/', " OR ");
        let license = spdx::Expression::parse_mode(&license, spdx::ParseMode::LAX).unwrap();
        let fits = license.evaluate(|wanted| allowed.iter().any(|licensee| licensee.satisfies(wanted)));
        assert!(fits, "{name}: {}", license);
    }
}

/// The packages that depend on a package.
fn users(metadata: &Metadata, package: &PackageId) -> BTreeSet<String> {
    let nodes = &metadata.resolve.as_ref().unwrap().nodes;
    let users = nodes.iter().filter(|node| node.deps.iter().any(|dependency| dependency.pkg == *package));
    users.map(|node| metadata[&node.id].name.to_string()).collect()
}

/// The names of all packages that are built, by default and for clouds. The lock file, and so the metadata, holds others
/// that no feature asks for.
fn built() -> BTreeSet<String> {
    let tree = ["tree", "--workspace", "--edges", "all", "--prefix", "none", "--format", "{p}", "--locked"];
    let clouds = ["--features", "undercroft/awskms,undercroft/gcpkms,undercroft/azurekv"];
    let ran = e2e::Tool::foreign(env!("CARGO"))
        .args(tree)
        .args(clouds)
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"));
    let names: BTreeSet<_> = ran
        .done()
        .unwrap()
        .stdout
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert!(names.contains("rustls") && names.contains("aws-sdk-kms"), "{names:?}");
    assert!(names.contains("google-cloud-kms-v1") && names.contains("azure_core"), "{names:?}");
    names
}

#[test]
fn each_vendor_library_is_named_in_one_place() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(workspace()).unwrap();
        for (library, folder) in NAMED_IN {
            let names =
                [format!("use {library}"), format!("{library}::")].iter().any(|name| text.contains(name));
            assert!(!names || place.starts_with(folder), "{} names {library}", place.display());
        }
    }
}

/// What an auditor judges by is read from files: the library asks nobody, and one file of the program fetches.
#[test]
fn the_auditor_reaches_a_network_in_one_file() {
    for file in sources() {
        let place = file.strip_prefix(workspace()).unwrap();
        if place.starts_with("ca/auditor/src") && place != Path::new(FETCH) {
            let text = fs::read_to_string(&file).unwrap();
            for library in ["hyper", "rustls", "std::net", "tokio::net"] {
                assert!(!text.contains(library), "{} names {library}", place.display());
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(workspace()).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let holds = code.into_iter().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        let this_file = place == Path::new("tests/stories/walls.rs");
        assert!(!holds || this_file || place == Path::new("keymgr/tpm/src/esys.rs"), "{}", place.display());
    }
    for package in metadata().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        let own_lints = package.name.as_str() == "undercroft-tpm";
        assert!(own_lints || manifest.contains("[lints]\nworkspace = true"), "{}", package.name);
    }
}

#[test]
fn files_are_named_after_what_is_in_them() {
    for file in sources() {
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(!NAMELESS.contains(&name), "{}", file.display());
    }
}

/// Every Rust file of ours.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !["target", ".git", "generated"].contains(&name) {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&workspace(), &mut found);
    assert!(found.len() > 100, "where are the sources?");
    found
}
