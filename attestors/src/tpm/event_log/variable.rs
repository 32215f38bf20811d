//! UEFI_VARIABLE_DATA (PFP section 10.4.2.6).

use super::cursor::Cursor;
use super::refusal::{EventLogError, Rule};
use super::signature_database::Guid;

/// The longest name, in UTF-16 units.
const MAX_NAME: u64 = 1024;

/// An EFI variable as it was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Whose variable it is.
    pub vendor: Guid,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

impl Variable {
    /// Parses one, to the end of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        match Self::parse_front(bytes)? {
            (variable, []) => Ok(variable),
            _ => Err(EventLogError::new(Rule::Variable, "something follows its value")),
        }
    }

    /// Parses one, and gives what follows it.
    pub(super) fn parse_front(bytes: &[u8]) -> Result<(Self, &[u8]), EventLogError> {
        let mut cursor = Cursor::new(bytes, Rule::Variable);
        let vendor = Guid(cursor.array("VariableName")?);
        let units = cursor.u64("UnicodeNameLength")?;
        let length = cursor.u64("VariableDataLength")?;
        if units > MAX_NAME {
            let what = format!("a name of {units} characters is longer than {MAX_NAME}");
            return Err(EventLogError::new(Rule::Variable, what));
        }
        let name = utf16(cursor.sized(units * 2, "UnicodeName")?)
            .ok_or_else(|| EventLogError::new(Rule::Variable, "its name is no UTF-16"))?;
        let value = cursor.sized(length, "VariableData")?.to_vec();
        Ok((Self { vendor, name, value }, cursor.rest()))
    }
}

/// The text of little-endian UTF-16.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, odd) = bytes.as_chunks::<2>();
    let units: Vec<_> = units.iter().copied().map(u16::from_le_bytes).collect();
    String::from_utf16(&units).ok().filter(|_| odd.is_empty())
}
