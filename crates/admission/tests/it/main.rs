//! The webhook as the API server calls it: manifests in, what is stored out.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod envelope;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod limits_first;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod queues;
#[cfg(test)]
mod server;
#[cfg(test)]
mod templates;
