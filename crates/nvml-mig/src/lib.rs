//! Safe MIG life cycle over NVML.
