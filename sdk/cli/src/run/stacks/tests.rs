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

#[test]
fn an_old_node_is_told_by_its_name_and_behind_a_script() {
    let folder = std::env::temp_dir().join(format!("bowline-stacks-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a directory");
    // By another process: a file that this one had open could not be run while a child of another
    // thread has it still.
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        let script = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let mut writer = std::process::Command::new("sh");
        let written = writer.args(["-c", script]).arg(&path).arg(text).status();
        assert!(written.expect("sh runs").success());
        path
    };
    // As version managers have it.
    let node = write("node", "#!/bin/sh\necho v20.20.2\n");
    let agent = write("agent", &format!("#!{}\n", node.display()));
    let other = write("other", "#!/bin/sh\n");
    let told = |program: &Path| warning(&[program.into()], false);
    for program in [&node, &agent] {
        let told = told(program).expect("a warning");
        assert!(
            told.starts_with("Node.js 20.20.2 heeds no proxy variables"),
            "{told}"
        );
    }
    assert_eq!(told(&other), None);
    assert_eq!(told(&folder.join("none")), None);
    write("node", "#!/bin/sh\necho v24.21.0\n");
    assert_eq!(told(&agent), None);
    std::fs::remove_dir_all(&folder).expect("the directory");
}
