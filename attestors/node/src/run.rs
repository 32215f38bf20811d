//! The daemon of the node: attests, renews, and goes on.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use undercroft_ca::serial::Entropy;
use undercroft_ca::time::Validity;
use undercroft_cli::{ExitStatus, Failure, notify};
use undercroft_log::Clock;

use crate::config::Config;
use crate::exchange::{Attested, ExchangeError, attest};
use crate::output::Generation;
use crate::renewal::{chance, due, pause};

/// How long an exchange may take in all, TPM and network.
const EXCHANGE: Duration = Duration::from_secs(180);

/// The clock is asked at least so often: it may be set, and a machine may sleep.
const LOOK: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// No signals can be had. Nothing else ends it.
pub async fn run(config: &Config, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(|error| Failure::failed(format!("no signals: {error}")));
    let mut terminated = signals(SignalKind::terminate())?;
    let mut interrupted = signals(SignalKind::interrupt())?;
    let mut asked = signals(SignalKind::hangup())?;
    let mut life = Life::begin(config, clock);
    loop {
        let random = move || -> f64 {
            let mut random = [0; 8];
            // Without randomness nodes that began together stay together: that is no reason to stop.
            let _ = entropy.fill(&mut random);
            chance(random)
        };
        let work = life.go_on(config, clock, random);
        tokio::select! {
            () = work => {}
            _ = asked.recv() => {
                tracing::info!("asked to attest now");
                life.now();
            }
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        }
    }
    notify("STOPPING=1\n");
    tracing::info!("stopped; the files stay");
    Ok(())
}

/// What the daemon knows.
struct Life {
    /// The certificate that is in place, and when it is due.
    validity: Option<(Validity, jiff::Timestamp)>,
    failures: u32,
    /// How long to wait before the next try, if the last one failed.
    wait: Option<Duration>,
    /// Whether it was said that the certificate has run out.
    expired: bool,
    ready: bool,
}

impl Life {
    fn begin(config: &Config, clock: &dyn Clock) -> Self {
        let mut life = Self { validity: None, failures: 0, wait: None, expired: false, ready: false };
        match Generation::current(&config.output) {
            Ok(Some(current)) if current.holder.validity.contains(clock.now()) => {
                let validity = current.holder.validity;
                tracing::info!(uris = ?current.holder.uris, until = %validity.not_after(), "a certificate is in place");
                life.validity = Some((validity, due(validity, 0.5)));
                life.is_ready(&format!("certificate until {}", validity.not_after()));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the certificate that is there cannot be used"),
        }
        life
    }

    fn is_ready(&mut self, status: &str) {
        let ready = if self.ready { "" } else { "READY=1\n" };
        notify(&format!("{ready}STATUS={status}\nWATCHDOG=1\n"));
        self.ready = true;
    }

    /// Forgets all reasons to wait.
    fn now(&mut self) {
        (self.wait, self.failures) = (None, 0);
        if let Some((_, due)) = &mut self.validity {
            *due = jiff::Timestamp::MIN;
        }
    }

    /// Waits if there is a reason to, or attests.
    async fn go_on(&mut self, config: &Config, clock: &dyn Clock, random: impl Fn() -> f64) {
        notify("WATCHDOG=1\n");
        let now = clock.now();
        if let Some((validity, _)) = self.validity
            && now > validity.not_after()
            && !std::mem::replace(&mut self.expired, true)
        {
            tracing::error!(since = %validity.not_after(), "the certificate has run out, and there is no other");
        }
        if let Some(left) = self.wait {
            let step = left.min(LOOK);
            sleep(step).await;
            let left = left.saturating_sub(step);
            self.wait = (!left.is_zero()).then_some(left);
            return;
        }
        if let Some((_, due)) = self.validity
            && now < due
        {
            let left = due.duration_since(now).unsigned_abs();
            return sleep(left.min(LOOK)).await;
        }
        match timeout(EXCHANGE, attest(config, clock)).await {
            Ok(Ok(attested)) => self.succeeded(&attested, random()),
            Ok(Err(error)) => self.failed(&error, config, random()),
            Err(_) => {
                let failure = Failure::unreachable(format!("no end after {} s", EXCHANGE.as_secs()));
                self.failed(&failure.into(), config, random());
            }
        }
    }

    fn succeeded(&mut self, attested: &Attested, chance: f64) {
        let received = &attested.received;
        let due = due(received.validity, chance);
        tracing::info!(
            spiffe_id = %received.spiffe_id,
            until = %received.validity.not_after(),
            renewed = %due,
            log = %received.log_key.name(),
            index = received.index,
            at_once = attested.at_once,
            "attested"
        );
        *self = Self {
            validity: Some((received.validity, due)),
            failures: 0,
            wait: None,
            expired: false,
            ..*self
        };
        self.is_ready(&format!("{} until {}", received.spiffe_id, received.validity.not_after()));
    }

    fn failed(&mut self, error: &ExchangeError, config: &Config, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        // Who was refused, or lied to, gains nothing by asking soon.
        let patient = matches!(error.failure.status(), ExitStatus::Refused | ExitStatus::Tampered);
        let failures = if patient { u32::MAX } else { self.failures };
        let wait = pause(failures, config.retry, chance);
        self.wait = Some(wait);
        tracing::warn!(error = %error.failure, again_in = ?wait, failures = self.failures, "cannot attest");
        notify(&format!("STATUS=cannot attest: {}\n", error.failure.to_string().replace('\n', " ")));
    }
}
