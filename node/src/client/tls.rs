//! Whom a client trusts: the cluster's CA and nobody else.

use std::sync::Arc;

use super::ClientError;
use crate::pki;

/// Trusts the CA in `ca_pem` and offers the given protocols.
///
/// # Errors
/// When the text holds no certificate.
pub fn config(ca_pem: &str, alpn: &[&[u8]]) -> Result<rustls::ClientConfig, ClientError> {
    let setup = |error: String| ClientError::Setup(format!("The CA of the cluster is not usable: {error}"));
    let roots = pki::roots_from_pem(ca_pem.as_bytes()).map_err(|error| setup(error.to_string()))?;
    let builder = rustls::ClientConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(error.to_string()))?;
    let mut config = builder.with_root_certificates(Arc::new(roots)).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}
