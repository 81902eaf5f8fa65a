//! The crate from outside, on the simulated driver: same loading, same calls as on a real node.

#[cfg(test)]
mod destroying;
#[cfg(test)]
mod events;
#[cfg(test)]
mod halves;
#[cfg(test)]
mod life;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod models;
#[cfg(test)]
mod modes;
#[cfg(test)]
mod processes;
