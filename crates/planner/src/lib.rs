//! Turns cluster state and demands into plans, and explains them.
