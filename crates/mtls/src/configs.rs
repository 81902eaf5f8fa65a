//! From parsed files to the two rustls configurations, refusing files that no peer would accept.
//!
//! Checking our own certificate here turns a riddle at the first connection (or, for a server, in
//! the other side's log) into a sentence at start.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, InconsistentKeys,
    RootCertStore, ServerConfig, SignatureScheme,
    client::{Resumption, danger::HandshakeSignatureValid, verify_server_name},
    crypto::{CryptoProvider, ring},
    server::{
        NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    CLIENT_NAME,
    error::{Error, Part},
    files::{Parsed, TlsFiles},
    refusal::date,
};

/// The only application protocol between controller and agents: gRPC is HTTP/2.
const ALPN: &[u8] = b"h2";
/// The only application protocol of the webhook: API servers ask webhooks for no other
/// (k8s.io/apiserver/pkg/util/webhook/client.go).
const HTTP_ALPN: &[u8] = b"http/1.1";

/// Configurations for all roles; which one is used is the caller's affair.
#[derive(Debug)]
pub(crate) struct Configs {
    pub(crate) server: Arc<ServerConfig>,
    /// A server that asks nobody for a certificate.
    pub(crate) open: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Configs {
    pub(crate) fn build(files: &TlsFiles, parsed: Parsed) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let unusable = |part, source| {
            let path = match part {
                Part::Ca => files.ca.clone(),
                Part::Certificate => files.cert.clone(),
                Part::Key => files.key.clone(),
            };
            Error::Unusable { part, path, source }
        };

        let mut roots = RootCertStore::empty();
        for authority in &parsed.authorities {
            roots
                .add(authority.clone())
                .map_err(|source| unusable(Part::Ca, source))?;
        }
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| unusable(Part::Ca, rustls::Error::General(error.to_string())))?;

        judge(files, &parsed.chain, &roots, clients.as_ref(), &provider)?;
        check_key(files, &parsed, &provider)?;

        let versions = &[&TLS13, &TLS12];
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|source| unusable(Part::Certificate, source))?
            .with_client_cert_verifier(Arc::new(OnlyTheController { inner: clients }))
            .with_single_cert(parsed.chain.clone(), parsed.key.clone_key())
            .map_err(|source| unusable(Part::Certificate, source))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let mut open = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|source| unusable(Part::Certificate, source))?
            .with_no_client_auth()
            .with_single_cert(parsed.chain.clone(), parsed.key.clone_key())
            .map_err(|source| unusable(Part::Certificate, source))?;
        open.alpn_protocols = vec![HTTP_ALPN.to_vec()];
        open.session_storage = Arc::new(NoServerSessionStorage {});
        open.send_tls13_tickets = 0;

        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|source| unusable(Part::Certificate, source))?
            .with_root_certificates(roots)
            .with_client_auth_cert(parsed.chain, parsed.key)
            .map_err(|source| unusable(Part::Certificate, source))?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();

        Ok(Self {
            server: Arc::new(server),
            open: Arc::new(open),
            client: Arc::new(client),
        })
    }
}

/// Would a peer with the same CA accept our certificate, in either role?
fn judge(
    files: &TlsFiles,
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    clients: &dyn ClientCertVerifier,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Ok(());
    };
    let now = UnixTime::now();
    let as_client = clients
        .verify_client_cert(leaf, intermediates, now)
        .map(|_| ());
    let as_server = ParsedCertificate::try_from(leaf).and_then(|leaf| {
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &leaf,
            roots,
            intermediates,
            now,
            provider.signature_verification_algorithms.all,
        )
    });
    let (Err(as_client), Err(as_server)) = (as_client, as_server) else {
        return Ok(());
    };
    // A certificate for one role fails in the other one by its purpose; the better reason counts.
    let worse = if is_purpose(&as_client) {
        as_server
    } else {
        as_client
    };
    let path = files.cert.clone();
    Err(match worse {
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
            not_after, ..
        }) => Error::Expired {
            path,
            on: date(not_after),
        },
        rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before,
            ..
        }) => Error::NotYetValid {
            path,
            from: date(not_before),
        },
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Error::WrongCa {
            path,
            ca: files.ca.clone(),
        },
        source => Error::Unusable {
            part: Part::Certificate,
            path,
            source,
        },
    })
}

fn is_purpose(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
        )
    )
}

fn check_key(files: &TlsFiles, parsed: &Parsed, provider: &CryptoProvider) -> Result<(), Error> {
    let mismatch = || Error::KeyMismatch {
        key: files.key.clone(),
        path: files.cert.clone(),
    };
    let key = provider
        .key_provider
        .load_private_key(parsed.key.clone_key())
        .map_err(|source| Error::Unusable {
            part: Part::Key,
            path: files.key.clone(),
            source,
        })?;
    match CertifiedKey::new(parsed.chain.clone(), key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(_) => Err(mismatch()),
    }
}

/// Lets in the holder of [`CLIENT_NAME`] and nobody else: agents have certificates of the same CA,
/// and one agent must not be able to command another one.
#[derive(Debug)]
struct OnlyTheController {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for OnlyTheController {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        let expected = ServerName::try_from(CLIENT_NAME)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, &expected)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
