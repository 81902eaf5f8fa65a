//! The world against a small cluster that is played here: an API server that applies patches, and
//! agents that do as they are told.

mod bench;
mod crowd;
mod faults;
mod fractions;
mod gates;
mod groups;
mod parking;
mod refusals;
mod replaying;
mod report;
mod serving;
mod starting;
mod status;
mod taking;
mod what_if;
mod windows;
mod withdrawing;
