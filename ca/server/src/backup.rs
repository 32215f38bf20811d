//! Backups of the running daemon's state (`docs/recovery.md`).

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_ca::service::CertificateAuthority;
use undercroft_log::leaf::{Digest, LogHead};
use undercroft_upstream::{StateCopy, TakeBackup};

use crate::config::Config;
use crate::store::{Database, SCHEMA};

/// The format of a manifest.
const FORMAT: &str = "undercroft-backup-v1";

/// The name of the manifest in a backup's folder.
pub(crate) const MANIFEST: &str = "backup.json";

/// The name of the copy in it.
pub(crate) const COPY: &str = "undercroft.db";

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Manifest {
    format: String,
    /// The version of the program that made it.
    pub(crate) version: String,
    /// When.
    pub(crate) made: Timestamp,
    /// The version of the database's schema.
    pub(crate) schema: i64,
    /// SHA-256 of the configuration.
    pub(crate) configuration: Digest,
    /// SHA-256 of the policy.
    pub(crate) policy: Digest,
    /// The logs.
    pub(crate) logs: Vec<LogOf>,
    /// The copy of the database. Written by whoever has received it.
    pub(crate) copy: Option<CopyOf>,
}

/// A log in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LogOf {
    /// Its origin.
    pub(crate) origin: String,
    /// How much of it the copy has.
    pub(crate) head: LogHead,
    /// The key (vkey) that verifies it; nothing for earlier epochs, which nobody continues.
    pub(crate) key: Option<String>,
    /// A signed checkpoint that the copy reaches, with its cosignatures.
    pub(crate) checkpoint: Option<String>,
}

/// The copy of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CopyOf {
    /// Its length in bytes.
    pub(crate) length: u64,
    /// Its SHA-256.
    pub(crate) sha256: Digest,
}

/// Why a manifest is none that this program restores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    /// Not a manifest.
    #[error("it is no manifest of a backup: {0}")]
    Malformed(String),
    /// A newer schema.
    #[error(
        "it has schema version {0}, and this program knows version {SCHEMA}; restore it with version {1} of the program"
    )]
    Newer(i64, String),
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub(crate) fn parse(text: &str) -> Result<Self, ManifestError> {
        let malformed = |what: String| ManifestError::Malformed(what);
        let manifest: Self = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(malformed(format!("its format is `{}` and not {FORMAT}", manifest.format)));
        }
        match manifest.schema {
            1..=SCHEMA => Ok(manifest),
            ..1 => Err(malformed(format!("it has schema version {}", manifest.schema))),
            newer => Err(ManifestError::Newer(newer, manifest.version)),
        }
    }

    /// The log of that origin.
    pub(crate) fn log(&self, origin: &str) -> Option<&LogOf> {
        self.logs.iter().find(|log| log.origin == origin)
    }
}

/// Takes backups of one daemon.
pub(crate) struct Backups {
    version: String,
    configuration: Digest,
    folder: PathBuf,
    database: Database,
    ca: Arc<CertificateAuthority>,
}

impl Backups {
    /// Of this daemon.
    pub(crate) fn new(
        config: &Config,
        version: &str,
        database: Database,
        ca: Arc<CertificateAuthority>,
    ) -> Self {
        let folder = config.database.parent().unwrap_or(std::path::Path::new(".")).to_owned();
        Self { version: version.to_owned(), configuration: config.digest, folder, database, ca }
    }
}

#[tonic::async_trait]
impl TakeBackup for Backups {
    async fn take(&self) -> Result<StateCopy, String> {
        // Before the copy, which then reaches each of them.
        let current: Vec<_> = self
            .ca
            .domains()
            .iter()
            .map(|domain| {
                let checkpoint = domain.log().checkpoint().map(|signed| signed.note().to_string());
                (domain.log().key().clone(), checkpoint)
            })
            .collect();
        // Beside the database, where there is as much room as it takes, and readable by its owner alone.
        let copy = tempfile::Builder::new()
            .prefix(".backup-")
            .tempfile_in(&self.folder)
            .map_err(|error| format!("the copy cannot be made in {}: {error}", self.folder.display()))?;
        let snapshot = self.database.snapshot(copy.path()).await.map_err(|error| error.to_string())?;
        let logs = snapshot.logs.into_iter().map(|(origin, head)| {
            let found = current.iter().find(|(key, _)| key.name().as_str() == origin);
            let key = found.map(|(key, _)| key.to_string());
            let checkpoint = found.and_then(|(_, checkpoint)| checkpoint.clone());
            LogOf { origin, head, key, checkpoint }
        });
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            version: self.version.clone(),
            made: self.ca.now(),
            schema: SCHEMA,
            configuration: self.configuration,
            policy: self.ca.policy().digest(),
            logs: logs.collect(),
            copy: None,
        };
        let manifest = serde_json::to_string(&manifest).map_err(|error| error.to_string())?;
        let file = copy.reopen().map_err(|error| format!("the copy cannot be read: {error}"))?;
        let length = file.metadata().map_err(|error| format!("the copy cannot be read: {error}"))?.len();
        Ok(StateCopy { manifest, file, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_manifest_of_ours_is_refused() {
        let good = format!(
            r#"{{"format":"undercroft-backup-v1","version":"0.1.0","made":"2026-11-22T08:00:00Z","schema":{SCHEMA},"configuration":"{0}","policy":"{0}","logs":[],"copy":{{"length":1,"sha256":"{0}"}}}}"#,
            "07".repeat(32)
        );
        Manifest::parse(&good).unwrap();
        for (from, to, says) in [
            ("undercroft-backup-v1", "undercroft-backup-v2", "its format is"),
            ("\"logs\":[]", "\"logs\":[],\"more\":1", "unknown field"),
            ("\"logs\":[],", "", "missing field"),
            ("\"length\":1", "\"length\":-1", "integer"),
            ("\"sha256\":\"07", "\"sha256\":\"7", "64"),
            ("}}", "}", "EOF"),
        ] {
            let changed = good.replacen(from, to, 1);
            assert_ne!(changed, good, "{from}");
            let refused = Manifest::parse(&changed).unwrap_err();
            assert!(matches!(&refused, ManifestError::Malformed(what) if what.contains(says)), "{refused}");
        }
        let schema = |version: i64| {
            let schema = format!("\"schema\":{SCHEMA}");
            Manifest::parse(&good.replacen(&schema, &format!("\"schema\":{version}"), 1)).unwrap_err()
        };
        assert_eq!(schema(SCHEMA + 1), ManifestError::Newer(SCHEMA + 1, "0.1.0".into()));
        assert!(matches!(schema(0), ManifestError::Malformed(_)));
    }
}
