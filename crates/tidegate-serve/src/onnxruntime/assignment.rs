//! Asks a session which execution provider took which part of its model, which `ort` has no call for.

use std::ffi::{CStr, c_char};
use std::ptr;

use ort::AsPointer;
use ort::session::Session;

/// A session has to be built with this entry set to `1`, or it does not remember.
pub(super) const RECORD: &str = "session.record_ep_graph_assignment_info";

/// Whether the provider runs any part of the model.
#[expect(unsafe_code, reason = "the assignment is behind C function pointers only")]
pub(super) fn has_part(session: &Session, provider: &str) -> ort::Result<bool> {
    let api = ort::api::ort();
    let (mut parts, mut n_parts) = (ptr::null(), 0);
    // SAFETY: the session lives; both pointers are to variables of ours. The table of functions has this one, because `ort`
    // refuses libraries older than the API version that it is compiled for.
    unsafe {
        ort::Error::result_from_status((api.Session_GetEpGraphAssignmentInfo)(
            session.ptr(),
            &raw mut parts,
            &raw mut n_parts,
        ))?;
    }
    if parts.is_null() {
        return Ok(false);
    }
    for index in 0..n_parts {
        let mut name: *const c_char = ptr::null();
        // SAFETY: the array has `n_parts` pointers and, as the name, belongs to the session, which outlives this function.
        let name = unsafe {
            ort::Error::result_from_status((api.EpAssignedSubgraph_GetEpName)(
                *parts.add(index),
                &raw mut name,
            ))?;
            CStr::from_ptr(name)
        };
        if name.to_bytes() == provider.as_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}
