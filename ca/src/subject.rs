//! Distinguished names.

use std::fmt;

use der::asn1::{Any, PrintableStringRef, SetOfVec, Utf8StringRef};
use der::{Decode, Encode};
use serde::Deserialize;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

/// Upper bounds of RFC 5280 appendix A.1 (`ub-common-name`, `ub-organization-name`, `ub-organizational-unit-name`).
const UPPER_BOUND: usize = 64;

/// A subject as plans write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SubjectConfig {
    /// countryName, two letters.
    pub country: Option<String>,
    /// organizationName.
    pub organization: Option<String>,
    /// organizationalUnitName.
    pub organizational_unit: Option<String>,
    /// commonName.
    pub common_name: Option<String>,
}

/// A distinguished name, one attribute a RDN, in DER. It is empty only where [`Subject::empty`] says so.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    der: Vec<u8>,
    text: String,
}

impl Subject {
    /// The name of nobody: of what its subjectAltName alone names (RFC 5280 section 4.1.2.6).
    pub fn empty() -> Self {
        Self { der: vec![0x30, 0], text: String::new() }
    }

    /// Makes the name that a plan writes.
    ///
    /// # Errors
    /// It is empty, an attribute is too long or has control characters, or the country is not two letters.
    pub fn from_config(config: &SubjectConfig) -> Result<Self, SubjectError> {
        let attributes = [
            (const_oid::db::rfc4519::C, "country", &config.country),
            (const_oid::db::rfc4519::O, "organization", &config.organization),
            (const_oid::db::rfc4519::OU, "organizational-unit", &config.organizational_unit),
            (const_oid::db::rfc4519::CN, "common-name", &config.common_name),
        ];
        let mut names = Vec::new();
        for (oid, attribute, value) in attributes {
            let Some(value) = value else { continue };
            let wrong = |rule| SubjectError::Attribute { attribute, value: value.clone(), rule };
            if value.is_empty() || value.chars().count() > UPPER_BOUND || value.chars().any(char::is_control)
            {
                return Err(wrong("it must have 1 to 64 characters, none of them a control character"));
            }
            let encoded = if attribute == "country" {
                if value.len() != 2 || !value.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    return Err(wrong("it must be a country code of two upper-case letters (ISO 3166)"));
                }
                Any::encode_from(&PrintableStringRef::new(value).map_err(SubjectError::Der)?)
            } else {
                Any::encode_from(&Utf8StringRef::new(value).map_err(SubjectError::Der)?)
            };
            let attribute = AttributeTypeAndValue { oid, value: encoded.map_err(SubjectError::Der)? };
            let set = SetOfVec::try_from(vec![attribute]).map_err(SubjectError::Der)?;
            names.push(RelativeDistinguishedName::from(set));
        }
        if names.is_empty() {
            return Err(SubjectError::Empty);
        }
        let der = RdnSequence::from(names).to_der().map_err(SubjectError::Der)?;
        Self::from_der(&der)
    }

    /// The name of an organisation and, if given, a common name.
    ///
    /// # Errors
    /// As [`Subject::from_config`].
    pub fn new(organization: &str, common_name: Option<&str>) -> Result<Self, SubjectError> {
        Self::from_config(&SubjectConfig {
            organization: Some(organization.to_owned()),
            common_name: common_name.map(str::to_owned),
            ..SubjectConfig::default()
        })
    }

    /// Takes a name from a certificate, byte for byte.
    ///
    /// # Errors
    /// The bytes are no DER of a Name, or it is empty.
    pub fn from_der(der: &[u8]) -> Result<Self, SubjectError> {
        let name = Name::from_der(der).map_err(SubjectError::Der)?;
        if name.is_empty() {
            return Err(SubjectError::Empty);
        }
        Ok(Self { der: der.to_vec(), text: name.to_string() })
    }

    /// The DER of the Name.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

/// As RFC 4514 writes it.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({self})")
    }
}

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// No attribute at all.
    #[error("the subject is empty; give it at least an organization or a common-name")]
    Empty,
    /// An attribute that cannot be.
    #[error("the subject's {attribute} cannot be `{value}`: {rule}")]
    Attribute {
        /// The attribute.
        attribute: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// Not DER.
    #[error("the subject is not the DER of a name: {0}")]
    Der(der::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_in_order_and_read_back() {
        let subject = Subject::from_config(&SubjectConfig {
            country: Some("CH".into()),
            organization: Some("Example, Inc.".into()),
            organizational_unit: None,
            common_name: Some("prod.example Root R1".into()),
        })
        .unwrap();
        assert_eq!(subject.to_string(), "CN=prod.example Root R1,O=Example\\, Inc.,C=CH");
        assert_eq!(Subject::from_der(subject.der()).unwrap(), subject);
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        assert_eq!(Subject::from_config(&SubjectConfig::default()), Err(SubjectError::Empty));
        assert_eq!(Subject::from_der(&[0x30, 0x00]), Err(SubjectError::Empty));
        assert!(matches!(Subject::from_der(&[0x30, 0x01]), Err(SubjectError::Der(_))));
        for country in ["ch", "CHE", "C", "C1"] {
            let config = SubjectConfig { country: Some(country.into()), ..SubjectConfig::default() };
            assert!(
                Subject::from_config(&config).unwrap_err().to_string().contains("two upper-case letters")
            );
        }
        for name in ["", "a\nb", &"x".repeat(65)] {
            assert!(Subject::new(name, None).unwrap_err().to_string().contains("1 to 64"), "{name}");
        }
    }
}
