//! The cdylib through its C ABI, called by bindings that others generated from `nvml.h`.
#![allow(unsafe_code, reason = "a C ABI is called")]

#[cfg(test)]
mod library {
    mod client;

    mod devices;
    mod events;
    mod faults;
    mod hosts;
    mod instances;
    mod processes;
    mod symbols;
}
