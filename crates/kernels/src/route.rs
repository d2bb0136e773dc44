//! Routes: the ways to run an operator, in order of preference, each with the reason why it may not fit.

use std::borrow::Cow;

use etwgpu_record::Caps;

use crate::args::OpError;
use crate::lower::Lower;

/// Why a route does not fit.
pub type Refusal = Cow<'static, str>;

/// One way to run a problem of type `P`.
pub struct Route<P> {
    /// Unique name, for example `q4.gemv`.
    pub name: &'static str,
    /// Whether the route can run this problem on this device, and if not, why.
    pub fits: fn(&P, &Caps) -> Result<(), Refusal>,
    /// Records the work.
    pub record: fn(&mut Lower<'_>, &P) -> Result<(), OpError>,
}

/// Refuses with `why` unless `condition` holds.
pub fn require(condition: bool, why: &'static str) -> Result<(), Refusal> {
    if condition { Ok(()) } else { Err(Cow::Borrowed(why)) }
}

/// A route of a node that was considered: its name, and the refusal or `None` when it was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Considered {
    /// Route name.
    pub route: &'static str,
    /// Why not, or none for the one taken.
    pub refusal: Option<Refusal>,
}
