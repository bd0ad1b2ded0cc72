//! The words of `doorward rules`.
#![forbid(unsafe_code)]

use super::options::{Rules, RunAs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What is to be done with rules.
#[derive(Subcommand, Debug)]
#[command(disable_help_subcommand = true)]
pub(in crate::cli) enum RuleTask {
    /// Tells who would come in, by which rule, and with what
    ///
    /// Asks the rules as a service with the same options would, and tells on standard output what they say and why.
    Check(Box<Check>),
    /// Makes a database (cdb) of a rules directory, as s6-accessrules-cdb-from-fs does
    ///
    /// The database is replaced in one step, and holds the same rules. Services that have the old one open take the new one up at
    /// SIGHUP. What would refuse connections in the directory (a file that cannot be read, or that others can write) is an error.
    Compile(Compile),
    /// Makes a rules directory of a database (cdb), as s6-accessrules-fs-from-cdb does
    Dump(Dump),
}

#[derive(Args, Debug)]
#[command(
    override_usage = "doorward rules check <--rules PATH|--allow WHO|--deny WHO> --user USER [OPTIONS]",
    mut_arg("deny_text", |text| text.hide(true)),
    after_help = "Exit status: 0 admitted; 1 refused, or the rules failed; 100 wrong use; 101 a bug; 111 the rules are missing, cannot be read \
                  or are not to be trusted, or another system call failed."
)]
pub(in crate::cli) struct Check {
    /// Who connects
    #[arg(long, value_name = "NAME|UID")]
    pub(in crate::cli) user: String,
    /// Effective group of who connects [default: that of the account]
    #[arg(long, value_name = "NAME|GID")]
    pub(in crate::cli) group: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) run_as: RunAs,
    #[command(flatten)]
    pub(in crate::cli) rules: Rules,
}

#[derive(Args, Debug)]
#[command(override_usage = "doorward rules compile [OPTIONS] DIR FILE", after_help = EXIT_STATUS)]
pub(in crate::cli) struct Compile {
    /// Permission bits of FILE, octal; who serves must be able to read it, and nobody else may be able to write it
    #[arg(long, value_name = "MODE", default_value = "0600")]
    pub(in crate::cli) mode: String,
    /// Rules directory to read
    #[arg(value_name = "DIR")]
    pub(in crate::cli) directory: PathBuf,
    /// Database to write; one that is there is replaced
    pub(in crate::cli) file: PathBuf,
}

#[derive(Args, Debug)]
#[command(override_usage = "doorward rules dump FILE DIR", after_help = EXIT_STATUS)]
pub(in crate::cli) struct Dump {
    /// Database to read
    pub(in crate::cli) file: PathBuf,
    /// Rules directory to make; it must not exist
    #[arg(value_name = "DIR")]
    pub(in crate::cli) directory: PathBuf,
}

const EXIT_STATUS: &str = "\
Exit status: 0 done; 100 wrong use; 101 a bug; 111 what is read is not as it must be, or another system call failed: nothing was written.";
