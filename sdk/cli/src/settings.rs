//! Options from the command line, from `BOWLINE_…` variables, and from the file that `--config`
//! names, in this order of precedence.
//!
//! The file's values become the defaults of clap's arguments: clap's own order (command line,
//! variable, default) is then the order that is wanted, and a value of the file goes through the
//! same parser as one of the command line. A table of the file, such as an `[[origin]]`, is handed on
//! as a [`Table`], whose reader is the option's.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::Str;
use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches};

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::table::{Table, nearest};

/// Reads all that configures this run.
pub(crate) fn read(args: impl Iterator<Item = OsString>) -> Result<Arguments, Failure> {
    let args: Vec<OsString> = args.collect();
    let command = with_variables(Arguments::command());
    let of_clap = |error| Failure::Clap(Box::new(error));
    let matches = match file_and_subcommand(&command, &args) {
        None => command.try_get_matches_from(args).map_err(of_clap)?,
        Some((path, subcommand)) => {
            let file = File::read(path, subcommand)?;
            let with_file = file.apply(command.clone())?;
            match with_file.try_get_matches_from(&args) {
                Ok(matches) => matches,
                Err(error) => return Err(file.blame(&command, &args, error)),
            }
        }
    };
    Arguments::from_arg_matches(&matches).map_err(of_clap)
}

/// Gives each long option of each subcommand its variable: `--client-ca` is `BOWLINE_CLIENT_CA`.
fn with_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let Some(long) = arg.get_long() else {
            return arg;
        };
        if matches!(long, "help" | "version") || arg.get_env().is_some() {
            return arg;
        }
        let variable = format!("BOWLINE_{}", long.to_uppercase().replace('-', "_"));
        arg.env(Str::from(variable)).hide_env(true)
    });
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, with_variables)
    })
}

/// The file that `--config` or `BOWLINE_CONFIG` names, and the subcommand (`pki init`) that its
/// keys are for. Everything else that is wrong is told by the parse that follows.
fn file_and_subcommand(
    command: &clap::Command,
    args: &[OsString],
) -> Option<(PathBuf, Vec<String>)> {
    let matches = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(args)
        .ok()?;
    let mut path = matches.get_one::<PathBuf>("config").cloned();
    let mut names = Vec::new();
    let mut below = matches.subcommand();
    while let Some((name, matches)) = below {
        names.push(name.to_owned());
        path = matches.get_one::<PathBuf>("config").cloned().or(path);
        below = matches.subcommand();
    }
    Some((path?, names))
}

/// A configuration file.
struct File {
    path: PathBuf,
    /// Whose options its keys are.
    subcommand: Vec<String>,
    table: toml::Table,
}

impl File {
    fn read(path: PathBuf, subcommand: Vec<String>) -> Result<Self, Failure> {
        let file = path.display();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::usage(format!("{file} cannot be read: {error}")))?;
        let table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| {
                text.as_bytes()
                    .iter()
                    .take(span.start)
                    .filter(|b| **b == b'\n')
                    .count()
                    + 1
            });
            // Not the parser's whole message: it quotes the line, which can hold a secret.
            Failure::usage(format!("{file}, line {line}: {}", error.message()))
        })?;
        Ok(Self {
            path,
            subcommand,
            table,
        })
    }

    /// Makes its values the defaults of the command's options.
    fn apply(&self, command: clap::Command) -> Result<clap::Command, Failure> {
        self.apply_without(command, None)
    }

    fn apply_without(
        &self,
        command: clap::Command,
        left_out: Option<&str>,
    ) -> Result<clap::Command, Failure> {
        let keys = self.table.iter();
        let mut keys = keys.filter(|(key, _)| Some(key.as_str()) != left_out);
        keys.try_fold(command, |command, (key, value)| {
            // Options of every subcommand stand at the root until clap hands them down.
            let at: &[String] = if option(&command, key).is_some() {
                &[]
            } else {
                &self.subcommand
            };
            let mut result = Ok(());
            let known = long_options(&command);
            let command = mut_below(command, at, |command| {
                match set(&command, key, value, &known) {
                    Ok((id, values)) => {
                        command.mut_arg(id, |arg| arg.default_values(values).required(false))
                    }
                    Err(message) => {
                        let file = self.path.display();
                        result = Err(Failure::usage(format!("{file}: {message}")));
                        command
                    }
                }
            });
            result.map(|()| command)
        })
    }

    /// The failure that an error of clap's is: it names the key where the value came from the file.
    fn blame(&self, command: &clap::Command, args: &[OsString], error: clap::Error) -> Failure {
        let is_of_a_value = matches!(
            error.kind(),
            ErrorKind::InvalidValue | ErrorKind::ValueValidation
        );
        let at_fault = self.table.keys().find(|key| {
            is_of_a_value && is_about(&error, key) && {
                // A value of the command line or of a variable is wrong without the file's too.
                let without = self.apply_without(command.clone(), Some(key.as_str()));
                let parsed = without.map(|command| command.try_get_matches_from(args));
                !matches!(parsed, Ok(Err(other)) if is_about(&other, key))
            }
        });
        let Some(key) = at_fault else {
            return Failure::Clap(Box::new(error));
        };
        let (file, error) = (self.path.display(), error.to_string());
        // Its first paragraph; the others are of the command line.
        let lines = error.lines().take_while(|line| !line.is_empty());
        let lines: Vec<_> = lines.map(str::trim).collect();
        let message = lines.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        Failure::usage(format!("{file}: `{key}`: {message}"))
    }
}

