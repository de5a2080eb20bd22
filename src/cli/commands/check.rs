//! `fewlabel check`: a look over a run directory that changes nothing.

use std::path::Path;

use crate::check::{Checked, check_run};
use crate::error::{Error, Result};
use crate::experiment::print;
use crate::text::count;

use super::in_pool;

/// Prints what has been found; a fault is an [`Error::Differs`].
pub fn check(folder: &Path) -> Result<()> {
    let Checked { faults, notes, checked } = in_pool(None, || check_run(folder))?;
    for line in faults.iter().chain(&notes) {
        print(line)?;
    }
    if !faults.is_empty() {
        return Err(Error::Differs(format!("{}: this is not what a run has left", count(faults.len(), "fault"))));
    }
    print(&checked)
}
