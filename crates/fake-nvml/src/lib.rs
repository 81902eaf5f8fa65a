//! A stand-in libnvidia-ml.so.1 that behaves as MIG hardware does.
