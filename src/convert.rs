//! Between the bridge's types and the runtime's.

use std::pin::Pin;
use std::slice;

use etwgpu_graph::WeightSource;
use etwgpu_runtime::{Error, HostArg, HostCall, Knobs, NamedSpan, NodeValue, Session, Watch, code};

use crate::ffi;
use crate::guard::{Failure, guard};
use crate::totals;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error)
    }
}

/// One loaded delegate. It is empty when loading failed or after a panic, and then refuses to run.
pub(crate) struct Delegate {
    session: Option<Session>,
}

impl Delegate {
    /// A delegate that only refuses.
    pub(crate) fn empty() -> Self {
        Self { session: None }
    }

    /// Builds a delegate; `options` win over `compile_specs`.
    pub(crate) fn load(
        processed: &[u8],
        compile_specs: &[ffi::Spec<'_>],
        options: &[ffi::Spec<'_>],
        named: Pin<&mut ffi::NamedData>,
    ) -> Result<Self, Failure> {
        let specs: Vec<(&str, &[u8])> = compile_specs.iter().map(|spec| (spec.key, spec.value)).collect();
        let text = |spec: &ffi::Spec<'_>| String::from_utf8_lossy(spec.value).into_owned();
        let texts: Vec<String> = options.iter().map(text).collect();
        let options: Vec<(&str, &str)> =
            options.iter().zip(&texts).map(|(spec, text)| (spec.key, &**text)).collect();
        let session = Session::load(processed, &Knobs::resolve(&specs, &options), &mut Named(named))?;
        Ok(Self { session: Some(session) })
    }

    /// Runs once. After a panic the session's state is unknown, so it is given up.
    pub(crate) fn run(&mut self, call: Pin<&mut ffi::Call>) -> Result<(), Failure> {
        let Some(session) = self.session.as_mut() else {
            let message = "this delegate is unusable after an internal error; load the method again";
            return Err(Failure::new(code::INVALID_STATE, message));
        };
        let mut finished = false;
        let result = guard(|| {
            let outcome = session.run(&mut Arguments(call));
            finished = true;
            Ok(outcome.map(|stats| totals::add(&stats))?)
        });
        if !finished {
            let broken = self.session.take();
            // Dropping may panic as well; the first report is the one that counts.
            let _second = guard(|| {
                drop(broken);
                Ok(())
            });
        }
        result
    }
}

/// The arguments of one call.
struct Arguments<'a>(Pin<&'a mut ffi::Call>);

impl HostCall for Arguments<'_> {
    fn len(&self) -> usize {
        self.0.size()
    }

    fn arg(&mut self, index: usize) -> HostArg<'_> {
        let view = self.0.arg(index);
        match view.kind {
            ffi::ArgKind::Tensor => HostArg::Tensor {
                scalar_type: view.scalar_type,
                // SAFETY: the C++ side passes the address of `rank` int32 sizes, which only `resize` changes.
                sizes: unsafe { borrow(view.sizes, view.rank) },
                // SAFETY: likewise the address of `rank` bytes, or null.
                order: unsafe { borrow(view.order, view.rank) },
                // SAFETY: the C++ side passes the address of `nbytes` bytes that nobody else uses during the call; the
                // slice ends before the next use of `self`.
                data: unsafe { borrow_mut(view.data, view.nbytes) },
            },
            ffi::ArgKind::Int => HostArg::Int(view.int_value),
            _ => HostArg::Other,
        }
    }

    fn resize(&mut self, index: usize, sizes: &[i32]) -> bool {
        self.0.as_mut().resize(index, sizes)
    }

    fn set_int(&mut self, index: usize, value: i64) {
        self.0.as_mut().set_int(index, value);
    }

    fn watch(&self) -> Watch {
        let ffi::Watch { spans, values } = self.0.watch();
        Watch { spans, values }
    }

    fn span(&mut self, span: &NamedSpan) {
        self.0.as_mut().span(&span.name, span.start, span.end, &span.metadata);
    }

    fn value(&mut self, value: &NodeValue) {
        self.0.as_mut().value(value.node, value.scalar_type, &value.sizes, &value.bytes);
    }
}

/// A slice at an address from C++; empty when the address is null.
///
/// # Safety
/// A non-null address must point to `len` elements that live and do not change for `'a`.
unsafe fn borrow<'a, T>(address: usize, len: usize) -> &'a [T] {
    if address == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(address as *const T, len) }
}

/// Like [`borrow`], to write into.
///
/// # Safety
/// A non-null address must point to `len` elements that live and that nobody else uses for `'a`.
unsafe fn borrow_mut<'a, T>(address: usize, len: usize) -> &'a mut [T] {
    if address == 0 {
        return &mut [];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts_mut(address as *mut T, len) }
}

/// The named constants of a program.
struct Named<'a>(Pin<&'a mut ffi::NamedData>);

impl WeightSource for Named<'_> {
    fn with_named(&mut self, key: &str, sink: &mut dyn FnMut(&[u8])) -> bool {
        let bytes = self.0.as_mut().acquire(key);
        let found = !bytes.is_empty();
        if found {
            sink(bytes);
        }
        self.0.as_mut().release();
        found
    }
}

/// Sets a process-wide option.
pub(crate) fn set_option(key: &str, value: &str) -> Result<(), Failure> {
    Ok(etwgpu_runtime::set_option(key, value)?)
}

/// Reads a process-wide option.
pub(crate) fn get_option(key: &str) -> Result<String, Failure> {
    Ok(etwgpu_runtime::get_option(key)?)
}
