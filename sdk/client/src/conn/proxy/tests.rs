//! What the environment makes of a request, beside curl; and what cannot be read.

use std::env::VarError;

use bowline_testkit::net::ClosedPort;

use super::*;

/// The proxy's URL in the rows; `{P}` stands for it.
const P: &str = "http://127.0.0.1:9";

fn variables(row: &Row) -> Proxies {
    Proxies::from_variables(|name| {
        let found = row.vars.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, value)| value.replace("{P}", P))
            .ok_or(VarError::NotPresent)
    })
}

fn goes_through(proxies: &Proxies, host: &str) -> bool {
    let proxy = proxies.0.as_ref().unwrap();
    proxy.as_ref().is_some_and(|proxy| proxy.serves(host))
}

struct Row {
    host: &'static str,
    vars: Vec<(&'static str, &'static str)>,
    through: bool,
    curl_differs: bool,
}

impl Row {
    /// curl 7.88.1 compares IPv6 addresses as text, although its documentation says that networks
    /// count; here the documentation is followed.
    fn unlike_curl_7_88(mut self) -> Self {
        self.curl_differs = true;
        self
    }
}

fn row(host: &'static str, list: &'static str, through: bool) -> Row {
    Row {
        host,
        vars: vec![("https_proxy", "{P}"), ("no_proxy", list)],
        through,
        curl_differs: false,
    }
}

fn environment(vars: &[(&'static str, &'static str)], through: bool) -> Row {
    Row {
        host: "a.example",
        vars: vars.to_vec(),
        through,
        curl_differs: false,
    }
}

/// Sixty rows and a few: the host, `NO_PROXY`, and whether the request goes through the proxy.
#[rustfmt::skip]
fn rows() -> Vec<Row> {
    vec![
        // Names.
        row("a.example", "", true),
        row("a.example", "a.example", false),
        row("a.example", "A.EXAMPLE", false),
        row("A.Example", "a.example", false),
        row("www.a.example", "a.example", false),
        row("x.www.a.example", "a.example", false),
        row("nota.example", "a.example", true),
        row("a.example", "www.a.example", true),
        row("a.example", ".a.example", false),
        row("www.a.example", ".a.example", false),
        row("nota.example", ".a.example", true),
        row("a.example", "a.example.", false),
        row("a.example.", "a.example", false),
        row("a.example.", "a.example.", false),
        row("www.a.example.", ".a.example", false),
        row("a.example", "example", false),
        row("a.example", "ample", true),
        row("a.example", "a", true),
        row("a.example", "..a.example", true),
        row("a.example", ".", true),
        row("a.example", "localhost", true),
        row("localhost", "localhost", false),
        // Lists.
        row("a.example", "b.example,a.example", false),
        row("a.example", "b.example, a.example", false),
        row("a.example", "b.example a.example", false),
        row("a.example", " a.example ", false),
        row("a.example", ",,a.example,,", false),
        row("a.example", "b.example,\ta.example", false),
        row("a.example", ",", true),
        row("a.example", "b.example,c.example", true),
        row("a.example", "*", false),
        row("10.1.2.3", "*", false),
        row("a.example", "*,b.example", true),
        row("a.example", "b.example,*", true),
        // Patterns, ports and schemes mean nothing.
        row("www.a.example", "*.a.example", true),
        row("a.example", "*a.example", true),
        row("a.example", "a.*", true),
        row("a.example", "a.example:443", true),
        row("a.example", "https://a.example", true),
        row("a.example", "a.example/", true),
        // IPv4.
        row("10.1.2.3", "10.1.2.3", false),
        row("10.1.2.3", "10.1.2.4", true),
        row("10.1.2.3", "10.0.0.0/8", false),
        row("10.1.2.3", "10.1.2.0/24", false),
        row("10.1.3.3", "10.1.2.0/24", true),
        row("10.1.2.3", "10.1.2.2/31", false),
        row("10.1.2.4", "10.1.2.2/31", true),
        row("10.1.2.3", "10.1.2.3/32", false),
        row("10.1.2.3", "10.1.2.3/33", true),
        row("10.1.2.3", "10", true),
        row("10.1.2.3", "10.", true),
        row("10.1.2.3", "10.1.2", true),
        row("10.1.2.3", ".2.3", true),
        row("10.1.2.3", "2.3", true),
        row("127.0.0.1", "localhost", true),
        row("localhost", "127.0.0.1", true),
        row("10.1.2.3", "10.1.2.3:443", true),
        // IPv6.
        row("[::1]", "::1", false),
        row("[::1]", "::2", true),
        row("[fd00::1]", "fd00::/8", false).unlike_curl_7_88(),
        row("[fe80::1]", "fd00::/8", true),
        row("[::1]", "0:0:0:0:0:0:0:1", false).unlike_curl_7_88(),
        row("[::1]", "[::1]", true),
        // Which variable counts.
        environment(&[], false),
        environment(&[("HTTPS_PROXY", "{P}")], true),
        environment(&[("ALL_PROXY", "{P}")], true),
        environment(&[("all_proxy", "{P}")], true),
        environment(&[("http_proxy", "{P}")], false),
        environment(&[("https_proxy", ""), ("HTTPS_PROXY", "{P}")], true),
        environment(&[("HTTPS_PROXY", ""), ("all_proxy", "{P}")], true),
        environment(&[("https_proxy", "{P}"), ("no_proxy", ""), ("NO_PROXY", "a.example")], false),
        environment(&[("https_proxy", "{P}"), ("no_proxy", "b.example"), ("NO_PROXY", "a.example")], true),
        environment(&[("https_proxy", "{P}"), ("NO_PROXY", "a.example")], false),
    ]
}

