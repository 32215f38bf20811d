#![no_main]
//! The tables of configurations. The daemon's whole file is made of these, of texts, and of paths.
use undercroft_ca::profile::{Profile, ProfileConfig};
use undercroft_ca::{
    strict_toml,
    subject::{Subject, SubjectConfig},
};
use undercroft_keymgr::{DeviceConfig, KeyUri};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = strict_toml::parse::<ProfileConfig>("a", text).map(Profile::from_config);
    let _ = strict_toml::parse::<SubjectConfig>("a", text).map(|config| Subject::from_config(&config));
    let _ = strict_toml::parse::<DeviceConfig>("a", text).map(|device| device.uri.parse::<KeyUri>());
});
