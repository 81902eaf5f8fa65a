//! What the library exports.

use std::ffi::CStr;

use fake_nvml::calls::CALLS;
use fake_nvml::testing::built_library;

use super::client::{Machine, UNINITIALIZED, nvml};

#[test]
fn every_call_that_a_fault_can_name_is_exported() {
    let library = built_library().unwrap();
    // SAFETY: loading the library runs no code of its own.
    let library = unsafe { libloading::Library::new(library) }.unwrap();
    for name in CALLS {
        // SAFETY: the symbol is looked up and not used.
        let found = unsafe { library.get::<*const ()>(name.as_bytes()) };
        assert!(found.is_ok(), "{name}");
    }
}

#[test]
fn nothing_answers_before_init_and_codes_have_sentences() {
    let client = Machine::new("").cold_client();
    assert_eq!(client.count(), Err(UNINITIALIZED));
    assert_eq!(client.shutdown(), Err(UNINITIALIZED));
    let sentence = |code| {
        let text = nvml!(client, nvmlErrorString(code));
        // SAFETY: NVML's sentences are static strings.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap()
    };
    assert_eq!(sentence(0), "Success");
    assert_eq!(sentence(19), "In use by another client");
    assert_eq!(sentence(23), "Insufficient Resources");
    assert_eq!(sentence(4711), "Unknown Error");
}
