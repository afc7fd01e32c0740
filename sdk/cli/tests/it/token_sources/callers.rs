//! Which users of the machine an origin is for (`callers`).

use bowline_testkit::authority::TokenRequest;

use super::net::{Net, ask, table};
use super::reach::{Agent, WAYS, Way, trusting};
use crate::agents::{Service, stderr};

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A user that runs nothing here.
fn other() -> u32 {
    own() + 1
}

/// In front of the tables: both may use the egress.
fn both() -> String {
    format!("callers = [\"uid:{}\", \"uid:{}\"]\n", own(), other())
}

fn only(uid: u32) -> String {
    format!("callers = [\"uid:{uid}\"]\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_7_a_caller_that_an_origin_is_not_for_gets_no_token_by_any_way() {
    let net = Net::new("callers-ways");
    let [ours, theirs, bare] = [net.site(), net.site(), net.site()];
    let oauth = format!("source = \"oauth\", {}", net.at_authority());
    let tables = [
        both(),
        table(&ours, &oauth) + &only(own()),
        table(&theirs, &oauth) + &only(other()),
        table(&bare, "") + &only(other()),
    ]
    .concat();
    let brought = net.authority.issue(&TokenRequest::bearer("agent"));
    let socket = format!("unix:{}", net.file("egress.sock").display());
    for listen in ["127.0.0.1:0", &socket] {
        let mut command = net.bowline("egress", &tables);
        let intercept = net.file("intercept");
        command.args(["--upstream", &theirs.origin(), "--listen", listen]);
        command.arg("--intercept").arg(&intercept);
        let egress = Service::start(&mut command).await;
        let tls = trusting(&intercept.join("root.pem"));
        let agent = Agent {
            egress: &egress,
            tls: &tls,
        };
        for way in WAYS {
            let [ours, theirs, bare] = [&ours, &theirs, &bare].map(|site| site.authority());
            let status = agent.try_to(way, &theirs, &theirs, None).await;
            assert_eq!(status, 403, "{listen} {way:?}");
            // The reverse proxy is for one origin.
            if way != Way::Reverse {
                assert_eq!(agent.try_to(way, &ours, &ours, None).await, 200, "{way:?}");
                // The certificate is kept from them as well.
                let status = agent.try_to(way, &bare, &bare, Some(&brought)).await;
                assert_eq!(status, 403, "{listen} {way:?}");
            }
        }
        let answer = ask(&egress, "GET", &format!("{}/x", theirs.origin()), &[]).await;
        let said = format!(
            "{}: requests of uid:{} do not go there (`callers`)",
            theirs.origin(),
            own()
        );
        assert!(answer.text.trim_end().ends_with(&said), "{}", answer.text);
        egress.end().await;
    }
    assert_eq!((theirs.arrived().len(), bare.arrived().len()), (0, 0));
    // One for each start of the egress, and none for the other origin.
    assert_eq!(net.authority.token_requests(), 2);
    assert_eq!(ours.tokens().len(), 2 * (WAYS.len() - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_whom_an_origin_is_for_and_not_who_may_use_the_egress() {
    let net = Net::new("callers-reload");
    let site = net.site();
    let path = net.write("token", "secret");
    let source = table(&site, &format!("source = \"file\", path = {path:?}"));
    let mut command = net.bowline("egress", &(both() + &source + &only(own())));
    let config = net.config(&command);
    let egress = Service::on_port(command.env("BOWLINE_LOG_LEVEL", "info")).await;
    let url = format!("{}/x", site.origin());
    assert_eq!(ask(&egress, "GET", &url, &[]).await.status, 200);
    let text = std::fs::read_to_string(net.file(&config)).expect("the file");
    let theirs = text.replace(&only(own()), &only(other()));
    net.replace(&config, &theirs);
    egress.logs(" INFO reloaded (a file has changed)", 1).await;
    assert_eq!(ask(&egress, "GET", &url, &[]).await.status, 403);
    // Only those of the start may be named.
    let third = other() + 1;
    net.replace(
        &config,
        &theirs
            .replace(&both(), &only(third))
            .replace(&only(other()), &only(third)),
    );
    let refused = format!(
        "`callers`: uid:{third} may not use this proxy at all, only uid:{}, uid:{} may",
        own(),
        other()
    );
    egress.logs(&refused, 1).await;
    let ours = text.replace(&both(), &only(own()));
    net.replace(&config, &ours);
    egress
        .logs("--callers changed: a restart is needed for that", 1)
        .await;
    assert_eq!(ask(&egress, "GET", &url, &[]).await.status, 200);
    egress.end().await;
}

/// What a command has said, which ends by itself.
async fn ended(command: &mut tokio::process::Command) -> std::process::Output {
    // Only ends a test that hangs.
    let patience = std::time::Duration::from_secs(60);
    let output = tokio::time::timeout(patience, command.output()).await;
    output.expect("it serves").expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_cannot_be_are_said_at_the_start() {
    let net = Net::new("callers-wrong");
    let site = net.site();
    let not_admitted = format!(
        "`callers`: uid:{} may not use this proxy at all, only uid:{} may",
        other(),
        own()
    );
    let form = "a user is named by uid: and its number, such as uid:1001";
    for subcommand in ["egress", "run"] {
        for (callers, said) in [
            (only(other()), &*not_admitted),
            ("callers = []".to_owned(), "`callers` is empty"),
            ("callers = [\"1001\"]".to_owned(), form),
            ("callers = [\"uid:agent\"]".to_owned(), form),
            ("callers = [\"uid:-1\"]".to_owned(), form),
            (
                "callers = [1001]".to_owned(),
                "`callers` takes a list of texts",
            ),
        ] {
            let tables = table(&site, "source = \"caller\"") + &callers;
            let mut command = net.bowline(subcommand, &tables);
            match subcommand {
                "egress" => command.args(["--listen", "127.0.0.1:0"]),
                _ => command.args(["--", "true"]),
            };
            let output = ended(&mut command).await;
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{callers}: {told}");
            assert!(told.contains(said), "{callers}: {told}");
            assert!(told.contains(&site.origin()), "{callers}: {told}");
        }
    }
    let mut command = net.bowline("egress", &table(&site, ""));
    command.args(["--listen", "127.0.0.1:0", "--callers", "agent"]);
    let output = ended(&mut command).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(form), "{output:?}");
    // The user of `run` is the only one that it serves.
    let mut command = net.bowline("run", &(table(&site, "") + &only(own())));
    let output = ended(command.args(["--", "true"])).await;
    assert!(output.status.success(), "{output:?}");
}
