//! The cluster's own certificate authority, the certificates of its nodes, and who a certificate
//! says its bearer is.
//!
//! A cluster trusts its own CA and no other. A node's certificate carries the DNS name
//! `n<id>.<cluster id>.stakehold`, which is what makes it a member in the eyes of its peers, and
//! the host names and addresses under which clients reach it. What must never live here: file
//! names, sockets.

use std::{net::IpAddr, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use stakehold_raft::NodeId;

use crate::identity::ClusterId;

/// How long certificates are valid. They are replaced by `init`-like tools long before.
const VALID_YEARS: i32 = 10;
/// Host names every node's certificate is valid for, so that a laptop needs no configuration.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What is wrong with keys and certificates, as a sentence with the next step.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{0:?} is not a host name or an IP address that a certificate can carry.")]
    HostName(String),
    #[error("{what} holds no {kind} in PEM form; `stakehold init` writes one.")]
    Pem { what: &'static str, kind: &'static str },
    #[error("The node's certificate was not issued by this cluster's CA for {expected} ({reason}).")]
    NotOurs { expected: String, reason: String },
    #[error("Making a certificate failed: {0}.")]
    Issue(String),
}

/// The name in the certificate of a node: its membership.
pub fn node_name(node: NodeId, cluster: ClusterId) -> String {
    format!("{node}.{cluster}.stakehold")
}

/// The one crypto provider of this program: ring, which needs nothing but a C compiler. AES-128
/// comes first: the mesh encrypts everything, and its messages are short.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|s| s.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// A certificate authority that can issue certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cluster: ClusterId,
    /// The CA's certificate: what nodes and clients trust.
    pub cert_pem: String,
    /// The CA's key. Whoever has it can add nodes; running nodes do not need it.
    pub key_pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// A node's certificate and key.
#[derive(Clone)]
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

fn validity(params: &mut CertificateParams, now_ms: u64) {
    // One day back, for clocks that disagree; whole years are all the calendar this needs.
    let start = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_millis(now_ms.saturating_sub(86_400_000));
    params.not_before = start;
    params.not_after = start + std::time::Duration::from_hours(24 * 365 * VALID_YEARS as u64);
}

fn named(name: String) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    dn.push(DnType::OrganizationName, "Stakehold");
    dn.push(DnType::CommonName, name);
    dn
}

