//! The whole system under test: scenarios that start the embedded cluster with agents and the
//! controller as processes of their own, put pods in, break things, and watch what comes of it.
//!
//! The package holds what scenarios share; each file under `tests/` is one idea. A scenario says
//! what hosts there are and what happens; that no promise of the design was broken meanwhile is
//! watched all along, by looking at what the kubelets, the API and the driver say of themselves.
