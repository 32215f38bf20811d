//! `undercroft bench`: what a token can do, for those who must know how many they need.

mod plot;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::try_join_all;
use serde::Serialize;
use undercroft_cli::system::Stopwatch;
use undercroft_cli::{Environment, Failure, Progress, StrictArgs, Terminal, write_file};
use undercroft_keymgr::{Device, Error, KeyUri, Scheme, SigningKey, Tokens};
use undercroft_keys::{KeyAlgorithm, KeyId};

use crate::config::Config;
use crate::serve::log_key;

/// A rate within this of the best is as good as the best.
const AS_GOOD: f64 = 0.95;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct BenchArgs {
    /// The environment file with the devices.
    #[arg(long, env = "UNDERCROFT_ENVIRONMENT")]
    environment: PathBuf,
    #[command(flatten)]
    strict: StrictArgs,
    /// The device, by its name in the environment.
    device: String,
    /// What kind of key to measure.
    #[arg(long, default_value = "ecdsa-p256")]
    algorithm: KeyAlgorithm,
    /// How many signatures to ask for at once, each in a session of its own as far as the token has them.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// How long to measure each, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// A scratch key that is there already, for devices that have no throwaway keys. With --config, so that no key of an
    /// authority or a log is used.
    #[arg(long, requires = "config")]
    key: Option<KeyUri>,
    /// The daemon's configuration, whose keys are refused.
    #[arg(long, env = "UNDERCROFT_CONFIG")]
    config: Option<PathBuf>,
    /// Draw the table into this SVG file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Measured {
    device: String,
    algorithm: String,
    rows: Vec<Row>,
    /// The fewest threads that reach the best rate, or nearly.
    saturates_at: u16,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    /// Signatures that were asked for at once.
    threads: u16,
    /// Signatures a second.
    rate: f64,
    /// How long half of them took at most, in milliseconds.
    p50_ms: f64,
    /// How long 99 of 100 took at most, in milliseconds.
    p99_ms: f64,
}

impl BenchArgs {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let device = self.environment()?.tokens.device(&self.device)?.clone();
        let used = match (&self.key, &self.config) {
            (Some(_), Some(config)) => {
                let config =
                    Config::read(config, self.strict.secrecy(), crate::backends(self.strict.secrecy()))?;
                block_on(used_keys(&config))?
            }
            _ => Vec::new(),
        };
        let mut threads = self.threads.clone();
        threads.sort_unstable();
        threads.dedup();
        let progress = terminal.progress(threads.len() as u64 * self.seconds * 10, "signing");
        let rows = threads.into_iter().map(|threads| self.measure(&device, threads, &used, &progress));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        drop(progress);
        let measured = Measured {
            device: self.device,
            algorithm: self.algorithm.to_string(),
            saturates_at: saturation(&rows),
            rows,
        };
        if let Some(path) = &self.svg {
            write_file(path, plot::svg(&measured)?.as_bytes())?;
        }
        terminal.result(&measured, || measured.table())
    }

    fn environment(&self) -> Result<Environment, Failure> {
        Environment::read(&self.environment, self.strict.secrecy(), crate::backends(self.strict.secrecy()))
    }

    /// Signs with so many at once, in as many sessions.
    fn measure(
        &self,
        device: &Device,
        threads: u16,
        used: &[KeyId],
        progress: &Progress,
    ) -> Result<Row, Failure> {
        // Opened anew for each row, with a session for each that asks.
        let device = Device { sessions: std::num::NonZeroUsize::new(threads.into()), ..device.clone() };
        let tokens = Tokens::new(vec![device], crate::backends(self.strict.secrecy()))?;
        let keys = block_on(self.keys(&tokens, threads))?;
        if let Some(key) = keys.iter().map(|key| key.public_key().id()).find(|key| used.contains(key)) {
            return Err(Failure::refused(format!(
                "key {key} is one that the configuration uses; make a scratch key of the same kind with `undercroft keys create`"
            )));
        }
        let length = Duration::from_secs(self.seconds);
        let watch = Stopwatch::start();
        let asking = (0..usize::from(threads)).map(|n| {
            let key = keys[n % keys.len()].clone();
            async move {
                let (mut times, mut told) = (Vec::new(), 0);
                while watch.elapsed() < length {
                    let one = Stopwatch::start();
                    key.sign(&times.len().to_be_bytes()).await?;
                    times.push(one.elapsed());
                    // One of them tells how far we are, in tenths of seconds.
                    let tenths = watch.elapsed().min(length).as_millis() as u64 / 100;
                    if n == 0 && tenths > told {
                        progress.advance(tenths - told);
                        told = tenths;
                    }
                }
                Ok::<_, Error>(times)
            }
        });
        let times = block_on(try_join_all(asking))?.concat();
        Ok(Row::new(threads, times, watch.elapsed()))
    }

    /// The keys that are measured. A throwaway key of a PKCS#11 token has a session of its own, so there are as many as
    /// sign at once; a TPM has room for few, and does one thing at a time.
    async fn keys(&self, tokens: &Tokens, threads: u16) -> Result<Vec<Arc<dyn SigningKey>>, Failure> {
        if let Some(uri) = &self.key {
            return Ok(vec![tokens.open(uri, self.algorithm).await?.signer]);
        }
        let device = tokens.device(&self.device)?;
        let count = match device.uri.scheme() {
            Scheme::Pkcs11 => threads,
            // A cloud has none at all, and says so.
            Scheme::Tpm | Scheme::AwsKms | Scheme::GcpKms | Scheme::AzureKv => 1,
        };
        let manager = tokens.manager(device)?;
        Ok(try_join_all((0..count).map(|_| manager.throwaway(self.algorithm))).await?)
    }
}

