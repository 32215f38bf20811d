//! swtpm.
