//! The frame around every exported function.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::Code;
use crate::session::{Call, Session};

/// NVML counts initialisations per process: the library of the process is its session.
struct Library {
    initialised: u32,
    session: Option<Arc<Session>>,
}

static LIBRARY: Mutex<Library> = Mutex::new(Library {
    initialised: 0,
    session: None,
});

fn library() -> std::sync::MutexGuard<'static, Library> {
    LIBRARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `job` so that whatever happens in it, C gets a return code.
pub(super) fn caught(job: impl FnOnce() -> Result<(), Code>) -> u32 {
    match std::panic::catch_unwind(AssertUnwindSafe(job)) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(_) => Code::UNKNOWN.0,
    }
}

/// Runs the body of an exported function that needs an initialised library.
pub(super) fn run(name: &'static str, job: impl FnOnce(&Call) -> Result<(), Code>) -> u32 {
    caught(|| {
        let session = library().session.clone().ok_or(Code::UNINITIALIZED)?;
        job(&Call { name, session })
    })
}

/// Initialises the library once more. Only the first time opens the host.
pub(super) fn initialise(
    name: &'static str,
    open: impl FnOnce() -> Result<Session, Code>,
) -> Result<(), Code> {
    let mut library = library();
    let session = match &library.session {
        Some(session) => Arc::clone(session),
        None => Arc::new(open()?),
    };
    Call {
        name,
        session: Arc::clone(&session),
    }
    .read(None, |_, _| Ok(()))?;
    library.session = Some(session);
    library.initialised += 1;
    Ok(())
}

/// Takes one initialisation back; the last one closes the host.
pub(super) fn shut_down() -> Result<(), Code> {
    let mut library = library();
    library.initialised = library
        .initialised
        .checked_sub(1)
        .ok_or(Code::UNINITIALIZED)?;
    if library.initialised == 0 {
        library.session = None;
    }
    Ok(())
}

/// Exports functions. The first name in the parentheses is the [`Call`]; a body gives
/// `Result<(), Code>`.
macro_rules! exports {
    ($($(#[$doc:meta])* fn $name:ident($call:ident $(, $arg:ident: $kind:ty)* $(,)?) $body:block)*) => {
        $(
            $(#[$doc])*
            // SAFETY: nothing else in a process with this library has the name: it stands in for
            // the library that has it.
            #[unsafe(no_mangle)]
            extern "C" fn $name($($arg: $kind),*) -> u32 {
                $crate::ffi::guard::run(stringify!($name), move |$call| $body)
            }
        )*
    };
}

pub(super) use exports;
