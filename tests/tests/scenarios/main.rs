//! What pods get, one idea a module.

mod first_pod;