impl Authority {
    /// A new CA for a new cluster. `now_ms` is the wall clock.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn create(cluster: ClusterId, now_ms: u64) -> Result<Self, PkiError> {
        let issue = |e: rcgen::Error| PkiError::Issue(e.to_string());
        let mut params = CertificateParams::default();
        params.distinguished_name = named(format!("{cluster} CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, now_ms);
        let key = KeyPair::generate().map_err(issue)?;
        let cert_pem = params.self_signed(&key).map_err(issue)?.pem();
        let key_pem = key.serialize_pem();
        Ok(Self { issuer: Issuer::new(params, key), cluster, cert_pem, key_pem })
    }

    /// A certificate for a node, for mutual TLS between nodes and for serving clients under
    /// `hosts` (DNS names or addresses) and the local names.
    ///
    /// # Errors
    /// When a host is neither a DNS name nor an address.
    pub fn issue(&self, node: NodeId, hosts: &[String], now_ms: u64) -> Result<Issued, PkiError> {
        let mut names = vec![node_name(node, self.cluster)];
        names.extend(LOCAL_NAMES.map(String::from));
        for host in hosts {
            if host.parse::<IpAddr>().is_err() && ServerName::try_from(host.as_str()).is_err() {
                return Err(PkiError::HostName(host.clone()));
            }
            if !names.contains(host) {
                names.push(host.clone());
            }
        }
        let issue = |e: rcgen::Error| PkiError::Issue(e.to_string());
        let mut params = CertificateParams::new(names).map_err(issue)?;
        params.distinguished_name = named(format!("{node} of {}", self.cluster));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        validity(&mut params, now_ms);
        let key = KeyPair::generate().map_err(issue)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(issue)?;
        Ok(Issued { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

/// What a running node proves itself with.
pub struct Credentials {
    /// The cluster's CA.
    pub roots: Arc<RootCertStore>,
    /// The node's certificate, then intermediates, if any.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self { roots: self.roots.clone(), chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// Reads the CA's certificate(s): what a client trusts.
///
/// # Errors
/// When there is none in the text.
pub fn roots_from_pem(ca_pem: &[u8]) -> Result<RootCertStore, PkiError> {
    let missing = || PkiError::Pem { what: "The CA file", kind: "certificate" };
    let certs = certificates(ca_pem).ok_or_else(missing)?;
    let mut roots = RootCertStore::empty();
    for cert in certs {
        roots.add(cert).map_err(|_| missing())?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!certs.is_empty()).then_some(certs)
}

impl Credentials {
    /// # Errors
    /// When a text holds no certificate or no key.
    pub fn from_pem(ca_pem: &[u8], cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, PkiError> {
        Ok(Self {
            roots: Arc::new(roots_from_pem(ca_pem)?),
            chain: certificates(cert_pem)
                .ok_or(PkiError::Pem { what: "The node's certificate file", kind: "certificate" })?,
            key: PrivateKeyDer::from_pem_slice(key_pem)
                .map_err(|_| PkiError::Pem { what: "The node's key file", kind: "private key" })?,
        })
    }

    /// Checks that peers will accept this certificate as the given node's, so that a mix-up is
    /// found at the start and not in their logs.
    ///
    /// # Errors
    /// When it was issued by another CA, for another node or cluster, or is not valid now.
    pub fn check(&self, node: NodeId, cluster: ClusterId, now_ms: u64) -> Result<(), PkiError> {
        let expected = node_name(node, cluster);
        let not_ours = |reason: String| PkiError::NotOurs { expected: expected.clone(), reason };
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(|e| not_ours(e.to_string()))?;
        let name = ServerName::try_from(expected.clone()).map_err(|e| not_ours(e.to_string()))?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(now_ms));
        verifier
            .verify_server_cert(&self.chain[0], &self.chain[1..], &name, &[], now)
            .map(drop)
            .map_err(|e| not_ours(e.to_string()))
    }
}

/// Whether a certificate (already verified against the cluster's CA) is the given node's.
pub fn certifies(cert: &CertificateDer<'_>, node: NodeId, cluster: ClusterId) -> bool {
    let Ok(name) = ServerName::try_from(node_name(node, cluster)) else { return false };
    webpki::EndEntityCert::try_from(cert).is_ok_and(|c| c.verify_is_valid_for_subject_name(&name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    fn credentials(ca: &Authority, trust: &Authority, node: u16) -> Credentials {
        let issued = ca.issue(NodeId(node), &["bets.example.org".into()], NOW).unwrap();
        Credentials::from_pem(trust.cert_pem.as_bytes(), issued.cert_pem.as_bytes(), issued.key_pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_certificate_is_one_nodes_of_one_cluster() {
        let (one, two) = (ClusterId(1), ClusterId(2));
        let ca = Authority::create(one, NOW).unwrap();
        let other = Authority::create(two, NOW).unwrap();
        let ours = credentials(&ca, &ca, 1);
        ours.check(NodeId(1), one, NOW).unwrap();
        let cases = [
            (ours.clone(), NodeId(2), one, NOW),
            (ours.clone(), NodeId(1), two, NOW),
            (ours.clone(), NodeId(1), one, NOW - 3 * 86_400_000),
            (ours.clone(), NodeId(1), one, NOW + 11 * 365 * 86_400_000),
            (credentials(&other, &ca, 1), NodeId(1), one, NOW),
        ];
        for (i, (cert, node, cluster, now)) in cases.into_iter().enumerate() {
            let error = cert.check(node, cluster, now).unwrap_err().to_string();
            assert!(error.contains(&node_name(node, cluster)), "case {i}: {error}");
        }
        assert!(certifies(&ours.chain[0], NodeId(1), one));
        assert!(!certifies(&ours.chain[0], NodeId(11), one));
        assert!(!certifies(&ours.chain[0], NodeId(1), two));
    }

    #[test]
    fn clients_may_use_local_and_configured_names() {
        let ca = Authority::create(ClusterId(1), NOW).unwrap();
        let cert = credentials(&ca, &ca, 1).chain.remove(0);
        let cert = webpki::EndEntityCert::try_from(&cert).unwrap();
        for name in ["localhost", "127.0.0.1", "::1", "bets.example.org"] {
            cert.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).expect(name);
        }
        assert!(cert.verify_is_valid_for_subject_name(&ServerName::try_from("example.org").unwrap()).is_err());
    }

    #[test]
    fn what_is_not_a_key_or_a_host_is_said() {
        let ca = Authority::create(ClusterId(1), NOW).unwrap();
        let error = ca.issue(NodeId(1), &["no spaces".into()], NOW).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"no spaces\" is not a host name or an IP address that a certificate can carry."
        );
        let issued = ca.issue(NodeId(1), &[], NOW).unwrap();
        let (ca, cert, key) = (ca.cert_pem.as_bytes(), issued.cert_pem.as_bytes(), issued.key_pem.as_bytes());
        for (ca, cert, key, says) in [
            (b"" as &[u8], cert, key, "The CA file holds no certificate"),
            (ca, key, key, "The node's certificate file holds no certificate"),
            (ca, cert, cert, "The node's key file holds no private key"),
        ] {
            let error = Credentials::from_pem(ca, cert, key).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
