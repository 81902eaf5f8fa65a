//! What every daemon of ours serves and logs: health, metrics, tracing, shutdown.
