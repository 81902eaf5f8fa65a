//! Initialisation, and what concerns the host as a whole.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::ffi::guard::{caught, exports, initialise, shut_down};
use crate::ffi::pointers::{Out, TextOut};
use crate::model::{Code, code};
use crate::session::{Session, report};

/// Environment variable that names the configuration.
const CONFIG: &str = "FAKE_NVML_CONFIG";
/// Configuration beside the library file.
const BESIDE: &str = "fake-nvml.toml";

fn open() -> Result<Session, Code> {
    let config = std::env::var_os(CONFIG)
        .filter(|named| !named.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(own_file()?.parent()?.join(BESIDE)).filter(|path| path.exists()));
    Session::open(config.as_deref()).map_err(report)
}

/// The file from which this library was loaded.
fn own_file() -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let inside: *const c_void = std::ptr::from_ref(&BESIDE).cast();
    // SAFETY: the address lies in this library, and `info` is writable.
    let found = unsafe { libc::dladdr(inside, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: `dladdr` succeeded, so this is a string that lives as long as the library.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(std::ffi::OsStr::from_bytes(name.to_bytes()).into())
}

macro_rules! initialisers {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty)?);)*) => {
        $(
            $(#[$doc])*
            // SAFETY: as for every name in this library, see `exports!`.
            #[unsafe(no_mangle)]
            extern "C" fn $name($($arg: $kind)?) -> u32 {
                caught(|| initialise(stringify!($name), open))
            }
        )*
    };
}

initialisers! {
    fn nvmlInit();
    fn nvmlInit_v2();
    fn nvmlInitWithFlags(_flags: u32);
}

// SAFETY: as for every name in this library, see `exports!`.
#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> u32 {
    caught(shut_down)
}

// SAFETY: as for every name in this library, see `exports!`.
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: u32) -> *const c_char {
    code::sentence(result).as_ptr()
}

exports! {
    fn nvmlSystemGetDriverVersion(call, version: TextOut, length: u32) {
        version.set(length, &call.read(None, |hardware, _| Ok(hardware.driver_version.clone()))?)
    }

    fn nvmlSystemGetNVMLVersion(call, version: TextOut, length: u32) {
        let driver = call.read(None, |hardware, _| Ok(hardware.driver_version.clone()))?;
        let cuda = call.session.hardware.cuda_version / 1000;
        version.set(length, &format!("{cuda}.{driver}"))
    }

    fn nvmlSystemGetCudaDriverVersion(call, version: Out<c_int>) {
        version.set(call.read(None, |hardware, _| Ok(hardware.cuda_version))?)
    }

    fn nvmlSystemGetCudaDriverVersion_v2(call, version: Out<c_int>) {
        version.set(call.read(None, |hardware, _| Ok(hardware.cuda_version))?)
    }

    fn nvmlSystemGetProcessName(call, pid: u32, name: TextOut, length: u32) {
        let found = call.read(None, |_, state| {
            let mut all = state.gpus.iter().flat_map(|gpu| &gpu.processes);
            let process = all.find(|process| process.pid == pid).ok_or(Code::NOT_FOUND)?;
            Ok(process.name.clone())
        })?;
        name.set(length, &found)
    }
}
