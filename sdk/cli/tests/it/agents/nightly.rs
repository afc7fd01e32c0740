//! All agents, those too that take long to install: `just agents`, a part of `just nightly`.

#![allow(clippy::print_stdout, reason = "the table is there to be read")]

use super::site::table;
use super::stacks;

/// Where the table goes, if it is set.
const FILE: &str = "BOWLINE_AGENTS_TABLE";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go, Java, and Python with openai: run `just agents`"]
async fn the_table_of_agents() {
    let mut tables = Vec::new();
    for options in [&[][..], &["--credential"]] {
        let mut rows = Vec::new();
        rows.extend(stacks::mcp_of_pypi(options).await);
        rows.extend(stacks::mcp_of_npm(options).await);
        rows.extend(stacks::a2a_of_pypi(options).await);
        rows.extend(stacks::openai(options).await);
        rows.extend(stacks::go(options).await);
        rows.extend(stacks::curl(options).await);
        rows.extend(stacks::git(options).await);
        // It takes no password.
        if options.is_empty() {
            rows.extend(stacks::java().await);
        }
        tables.push(table(&rows));
    }
    let table = tables.join("\nWith a password in the proxy's URL:\n\n");
    println!("{table}");
    if let Ok(path) = std::env::var(FILE) {
        std::fs::write(path, table).expect("the file");
    }
}
