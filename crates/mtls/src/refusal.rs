//! Why a handshake failed, in words for the person who reads the log.
//!
//! In TLS 1.3 the client believes the handshake done before the server has looked at the client's
//! certificate; the server's verdict then arrives as an alert. Both cases end up here.

use std::{error::Error as StdError, fmt, io, time::Duration};

use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::UnixTime;

/// Which side of the connection this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We connected to a server.
    Client,
    /// A client connected to us.
    Server,
}

impl Side {
    fn peer(self) -> &'static str {
        match self {
            Self::Client => "server",
            Self::Server => "client",
        }
    }
}

/// A connection that came to nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which side we are.
    pub side: Side,
    /// The other side's address.
    pub peer: String,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The peer's certificate was not issued by our CA.
    PeerUnknownIssuer,
    /// The peer's certificate expired at that moment.
    PeerExpired(String),
    /// The peer's certificate is valid only from that moment on.
    PeerNotYetValid(String),
    /// The peer's certificate is for other names.
    PeerWrongName {
        /// The name that was asked for.
        expected: String,
        /// The names that the certificate is for.
        presented: Vec<String>,
    },
    /// The peer's certificate is not for this role (its extended key usage says so).
    PeerWrongPurpose,
    /// The peer showed no certificate.
    PeerWithoutCertificate,
    /// The peer's certificate is bad in another way.
    PeerBadCertificate(String),
    /// The peer refused our certificate: it has expired.
    OursExpired,
    /// The peer refused our certificate: it was not issued by the peer's CA.
    OursUnknownIssuer,
    /// The peer refused our certificate: it is not for the name or the role that the peer expects.
    OursWrongName,
    /// The peer refused us with another alert.
    Alert(String),
    /// The peer does not speak TLS, or no version of it that we speak.
    NotTls(String),
    /// The handshake was not done in this time.
    TimedOut(Duration),
    /// The peer closed the connection.
    Closed,
    /// The connection could not be made, or broke.
    Io(io::ErrorKind, String),
}

impl Reason {
    /// Reads the reason out of what tokio-rustls returns.
    pub(crate) fn from_io(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) => Self::from_tls(tls),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Io(error.kind(), error.to_string()),
        }
    }

    fn from_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(certificate) => Self::from_certificate(certificate),
            rustls::Error::NoCertificatesPresented => Self::PeerWithoutCertificate,
            rustls::Error::AlertReceived(alert) => Self::from_alert(*alert),
            rustls::Error::InvalidMessage(_)
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::NoApplicationProtocol => Self::NotTls(error.to_string()),
            other => Self::PeerBadCertificate(other.to_string()),
        }
    }

    fn from_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::PeerUnknownIssuer
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::PeerExpired(date(*not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::PeerNotYetValid(date(*not_before))
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => Self::PeerWrongName {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().map(|name| plain(name)).collect(),
            },
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::PeerWrongPurpose
            }
            other => Self::PeerBadCertificate(other.to_string()),
        }
    }

    fn from_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Self::OursExpired,
            AlertDescription::UnknownCA | AlertDescription::DecryptError => Self::OursUnknownIssuer,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied => Self::OursWrongName,
            AlertDescription::ProtocolVersion | AlertDescription::NoApplicationProtocol => {
                Self::NotTls(format!("the peer answered with the alert {alert:?}"))
            }
            other => Self::Alert(format!("{other:?}")),
        }
    }

    /// Whether a person must do something, as opposed to a peer that is away or merely probes.
    pub fn is_about_certificates(&self) -> bool {
        !matches!(
            self,
            Self::NotTls(_) | Self::TimedOut(_) | Self::Closed | Self::Io(..)
        )
    }

    /// A bounded word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::PeerUnknownIssuer => "peer_unknown_issuer",
            Self::PeerExpired(_) => "peer_expired",
            Self::PeerNotYetValid(_) => "peer_not_yet_valid",
            Self::PeerWrongName { .. } => "peer_wrong_name",
            Self::PeerWrongPurpose => "peer_wrong_purpose",
            Self::PeerWithoutCertificate => "peer_without_certificate",
            Self::PeerBadCertificate(_) => "peer_bad_certificate",
            Self::OursExpired => "ours_expired",
            Self::OursUnknownIssuer => "ours_unknown_issuer",
            Self::OursWrongName => "ours_wrong_name",
            Self::Alert(_) => "alert",
            Self::NotTls(_) => "not_tls",
            Self::TimedOut(_) => "timed_out",
            Self::Closed => "closed",
            Self::Io(..) => "io",
        }
    }
}