/// Whether an error of clap's is about the value of the option `--key`.
fn is_about(error: &clap::Error, key: &str) -> bool {
    let option = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    let option = option.as_deref().and_then(|text| text.split(' ').next());
    option.and_then(|option| option.strip_prefix("--")) == Some(key)
}

/// Applies `change` to the subcommand of that path.
fn mut_below(
    command: clap::Command,
    path: &[String],
    change: impl FnOnce(clap::Command) -> clap::Command,
) -> clap::Command {
    match path.split_first() {
        None => change(command),
        Some((name, rest)) => command.mut_subcommand(name, |sub| mut_below(sub, rest, change)),
    }
}

/// The option that a key of the file names, and the values that become its defaults.
fn set(
    command: &clap::Command,
    key: &str,
    value: &toml::Value,
    global: &[String],
) -> Result<(clap::Id, Vec<String>), String> {
    let arg = option(command, key).ok_or_else(|| unknown(command, key, global))?;
    let takes_many = matches!(arg.get_action(), ArgAction::Append);
    let takes_tables = arg.get_value_parser().type_id() == TypeId::of::<Table>();
    let read = |value: &toml::Value| match value {
        toml::Value::Table(_) if takes_tables => Some(value.to_string()),
        _ if takes_tables => None,
        other => plain(other),
    };
    let values = match value {
        toml::Value::Array(items) if takes_many => items.iter().map(read).collect(),
        other => read(other).map(|value| vec![value]),
    };
    let values = values.ok_or_else(|| match (takes_many, takes_tables) {
        (_, true) => format!("`{key}` takes tables: begin each with [[{key}]]"),
        (true, false) => format!("`{key}` takes a list of plain values"),
        (false, false) => format!("`{key}` takes one plain value"),
    })?;
    Ok((arg.get_id().clone(), values))
}

fn option<'a>(command: &'a clap::Command, key: &str) -> Option<&'a clap::Arg> {
    let in_file = |arg: &&clap::Arg| arg.get_long().is_some_and(|long| long == key);
    let settable = !matches!(key, "config" | "help" | "version");
    command.get_arguments().find(in_file).filter(|_| settable)
}

fn long_options(command: &clap::Command) -> Vec<String> {
    command
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .map(str::to_owned)
        .collect()
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

fn unknown(command: &clap::Command, key: &str, global: &[String]) -> String {
    let known = long_options(command);
    let known = known.iter().chain(global).map(String::as_str);
    match nearest(key, known) {
        Some(long) => format!("unknown key `{key}`; did you mean `{long}`?"),
        None => format!(
            "unknown key `{key}`; `bowline {} --help` lists the options",
            command.get_name()
        ),
    }
}
