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
mod table;
mod text;
mod values;

use std::process::ExitCode;

use crate::arguments::Command;
use crate::failure::Failure;
use crate::ops::Configured;

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
        Command::Ingress(options) => ingress::run(*options, || {
            again(|command| match command {
                Command::Ingress(options) => Some(*options),
                _ => None,
            })
        }),
        Command::Man { dir } => arguments::write_man_pages(&dir),
        Command::Pki { command } => pki::run(command),
        #[cfg(target_os = "linux")]
        Command::Egress(options) => egress::service::run(*options, || {
            again(|command| match command {
                Command::Egress(options) => Some(*options),
                _ => None,
            })
        }),
        #[cfg(target_os = "linux")]
        Command::Run(options) => run::run(&options),
        #[cfg(target_os = "linux")]
        Command::RunKeeper(options) => run::keep(options),
    }
}

/// The options as the command line, the variables and the file say now, and that file.
fn again<O>(choose: fn(Command) -> Option<O>) -> Result<Configured<O>, Failure> {
    let arguments = settings::read(std::env::args_os())?;
    Ok(Configured {
        options: choose(arguments.command).expect("the subcommand that runs"),
        file: arguments.config,
    })
}
