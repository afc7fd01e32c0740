//! The example does what it says, and each of its refusals is by the check that is meant.

use std::process::Command;

#[test]
fn the_chain_passes_and_each_theft_is_refused_by_its_check() {
    let output = Command::new(env!("CARGO_BIN_EXE_token_exchange")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines: Vec<_> = said.lines().collect();
    for (line, expected) in [
        (0, "C says: for a, by b, session-bound"),
        (3, "RS-2: the access token is for another audience"),
        (5, "RS-3: "),
        (7, "AS-2: "),
        (9, "bound to a certificate that this client does not hold"),
    ] {
        assert!(lines[line].contains(expected), "line {line} of:\n{said}");
    }
}
