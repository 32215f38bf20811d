//! What a backend demands of the credentials that it finds.

/// Which credentials a cloud's backend may use. Whichever it is, they come from where the program runs: nothing of
/// Undercroft's configuration can hold one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialsRule {
    /// Only those that the cloud itself gives to this machine or workload, and changes by itself: the role of an
    /// instance or container, a workload identity. Keys that somebody wrote into the environment or a file are refused,
    /// with where they were found.
    pub ambient_only: bool,
}
