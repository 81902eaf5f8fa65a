//! Mutual TLS from certificate files that may change while the process runs.
