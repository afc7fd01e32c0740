use super::*;

fn allowed(origins: &[&str]) -> Allowed {
    let origins = origins.iter().copied().map(HostPort::from_origin);
    origins.collect::<Result<_, _>>().expect("origins")
}

fn inherited(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let pair = |(name, value): &(&str, &str)| (name.into(), value.into());
    variables.iter().map(pair).collect()
}

fn changed(variables: &[(&str, &str)], origins: &[&str]) -> BTreeMap<String, Option<String>> {
    let changes = changes(
        &inherited(variables),
        "http://127.0.0.1:8080",
        &allowed(origins),
        |name| format!("/private/{name}").into(),
    );
    let text = |value: OsString| value.into_string().expect("UTF-8");
    changes
        .into_iter()
        .map(|(name, value)| (name, value.map(text)))
        .collect()
}

#[test]
fn the_measured_set_in_both_spellings() {
    let changes = changed(
        &[
            ("HTTPS_PROXY", "http://outer.example:3128"),
            ("SSL_CERT_DIR", "/etc/ssl/certs"),
            ("BOWLINE_KEY", "agent.key"),
            ("BOWLINE_CONFIG", "run.toml"),
            ("PATH", "/bin"),
        ],
        &["https://tools.example"],
    );
    let set = |name: &str| changes[name].as_deref();
    for name in ["HTTPS_PROXY", "https_proxy"] {
        assert_eq!(set(name), Some("http://127.0.0.1:8080"), "{name}");
    }
    for name in REPLACING.iter().chain(&ADDING) {
        assert_eq!(set(name), Some(&*format!("/private/{name}")), "{name}");
    }
    assert_eq!(set("NODE_USE_ENV_PROXY"), Some("1"));
    for name in [
        "SSL_CERT_DIR",
        "grpc_proxy",
        "BOWLINE_KEY",
        "BOWLINE_CONFIG",
    ] {
        assert_eq!(changes[name], None, "{name}");
    }
    // `http://` goes as it went before.
    for name in ["HTTP_PROXY", "http_proxy", "PATH"] {
        assert!(!changes.contains_key(name), "{name}");
    }
    assert_eq!(set("NO_PROXY"), Some("localhost,127.0.0.1,::1"));
    assert_eq!(set("NO_PROXY"), set("no_proxy"));
}

#[test]
fn no_proxy_loses_what_any_stack_takes_for_an_allowed_origin() {
    let origins = ["https://mcp.tools.example", "https://api.example:8443"];
    for (entry, stays) in [
        ("*", false),
        ("mcp.tools.example", false),
        ("MCP.Tools.Example.", false),
        (".tools.example", false),
        ("*.tools.example", false),
        ("tools.example", false),
        // `requests` compares ends.
        ("ols.example", false),
        ("example", false),
        ("mcp.tools.example:443", false),
        ("mcp.tools.example:8443", true),
        ("api.example:8443", false),
        ("api.example:443", true),
        ("https://mcp.tools.example", false),
        ("all://*.tools.example", false),
        ("other.example", true),
        ("mcp.tools.example.org", true),
        ("x.mcp.tools.example", true),
        ("10.0.0.0/8", true),
        ("192.0.2.1", true),
        ("::1", true),
        ("fd00::/8", true),
    ] {
        let both = [("NO_PROXY", entry), ("no_proxy", "kept.example")];
        let changes = changed(&both, &origins);
        let list = changes["no_proxy"].as_deref().expect("a list");
        let mut entries = list.split(',');
        assert!(list.starts_with("kept.example"), "{list}");
        assert_eq!(
            entries.any(|known| known == entry),
            stays,
            "{entry}: {list}"
        );
    }
}

#[test]
fn separators_and_repetitions() {
    let list = changed(
        &[
            ("NO_PROXY", "a.test, b.test c.test,,b.test"),
            ("no_proxy", "c.test"),
        ],
        &["https://tools.example"],
    );
    assert_eq!(
        list["NO_PROXY"].as_deref(),
        Some("c.test,a.test,b.test,localhost,127.0.0.1,::1")
    );
}

#[test]
fn an_allowed_localhost_is_not_exempt() {
    let list = changed(&[("NO_PROXY", "localhost")], &["https://localhost:8443"]);
    assert_eq!(list["NO_PROXY"].as_deref(), Some("127.0.0.1,::1"));
}
