//! Whose a client certificate is: its subject's common name is the user, its organisations are the groups, as in Kubernetes.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

use super::{Who, is_name};

/// A certificate that names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is no X.509 certificate.
    #[error("cannot be read")]
    Unreadable,
    /// It was good when the connection was made.
    #[error("has expired: connect with a new one")]
    Expired,
    /// There must be one: of two, which one counts differs between programs.
    #[error("has {0} common names in its subject; it needs one, the user")]
    CommonNames(usize),
    /// A name that would be none, or that cannot be shown.
    #[error(
        "has a common name or organisation that is empty, longer than 256 bytes, \"*\", or no plain text"
    )]
    Name,
}

/// Whose it is.
pub(super) fn subject(der: &CertificateDer<'_>, now: Timestamp) -> Result<Who, CertificateError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Unreadable)?;
    if certificate.validity().not_after.timestamp() < now.as_second() {
        return Err(CertificateError::Expired);
    }
    let subject = certificate.subject();
    let users = names(subject.iter_common_name())?;
    let [user] = users.as_slice() else {
        return Err(CertificateError::CommonNames(users.len()));
    };
    Ok(Who { user: user.clone(), groups: names(subject.iter_organization())? })
}

fn names<'a>(
    attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Result<Vec<String>, CertificateError> {
    attributes
        .map(|attribute| match attribute.as_str() {
            Ok(name) if is_name(name) => Ok(name.to_owned()),
            _ => Err(CertificateError::Name),
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, date_time_ymd};

    use super::*;

    /// When a certificate is good.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) enum Validity {
        Now,
        Past,
    }

    pub(in super::super) fn certificate(
        user: &str,
        groups: &[&str],
        validity: Validity,
    ) -> CertificateDer<'static> {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, user);
        // rcgen keeps one value for one type of attribute: others of the same type need another way to say it.
        for (index, group) in groups.iter().enumerate() {
            let kind =
                if index == 0 { DnType::OrganizationName } else { DnType::CustomDnType(vec![2, 5, 4, 10]) };
            name.push(kind, *group);
        }
        signed(name, validity)
    }

    fn signed(name: DistinguishedName, validity: Validity) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        if let Validity::Past = validity {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn refusal(name: DistinguishedName) -> CertificateError {
        subject(&signed(name, Validity::Now), Timestamp::now()).unwrap_err()
    }

    #[test]
    fn a_subject_without_one_common_name_is_nobody() {
        assert_eq!(refusal(DistinguishedName::new()), CertificateError::CommonNames(0));
        let mut two = DistinguishedName::new();
        two.push(DnType::CommonName, "alice");
        two.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "root");
        assert_eq!(refusal(two), CertificateError::CommonNames(2));
    }

    #[test]
    fn a_name_that_is_empty_or_everybody_or_has_control_characters_is_nobody() {
        for user in ["", "*", "alice\nbob", "alice\0", &"a".repeat(257)] {
            let mut name = DistinguishedName::new();
            name.push(DnType::CommonName, DnValue::Utf8String(user.to_owned()));
            assert_eq!(refusal(name), CertificateError::Name, "{user:?}");
        }
    }

    #[test]
    fn a_bad_group_is_not_left_out_but_refused() {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "alice");
        name.push(DnType::OrganizationName, "ops\r");
        assert_eq!(refusal(name), CertificateError::Name);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_certificate_or_not(bytes in any::<Vec<u8>>()) {
            let refused = subject(&CertificateDer::from(bytes), Timestamp::UNIX_EPOCH);
            prop_assert_eq!(refused, Err(CertificateError::Unreadable));
        }
    }
}
