//! Mutual TLS from outside: certificates made on the spot, real sockets, both sides looked at.

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod reloading;
#[cfg(test)]
mod support;