#[test]
fn each_row_goes_where_it_says() {
    let rows = rows();
    assert!(rows.len() >= 60);
    for row in rows {
        let host = row.host.to_ascii_lowercase();
        assert_eq!(
            goes_through(&variables(&row), &host),
            row.through,
            "{} {:?}",
            row.host,
            row.vars
        );
    }
}

/// The same rows with the `curl` command (the named set): it must go where we go.
#[test]
#[ignore = "needs the curl command"]
fn each_row_goes_where_curl_goes() {
    let version = std::process::Command::new("curl").arg("--version").output();
    let version = version.expect("the curl command is installed").stdout;
    let version = String::from_utf8_lossy(&version);
    let mut wrong = Vec::new();
    for row in rows() {
        let through = curl_goes_through(&row);
        if through != (row.through != row.curl_differs) {
            wrong.push(format!("{} {:?}: curl {through}", row.host, row.vars));
        }
    }
    assert!(wrong.is_empty(), "{version}{wrong:#?}");
}

/// Whether curl connects to the proxy. Direct connections go to a closed port on loopback,
/// whatever the host.
fn curl_goes_through(row: &Row) -> bool {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let closed = ClosedPort::new();
    let direct = format!("::127.0.0.1:{}", closed.addr().port());
    let mut curl = std::process::Command::new("curl");
    curl.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    for (name, value) in &row.vars {
        curl.env(name, value.replace("{P}", &url));
    }
    let target = format!("https://{}/", row.host);
    let mut curl = curl
        .args([
            "--silent",
            "--max-time",
            "20",
            "--connect-to",
            &direct,
            &target,
        ])
        .spawn()
        .unwrap();
    loop {
        if proxy.accept().is_ok() {
            curl.kill().unwrap();
            curl.wait().unwrap();
            return true;
        }
        if curl.try_wait().unwrap().is_some() {
            return proxy.accept().is_ok();
        }
        std::thread::yield_now();
    }
}

/// K2: a proxy that cannot be read is an error, never "no proxy"; the error does not quote it.
#[test]
fn a_proxy_that_cannot_be_read_is_an_error_of_the_builder() {
    for url in [
        "http:/10.0.0.1:3128",
        "not a url",
        "http://",
        "htp://10.0.0.1",
        "https://10.0.0.1",
        "socks5://h:1",
        "http://h:port",
        "http://h:0",
        "http://h:65536",
        "http://h:",
        "http://u:secret-word@",
        "://h",
        "http://u:secret%2-word@h",
        "http://[::1",
        "http://[::g]:1",
        "http://h h:1",
        "/h",
        "http://u:%ff@h",
        "http://secret word@h:p",
    ] {
        for proxies in [
            Proxies::https(url, ""),
            Proxies::from_variables(|name| {
                if name == "HTTPS_PROXY" {
                    Ok(url.to_owned())
                } else {
                    Err(VarError::NotPresent)
                }
            }),
        ] {
            let error = proxies.check().expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("secret") && !shown.contains("10.0.0.1"),
                "{shown}"
            );
            let built = crate::Client::builder().proxies(proxies).build();
            assert_eq!(built.unwrap_err().kind(), ErrorKind::Configuration, "{url}");
        }
    }
    let not_unicode = Proxies::from_variables(|_| Err(VarError::NotUnicode("secret".into())));
    let shown = not_unicode.check().unwrap_err().to_string();
    assert!(
        shown.contains("https_proxy") && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn a_list_s_entries_that_mean_nothing_are_counted() {
    let list = NoProxy::parse("a.example, *.b.example, 10.0.0.0/33 c.example:1,::1");
    assert_eq!(
        list.unmatchable().as_deref(),
        Some("number 2, number 3, number 4")
    );
    assert_eq!(NoProxy::parse("*").unmatchable(), None);
}
