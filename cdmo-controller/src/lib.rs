//! The cluster's controller: watches pods, nodes and agents, plans, and drives the agents.
