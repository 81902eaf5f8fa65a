//! The MIG model: profiles, placements and layouts, without I/O.
