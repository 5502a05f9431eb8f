//! The environment that the agent gave this process, taken while there is one thread.
#![expect(unsafe_code, reason = "a secret is overwritten where the kernel put it")]

use std::ffi::CString;

use crate::agent::environment::{TOKEN, Variables};

/// Reads all variables, and erases the secret one: from the environment that children would inherit, and from the memory
/// that `/proc/<pid>/environ` shows. A variable that is not UTF-8 is left out, as none of Mesos's is.
///
/// To be called before there is a second thread.
pub fn take() -> Variables {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let variables = std::env::vars_os().filter_map(text).collect();
    erase();
    variables
}

fn erase() {
    let Ok(name) = CString::new(TOKEN) else { return };
    // SAFETY: this process has one thread, so nobody changes the environment meanwhile; the value is a writable string that
    // ends with a zero byte, in the block that the kernel made at execve, and only bytes before that end are written.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            let length = libc::strlen(value);
            (0..length).for_each(|index| value.add(index).write_volatile(0));
        }
        std::env::remove_var(TOKEN);
    }
}
