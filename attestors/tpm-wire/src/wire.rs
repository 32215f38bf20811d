//! Big-endian fields and sized buffers.

/// Why some bytes are not the structure that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ends inside a field.
    #[error("the TPM structure ends inside {0}")]
    Truncated(&'static str),
    /// There is more than the structure.
    #[error("{0} bytes follow the end of the TPM structure")]
    Trailing(usize),
    /// A sized buffer is longer than the specification allows.
    #[error("{field} has {length} bytes, more than the {limit} that it may have")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// What it may have.
        limit: usize,
    },
    /// An algorithm, curve or constant that we do not know.
    #[error("{field} has the unknown value {value:#06x}")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// Reserved bits are set, or the same content would be encoded otherwise.
    #[error("{0} is not encoded as a TPM encodes it")]
    NotCanonical(&'static str),
}

/// Reads fields off the front of a slice.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::Truncated(field))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        let bytes = self.take(2, field)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u16::from(*byte)))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        let bytes = self.take(4, field)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        Ok(self.take(1, field)?.iter().fold(0, |_, byte| *byte))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        let bytes = self.take(8, field)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A TPM2B of exactly a SHA-256 digest.
    pub(crate) fn digest(&mut self, field: &'static str) -> Result<[u8; 32], WireError> {
        self.buffer(32, field)?.try_into().map_err(|_| WireError::NotCanonical(field))
    }

    /// A TPM2B: two bytes of length, then the buffer.
    pub(crate) fn buffer(&mut self, limit: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let length = usize::from(self.u16(field)?);
        if length > limit {
            return Err(WireError::TooLong { field, length, limit });
        }
        self.take(length, field)
    }

    pub(crate) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.0.len())) }
    }
}

/// Appends a TPM2B. Buffers come from parsing, so their length fits.
pub(crate) fn push_buffer(out: &mut Vec<u8>, buffer: &[u8]) {
    let length = u16::try_from(buffer.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(&buffer[..usize::from(length)]);
}
