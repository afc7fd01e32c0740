//! What a network does to connections, and what the agent says on them.

use std::time::Duration;

use bowline_testkit::peers::Cycle;
use bowline_testkit::tls::Alpn;

/// A way of ending connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// h2 connections that last: the best case.
    WarmH2,
    /// h1 connections that last.
    WarmH1,
    /// The server's keep-alive is shorter than the agent thinks between two calls.
    Idle,
    /// One response per connection (h1): the worst case.
    Serverless,
    /// A long event stream beside the calls: on h1 it keeps a connection for itself.
    SseH1,
    /// The same on h2.
    SseH2,
    /// A2A calls on h2 connections that last.
    A2aWarm(Binding),
    /// One A2A task that takes its time, and a server that cuts every connection again and again
    /// meanwhile.
    A2aLongTask,
    /// A2A calls through what retires connections by age, with GOAWAY, as meshes do.
    A2aMesh,
}

/// What the agent speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// MCP, streamable HTTP.
    Mcp,
    /// A2A, by one of its bindings.
    A2a(Binding),
}

/// How A2A goes over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    JsonRpc,
    HttpJson,
    Grpc,
}

impl Scenario {
    pub(crate) const ALL: [Self; 11] = [
        Self::WarmH2,
        Self::WarmH1,
        Self::Idle,
        Self::Serverless,
        Self::SseH1,
        Self::SseH2,
        Self::A2aWarm(Binding::JsonRpc),
        Self::A2aWarm(Binding::HttpJson),
        Self::A2aWarm(Binding::Grpc),
        Self::A2aLongTask,
        Self::A2aMesh,
    ];

    /// What `--scenario` takes for several of them at once.
    const GROUPS: [&'static str; 4] = ["sse", "a2a-warm", "mcp", "a2a"];

    fn is_in(self, group: &str) -> bool {
        match group {
            "sse" => self.has_event_stream(),
            "a2a-warm" => matches!(self, Self::A2aWarm(_)),
            "mcp" => self.talk() == Talk::Mcp,
            "a2a" => self.talk() != Talk::Mcp,
            _ => false,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WarmH2 => "warm-h2",
            Self::WarmH1 => "warm-h1",
            Self::Idle => "idle",
            Self::Serverless => "serverless",
            Self::SseH1 => "sse-h1",
            Self::SseH2 => "sse-h2",
            Self::A2aWarm(Binding::JsonRpc) => "a2a-warm-jsonrpc",
            Self::A2aWarm(Binding::HttpJson) => "a2a-warm-rest",
            Self::A2aWarm(Binding::Grpc) => "a2a-warm-grpc",
            Self::A2aLongTask => "a2a-long-task",
            Self::A2aMesh => "a2a-mesh",
        }
    }

    /// The scenarios that a `--scenario` argument names.
    pub(crate) fn parse(name: &str) -> Result<Vec<Self>, String> {
        let named: Vec<_> = Self::ALL
            .into_iter()
            .filter(|scenario| scenario.name() == name || scenario.is_in(name))
            .collect();
        if named.is_empty() {
            let names = Self::ALL.map(Self::name).join(", ");
            let groups = Self::GROUPS.join(", ");
            return Err(format!(
                "there is no such scenario; there are {names}, and for several at once {groups}"
            ));
        }
        Ok(named)
    }

    pub(crate) fn talk(self) -> Talk {
        match self {
            Self::A2aWarm(binding) => Talk::A2a(binding),
            Self::A2aLongTask | Self::A2aMesh => Talk::A2a(Binding::JsonRpc),
            _ => Talk::Mcp,
        }
    }

    /// When the server ends a connection.
    pub(crate) fn cycle(self) -> Cycle {
        match self {
            Self::Idle => Cycle {
                idle: Some(Duration::from_millis(40)),
                ..Cycle::default()
            },
            Self::Serverless => Cycle {
                max_responses: Some(1),
                ..Cycle::default()
            },
            Self::A2aMesh => Cycle {
                max_age: Some(Duration::from_millis(20)),
                ..Cycle::default()
            },
            _ => Cycle::default(),
        }
    }

    pub(crate) fn alpn(self) -> Alpn {
        match self {
            Self::WarmH1 | Self::Serverless | Self::SseH1 => Alpn::Http1,
            _ => Alpn::Both,
        }
    }

    /// How often the server cuts every connection, whatever is under way on it.
    pub(crate) fn cut_every(self) -> Option<Duration> {
        (self == Self::A2aLongTask).then_some(Duration::from_millis(100))
    }

    /// How long the agent thinks between two calls.
    pub(crate) fn think_time(self) -> Option<Duration> {
        (self == Self::Idle).then_some(Duration::from_millis(120))
    }

    /// Whether the MCP session has a GET event stream. Without it the server is stateless and
    /// answers in JSON.
    pub(crate) fn has_event_stream(self) -> bool {
        matches!(self, Self::SseH1 | Self::SseH2)
    }
}

/// How many tool calls each run makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load(u32);

impl Load {
    pub(crate) fn new(requests: Option<u32>, quick: bool) -> Self {
        Self(requests.unwrap_or(if quick { 100 } else { 1000 }))
    }

    pub(crate) fn calls(self, scenario: Scenario) -> u32 {
        match scenario {
            Scenario::Idle => (self.0 / 50).max(5),
            // Long enough for some connections to grow old.
            Scenario::A2aMesh => self.0.max(500),
            // One call, whose task says as often that it works.
            Scenario::A2aLongTask => (self.0 / 20).max(25),
            _ => self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name_and_nothing_else_is() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::parse(scenario.name()), Ok(vec![scenario]));
        }
        assert_eq!(Scenario::parse("a2a-warm").unwrap().len(), 3);
        let mut all = Scenario::parse("mcp").unwrap();
        all.extend(Scenario::parse("a2a").unwrap());
        assert_eq!(all, Scenario::ALL);
        assert_eq!(
            Scenario::parse("sse"),
            Ok(vec![Scenario::SseH1, Scenario::SseH2])
        );
        assert!(Scenario::parse("warm").unwrap_err().contains("warm-h2"));
    }
}
