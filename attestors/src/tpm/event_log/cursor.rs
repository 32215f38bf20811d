//! Little-endian fields, as firmware writes them.

use super::refusal::{EventLogError, Rule};

/// Reads fields off the front of a slice. What does not fit breaks `rule`.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    rule: Rule,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], rule: Rule) -> Self {
        Self { bytes, rule }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn take(&mut self, length: usize, field: &str) -> Result<&'a [u8], EventLogError> {
        let left = self.bytes.len();
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(|| {
            EventLogError::new(self.rule, format!("{field} wants {length} bytes, and {left} are left"))
        })?;
        self.bytes = rest;
        Ok(taken)
    }

    /// As `take`, by a length that was read: one that no memory has is one that is not left.
    pub(super) fn sized(&mut self, length: u64, field: &str) -> Result<&'a [u8], EventLogError> {
        self.take(usize::try_from(length).unwrap_or(usize::MAX), field)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], EventLogError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &str) -> Result<u8, EventLogError> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self, field: &str) -> Result<u16, EventLogError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &str) -> Result<u32, EventLogError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &str) -> Result<u64, EventLogError> {
        self.array(field).map(u64::from_le_bytes)
    }
}