impl Refusal {
    /// Finds the refusal in an error and its sources; tonic and hyper wrap several layers around it.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(refusal) = error.downcast_ref::<Self>() {
                return Some(refusal);
            }
            // An `io::Error` does not name the error inside it as its source.
            next = match error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref)
            {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }
}

impl StdError for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, peer, reason } = self;
        let who = side.peer();
        match reason {
            Reason::PeerUnknownIssuer => write!(
                f,
                "the certificate of the {who} at {peer} was not issued by our CA; give both sides \
                 certificates of the same CA"
            ),
            Reason::PeerExpired(on) => write!(
                f,
                "the certificate of the {who} at {peer} expired on {on}; renew the {who}'s \
                 certificate"
            ),
            Reason::PeerNotYetValid(from) => write!(
                f,
                "the certificate of the {who} at {peer} is not valid before {from}; check the \
                 clocks of both machines"
            ),
            Reason::PeerWrongName {
                expected,
                presented,
            } => write!(
                f,
                "the certificate of the {who} at {peer} is for {}, not for {expected}; give the \
                 {who} a certificate for {expected}",
                if presented.is_empty() {
                    "no name".to_owned()
                } else {
                    presented.join(", ")
                }
            ),
            Reason::PeerWrongPurpose => write!(
                f,
                "the certificate of the {who} at {peer} is not meant for a {who}; issue one with \
                 the extended key usage of a {who}"
            ),
            Reason::PeerWithoutCertificate => write!(
                f,
                "the {who} at {peer} showed no certificate; only the holder of a certificate of \
                 our CA may connect"
            ),
            Reason::PeerBadCertificate(why) => {
                write!(f, "the {who} at {peer} could not be authenticated: {why}")
            }
            Reason::OursExpired => write!(
                f,
                "the {who} at {peer} refused our certificate: it has expired, or one of the two \
                 clocks is wrong; renew our certificate"
            ),
            Reason::OursUnknownIssuer => write!(
                f,
                "the {who} at {peer} refused our certificate: it was not issued by the {who}'s CA; \
                 give both sides certificates of the same CA"
            ),
            Reason::OursWrongName => write!(
                f,
                "the {who} at {peer} refused our certificate: it is not for the name or the role \
                 that the {who} expects; check which Secret is mounted here"
            ),
            Reason::Alert(alert) => {
                write!(
                    f,
                    "the {who} at {peer} refused the connection with the TLS alert {alert}"
                )
            }
            Reason::NotTls(why) => write!(
                f,
                "the {who} at {peer} does not speak our kind of TLS ({why}); check the address and \
                 the port"
            ),
            Reason::TimedOut(after) => write!(
                f,
                "the {who} at {peer} did not finish the TLS handshake within {after:?}; check that \
                 it is up and reachable"
            ),
            Reason::Closed => write!(
                f,
                "the {who} at {peer} closed the connection during the TLS handshake; its log says \
                 why"
            ),
            Reason::Io(_, why) => write!(f, "failed to connect to the {who} at {peer}: {why}"),
        }
    }
}

/// `DnsName("a.example")`, as rustls prints a name, without its dressing.
fn plain(name: &str) -> String {
    name.split('"').nth(1).unwrap_or(name).to_owned()
}

/// A moment as RFC 3339 text.
pub(crate) fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(
            || "a date out of range".to_owned(),
            |timestamp| timestamp.to_string(),
        )
}
