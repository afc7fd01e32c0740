//! The command `bowline`: see `bowline --help`.

mod arguments;
mod call;
mod causes;
#[cfg(target_os = "linux")]
mod egress;
mod failure;
mod identity;
mod ingress;
mod inspect;
mod logging;
mod ops;
mod passing;
#[cfg(target_os = "linux")]
mod pem_text;
mod pki;
mod receipt;
#[cfg(target_os = "linux")]
mod run;
mod secret;
mod settings;
mod text;
mod values;

use std::process::ExitCode;

use crate::arguments::Command;
use crate::failure::Failure;

fn main() -> ExitCode {
    match settings::read(std::env::args_os()).and_then(run) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: arguments::Arguments) -> Result<ExitCode, Failure> {
    logging::start(&arguments.log);
    match arguments.command {
        Command::Call(options) => call::run(*options),
        Command::Inspect(options) => inspect::run(&options),
        Command::Completions { shell } => {
            arguments::write_completions(shell);
            Ok(ExitCode::SUCCESS)
        }
        Command::Ingress(options) => ingress::run(*options),
        Command::Man { dir } => arguments::write_man_pages(&dir),
        Command::Pki { command } => pki::run(command),
        #[cfg(target_os = "linux")]
        Command::Egress(options) => egress::command::run(*options),
        #[cfg(target_os = "linux")]
        Command::Run(options) => run::run(&options),
        #[cfg(target_os = "linux")]
        Command::RunKeeper(options) => run::keep(options),
    }
}
