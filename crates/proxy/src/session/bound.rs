//! What a Bind message gives.

use wire::FormatCode;
use wire::frontend::Bind;

use super::Fault;
use super::many::Args;
use crate::exec::statement::ParamValue;

/// The parameters and formats of a Bind, owned.
pub(super) fn args_of(bind: &Bind<'_>) -> Args {
    let params = (0..bind.params.len())
        .map(|index| {
            let value = bind.param(index).flatten().map(<[u8]>::to_vec);
            (value, is_binary(bind, index))
        })
        .collect();
    Args {
        params,
        results: bind.result_formats.iter().collect(),
    }
}

/// One parameter, from 0.
pub(super) fn param_of<'a>(bind: &Bind<'a>, index: usize) -> Option<ParamValue<'a>> {
    let value = bind.param(index)?;
    Some(ParamValue {
        value,
        binary: is_binary(bind, index),
    })
}

/// One format code stands for all parameters.
pub(super) fn is_binary(bind: &Bind<'_>, index: usize) -> bool {
    let at = if bind.formats.len() == 1 { 0 } else { index };
    bind.formats.get(at) == Some(FormatCode::Binary)
}

/// There is no such portal.
pub(super) fn no_portal(name: &[u8]) -> Fault {
    Fault::error(
        "34000",
        format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)),
    )
}
