//! The agents that install quickly: the named set (`just parts`).

#![allow(clippy::print_stdout, reason = "the figures are there to be read")]

use super::site::table;
use super::stacks;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with mcp: run `just parts`"]
async fn a_hundred_tool_calls_of_pypi_mcp_cost_one_connection_and_one_signature() {
    println!("{}", table(&stacks::mcp_of_pypi(&[]).await));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node and npm, and Python with mcp: run `just parts`"]
async fn a_hundred_tool_calls_of_the_typescript_sdk_cost_one_connection_and_one_signature() {
    println!("{}", table(&stacks::mcp_of_npm(&[]).await));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with a2a-sdk: run `just parts`"]
async fn a2a_sdk_over_each_binding_with_a_signed_card() {
    println!("{}", table(&stacks::a2a_of_pypi(&[]).await));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl: run `just parts`"]
async fn ten_processes_of_curl_cost_one_connection_and_one_signature() {
    println!("{}", table(&stacks::curl(&[]).await));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs git: run `just parts`"]
async fn git_clones_over_one_connection_with_one_signature() {
    println!("{}", table(&stacks::git(&[]).await));
}
