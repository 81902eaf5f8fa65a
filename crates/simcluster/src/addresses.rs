//! Addresses of pods: those that run as processes get one of the cluster's loopback network, so that
//! fixed ports never clash; simulated ones get a number that nobody listens on.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

/// Gives out addresses. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    network: [u8; 3],
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    used: BTreeSet<u8>,
    simulated: u32,
}

impl Addresses {
    /// Addresses of `a.b.c.0/24` but for .0, .1 (the API server) and .255.
    pub(crate) fn new(network: [u8; 3]) -> Self {
        Self {
            network,
            state: Arc::default(),
        }
    }

    /// An address that can be listened on; none if all are taken.
    pub(crate) fn take(&self) -> Option<Ipv4Addr> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (2..=254).find(|last| !state.used.contains(last))?;
        state.used.insert(free);
        let [a, b, c] = self.network;
        Some(Ipv4Addr::new(a, b, c, free))
    }

    /// An address that only looks like one.
    pub(crate) fn simulated(&self) -> Ipv4Addr {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.simulated = (state.simulated + 1) % (1 << 16);
        let [_, _, high, low] = state.simulated.to_be_bytes();
        Ipv4Addr::new(10, 244, high, low)
    }

    /// Gives an address back; any other text is ignored.
    pub(crate) fn release(&self, address: &str) {
        let Ok(address) = address.parse::<Ipv4Addr>() else {
            return;
        };
        let [a, b, c, last] = address.octets();
        if [a, b, c] == self.network {
            self.state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .used
                .remove(&last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_out_once_until_it_comes_back() {
        let addresses = Addresses::new([127, 9, 9]);
        let all: BTreeSet<Ipv4Addr> = std::iter::from_fn(|| addresses.take()).collect();
        assert_eq!(all.len(), 253);
        addresses.release("10.244.0.7");
        addresses.release("127.9.9.77");
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(127, 9, 9, 77)));
        assert_eq!(addresses.take(), None);
    }
}
