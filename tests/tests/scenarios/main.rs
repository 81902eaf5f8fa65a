//! What pods get, what they are told, and what goes on when parts die: one idea a module.

mod agent_dies;
mod controller_dies;
mod first_pod;
mod force_delete;
mod fractions;
mod gates;
mod giving_up;
mod gpu_operator;
mod groups;
mod kubelet_restarts;
mod left_alone;
mod nvml_faults;
mod pods_leave;
mod refusals;
mod reuse;
mod shapes;
mod status;
mod waiting;
mod webhook;
mod where_to;
mod whole_gpus;
