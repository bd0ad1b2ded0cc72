//! `doorward connect`, understood.
#![forbid(unsafe_code)]

use super::super::args::Connect;
use super::{address, seconds};
use crate::chain::Errand;
use crate::exit::Result;

pub(in crate::cli) fn connect(connect: Connect) -> Result<Errand> {
    let mut words = connect.path_and_prog.into_iter();
    let path = words.next().unwrap_or_default();
    let address = address("unable to connect to", &path)?;
    let limit = connect.connect_timeout.as_deref();
    let limit = limit.map(|text| seconds("--connect-timeout", text, false));
    Ok(Errand {
        address,
        kind: connect.kind,
        notify: connect.notify,
        limit: limit.transpose()?,
        prog: words.collect(),
    })
}
