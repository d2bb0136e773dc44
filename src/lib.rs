//! The bridge between ExecuTorch's C++ runtime and the Rust delegate: `mod ffi` is the whole contract.
//!
//! Every function returns a plain `ffi::Status`; no panic and no exception crosses the boundary.

mod convert;
mod guard;
mod log;
mod totals;

use std::pin::Pin;

use convert::Delegate;
use guard::{Failure, guard, ok};

#[cxx::bridge(namespace = "etwgpu")]
#[allow(unreachable_pub, reason = "cxx makes every item of the bridge public")]
mod ffi {
    /// Outcome of a call: an ExecuTorch `Error` code (0 is Ok) and, when it is not, what went wrong.
    struct Status {
        code: u32,
        message: String,
    }

    /// A freshly loaded delegate, or the reason why there is none.
    struct Loaded {
        status: Status,
        delegate: Box<Delegate>,
    }

    /// One key and its bytes: a compile spec of the program, or a load-time option as text.
    struct Spec<'a> {
        key: &'a str,
        value: &'a [u8],
    }

    /// Kind of an argument of `execute`.
    #[repr(u8)]
    enum ArgKind {
        Tensor,
        Int,
        Other,
    }

    /// An argument of `execute`: a tensor without gaps or an integer.
    struct ArgView {
        kind: ArgKind,
        /// ExecuTorch `ScalarType` of a tensor.
        scalar_type: i8,
        rank: usize,
        /// Address of `rank` int32 sizes.
        sizes: usize,
        /// Address of `rank` dimensions, outermost in memory first; null for row-major order.
        order: usize,
        /// Address of the elements; the runtime keeps them alive and unshared for the call.
        data: usize,
        nbytes: usize,
        /// Value of an integer.
        int_value: i64,
    }

    /// What all runs of the process have done; see `etwgpu_totals` in `include/executorch_wgpu.h`.
    struct Totals {
        runs: u64,
        dispatches: u64,
        submits: u64,
        uploads: u64,
        idle_ns: u64,
        spun_ns: u64,
    }

    /// What the observer of a call wants to be told.
    struct Watch {
        /// Spans of time.
        spans: bool,
        /// Intermediate tensors.
        values: bool,
    }

    unsafe extern "C++" {
        include!("executorch_wgpu_call.h");
        type Call;
        fn size(self: &Call) -> usize;
        fn arg(self: &Call, index: usize) -> ArgView;
        fn resize(self: Pin<&mut Call>, index: usize, sizes: &[i32]) -> bool;
        fn set_int(self: Pin<&mut Call>, index: usize, value: i64);
        fn watch(self: &Call) -> Watch;
        fn span(self: Pin<&mut Call>, name: &str, start: u64, end: u64, metadata: &str);
        fn value(self: Pin<&mut Call>, node: u32, scalar_type: i8, sizes: &[i32], data: &[u8]);

        type NamedData;
        fn acquire(self: Pin<&mut NamedData>, key: &str) -> &[u8];
        fn release(self: Pin<&mut NamedData>);

        /// Writes one line to ExecuTorch's logger; `level` is `log::Level` as a number, 1 = error … 5 = trace.
        fn write_log(level: u8, target: &str, message: &str);
    }

    extern "Rust" {
        type Delegate;
        /// Whether a usable GPU adapter exists; probed once.
        fn is_available() -> bool;
        /// Builds a delegate from the processed bytes of a program.
        fn init(
            processed: &[u8],
            compile_specs: &[Spec],
            options: &[Spec],
            named: Pin<&mut NamedData>,
        ) -> Loaded;
        /// Runs the delegate once: inputs are read from `call`, outputs resized and written into it.
        fn execute(delegate: &mut Delegate, call: Pin<&mut Call>) -> Status;
        /// Releases the delegate and its GPU memory.
        fn destroy(delegate: Box<Delegate>);
        /// Sets a process-wide option; the value is text.
        fn set_option(key: &str, value: &str) -> Status;
        /// Reads a process-wide option as text into `value`.
        fn get_option(key: &str, value: &mut String) -> Status;
        /// JSON description of the adapter that delegates run on.
        fn adapter_info() -> String;
        /// Sums over all runs so far.
        fn totals() -> Totals;
    }
}

fn is_available() -> bool {
    log::install();
    guard(|| Ok(etwgpu_runtime::is_available())).unwrap_or_else(|failure| {
        log::error(&failure.message);
        false
    })
}

fn init(
    processed: &[u8],
    compile_specs: &[ffi::Spec],
    options: &[ffi::Spec],
    named: Pin<&mut ffi::NamedData>,
) -> ffi::Loaded {
    log::install();
    match guard(|| Delegate::load(processed, compile_specs, options, named)) {
        Ok(delegate) => ffi::Loaded { status: ok(), delegate: Box::new(delegate) },
        Err(failure) => ffi::Loaded { status: failure.into(), delegate: Box::new(Delegate::empty()) },
    }
}

fn execute(delegate: &mut Delegate, call: Pin<&mut ffi::Call>) -> ffi::Status {
    delegate.run(call).map_or_else(Failure::into, |()| ok())
}

fn destroy(delegate: Box<Delegate>) {
    let dropped = guard(|| {
        drop(delegate);
        Ok(())
    });
    if let Err(failure) = dropped {
        log::error(&failure.message);
    }
}

fn set_option(key: &str, value: &str) -> ffi::Status {
    log::install();
    guard(|| {
        convert::set_option(key, value)?;
        log::configure();
        Ok(())
    })
    .map_or_else(Failure::into, |()| ok())
}

fn get_option(key: &str, value: &mut String) -> ffi::Status {
    log::install();
    guard(|| convert::get_option(key)).map_or_else(Failure::into, |text| {
        *value = text;
        ok()
    })
}

fn adapter_info() -> String {
    log::install();
    guard(|| Ok(etwgpu_runtime::adapter_info_json())).unwrap_or_else(|failure| {
        log::error(&failure.message);
        String::from("{}")
    })
}

fn totals() -> ffi::Totals {
    totals::get()
}
