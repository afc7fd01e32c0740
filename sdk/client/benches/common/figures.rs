//! The results of a bench: lines `name value` on stdout, and a JSON file with date and machine.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures and its progress"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::cores;
use super::options::Options;

/// The figures of one bench.
pub(crate) struct Figures {
    bench: &'static str,
    quick: bool,
    file: PathBuf,
    values: Map<String, Value>,
    notes: Map<String, Value>,
}

impl Figures {
    pub(crate) fn new(bench: &'static str, options: &Options) -> Self {
        Self {
            bench,
            quick: options.quick,
            file: match &options.json {
                Some(file) => file.clone(),
                None => folder().join(format!("{bench}.json")),
            },
            values: Map::new(),
            notes: Map::new(),
        }
    }

    /// Adds a figure, and prints it.
    pub(crate) fn record(&mut self, name: impl Into<String>, value: f64) {
        let (name, value) = (name.into(), rounded(value));
        println!("{name} {value}");
        self.values.insert(name, json!(value));
    }

    /// Adds a note for a reader of the file: the length of the measurement, or the range of a
    /// figure.
    pub(crate) fn note(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.notes.insert(name.into(), value.into());
    }

    /// A figure that was recorded before.
    pub(crate) fn recorded(&self, name: &str) -> Option<f64> {
        self.values.get(name)?.as_f64()
    }

    /// Writes the file.
    pub(crate) fn write(self) {
        let file = self.file;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let document = json!({
            "bench": self.bench,
            "quick": self.quick,
            "at": now.unwrap_or_default().as_secs(),
            "machine": machine(),
            "values": self.values,
            "notes": self.notes,
        });
        let text = serde_json::to_string_pretty(&document).expect("JSON");
        let folder = file.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&file, text + "\n"))
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        progress(format_args!("written to {}", file.display()));
    }
}

/// Reports progress.
pub(crate) fn progress(what: impl std::fmt::Display) {
    eprintln!("# {what}");
}

/// Four significant digits, which is more than the precision of these figures. Counts stay whole.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = (3 - value.abs().log10().floor() as i32).max(0);
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// `target/bench`. cargo runs a bench in its package's folder; the program itself lies in
/// `target/release/deps`.
pub(crate) fn folder() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    let target = program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    target.unwrap_or(Path::new("target")).join("bench")
}

fn machine() -> Value {
    let cpu = field("/proc/cpuinfo", "model name");
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let system = std::fs::read_to_string("/etc/os-release")
        .ok()
        .and_then(|text| {
            let name = text
                .lines()
                .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
            Some(name.trim_matches('"').to_owned())
        });
    json!({
        "cores": cores(),
        "cpu": cpu,
        "memory_gib": memory.map(|kib| rounded(kib as f64 / 1024.0 / 1024.0)),
        "system": system,
    })
}

/// The value of a line `name : value` in one of the kernel's files.
fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// `VmRSS` of this process, in bytes.
pub(crate) fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.expect("a number of KiB") * 1024.0
}

/// The middle value; of an even number the mean of both.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(sorted[half - 1], sorted[half]),
        _ => sorted[half],
    }
}

/// The value below which this fraction of all values lies.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let index = (sorted.len() as f64 * part) as usize;
    sorted
        .get(index)
        .or(sorted.last())
        .copied()
        .unwrap_or_default()
}
