use super::*;

#[test]
fn versions_of_node() {
    for (version, expected) in [
        ("20.20.2", Some(false)),
        ("22.20.0", Some(false)),
        ("22.21.0", Some(true)),
        ("23.11.0", Some(false)),
        ("24.0.0", Some(true)),
        ("26.10.0", Some(true)),
        ("", None),
        ("unknown", None),
    ] {
        assert_eq!(heeds_proxies(version), expected, "{version}");
    }
}

#[test]
fn the_interpreter_of_a_script() {
    for (start, expected) in [
        ("#!/usr/bin/env node\nrun()", Some("node")),
        ("#!/usr/bin/env -S NODE_ENV=x node --flag\n", Some("node")),
        ("#! /opt/node/bin/node\n", Some("/opt/node/bin/node")),
        ("#!/bin/sh", Some("/bin/sh")),
        ("#!\n", None),
        ("#!/usr/bin/env\n", None),
        ("\x7fELF", None),
        ("", None),
    ] {
        assert_eq!(named_in(start.as_bytes()).as_deref(), expected, "{start}");
    }
}

#[test]
fn java_without_its_flag() {
    for (program, java, expected) in [
        ("/no/such/java", false, true),
        ("/no/such/java", true, false),
        ("/no/such/python", false, false),
    ] {
        let told = warning(&[program.into()], java);
        assert_eq!(told.is_some(), expected, "{program} {java}: {told:?}");
    }
}