/// The best rate of a device, in signatures a second, with throwaway keys alone: what a recovery can count on.
pub(super) fn best_rate(
    device: &Device,
    algorithm: KeyAlgorithm,
    seconds: u64,
    strict: StrictArgs,
    terminal: &Terminal,
) -> Result<f64, Failure> {
    let threads = vec![1, 4];
    let progress = terminal.progress(threads.len() as u64 * seconds * 10, "measuring");
    let args = BenchArgs {
        environment: PathBuf::new(),
        strict,
        device: device.name.clone(),
        algorithm,
        threads: threads.clone(),
        seconds,
        key: None,
        config: None,
        svg: None,
    };
    let rows = threads.into_iter().map(|threads| args.measure(device, threads, &[], &progress));
    let rates = rows.map(|row| row.map(|row| row.rate)).collect::<Result<Vec<_>, _>>()?;
    Ok(rates.into_iter().fold(0.0, f64::max))
}

/// The keys of the daemon's logs and authorities.
async fn used_keys(config: &Config) -> Result<Vec<KeyId>, Failure> {
    let mut used = Vec::new();
    for domain in &config.domains {
        used.extend(domain.authorities.iter().map(|authority| authority.certificate.public_key().id()));
        let log_key = log_key(config, domain).await?;
        used.extend(log_key.keys().map(|key| key.signer.public_key().id()));
    }
    Ok(used)
}

impl Row {
    fn new(threads: u16, mut times: Vec<Duration>, elapsed: Duration) -> Self {
        times.sort_unstable();
        // Nearest rank: the smallest time that so many in a hundred do not exceed.
        let rank = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        let rate = times.len() as f64 / elapsed.as_secs_f64();
        Self { threads, rate, p50_ms: rank(50), p99_ms: rank(99) }
    }
}

/// The fewest threads whose rate is as good as the best.
fn saturation(rows: &[Row]) -> u16 {
    let best = rows.iter().map(|row| row.rate).fold(0.0, f64::max);
    rows.iter().find(|row| row.rate >= AS_GOOD * best).map_or(0, |row| row.threads)
}

impl Measured {
    fn table(&self) -> String {
        let mut text = format!(
            "{} in `{}`\n\n| threads | signatures a second | p50, ms | p99, ms |\n| ---: | ---: | ---: | ---: |\n",
            self.algorithm, self.device
        );
        for Row { threads, rate, p50_ms, p99_ms } in &self.rows {
            text += &format!("| {threads} | {rate:.0} | {p50_ms:.2} | {p99_ms:.2} |\n");
        }
        text + &format!(
            "\nMore than {} at once are not faster. Plan with half of the rate, so that a token that fails leaves enough.\n",
            self.saturates_at
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(threads: u16, rate: f64) -> Row {
        Row { threads, rate, p50_ms: 1.0, p99_ms: 2.0 }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        let row = Row::new(4, times, Duration::from_secs(2));
        assert_eq!((row.rate, row.p50_ms, row.p99_ms), (100.0, 100.0, 198.0));
        let one = Row::new(1, vec![Duration::from_millis(7)], Duration::from_secs(1));
        assert_eq!((one.p50_ms, one.p99_ms), (7.0, 7.0));
        let none = Row::new(1, Vec::new(), Duration::from_secs(1));
        assert_eq!((none.rate, none.p50_ms, none.p99_ms), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_token_saturates_where_more_callers_do_not_help() {
        let rows = [row(1, 100.0), row(2, 190.0), row(4, 198.0), row(8, 200.0)];
        assert_eq!(saturation(&rows), 2);
        assert_eq!(saturation(&[row(1, 100.0), row(2, 100.0)]), 1);
        assert_eq!(saturation(&[]), 0);
    }

    #[test]
    fn the_picture_holds_the_numbers_and_is_xml() {
        let rows = vec![row(1, 100.0), row(2, 190.0), row(4, 198.0)];
        let measured =
            Measured { device: "a<b".into(), algorithm: "ecdsa-p256".into(), rows, saturates_at: 2 };
        let svg = plot::svg(&measured).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(
            svg.contains("a&lt;b") && !svg.contains("a<b") && svg.matches("<polyline").count() >= 3,
            "{svg}"
        );
    }
}
