//! How the network ends connections, and which protocol the agent speaks on them.

use std::time::Duration;

use bowline_testkit::peers::Cycle;
use bowline_testkit::tls::Alpn;

/// A way of ending connections, with the protocol of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// h2 connections that the server keeps open: the best case.
    WarmH2,
    /// h1 connections that the server keeps open.
    WarmH1,
    /// The server's keep-alive is shorter than the agent's pause between two calls.
    Idle,
    /// One response per connection (h1): the worst case.
    Serverless,
    /// A long event stream beside the calls: on h1 it occupies a connection.
    SseH1,
    /// The same on h2.
    SseH2,
    /// A2A calls on h2 connections that the server keeps open.
    A2aWarm(A2aBinding),
    /// One long A2A task, while the server cuts every connection again and again.
    A2aLongTask,
    /// A2A calls to a server that retires connections by age, with GOAWAY, as service meshes do.
    A2aMesh,
}

/// The protocol of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// MCP, streamable HTTP.
    Mcp,
    /// A2A, by one of its bindings.
    A2a(A2aBinding),
}

/// An A2A protocol binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum A2aBinding {
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
        Self::A2aWarm(A2aBinding::JsonRpc),
        Self::A2aWarm(A2aBinding::HttpJson),
        Self::A2aWarm(A2aBinding::Grpc),
        Self::A2aLongTask,
        Self::A2aMesh,
    ];

    /// Names that `--scenario` accepts for several scenarios at once.
    const GROUPS: [&'static str; 4] = ["sse", "a2a-warm", "mcp", "a2a"];

    fn is_in(self, group: &str) -> bool {
        match group {
            "sse" => self.has_event_stream(),
            "a2a-warm" => matches!(self, Self::A2aWarm(_)),
            "mcp" => self.protocol() == Protocol::Mcp,
            "a2a" => self.protocol() != Protocol::Mcp,
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
            Self::A2aWarm(A2aBinding::JsonRpc) => "a2a-warm-jsonrpc",
            Self::A2aWarm(A2aBinding::HttpJson) => "a2a-warm-rest",
            Self::A2aWarm(A2aBinding::Grpc) => "a2a-warm-grpc",
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
                "unknown scenario; known are {names}, and for several at once {groups}"
            ));
        }
        Ok(named)
    }

    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::A2aWarm(binding) => Protocol::A2a(binding),
            Self::A2aLongTask | Self::A2aMesh => Protocol::A2a(A2aBinding::JsonRpc),
            _ => Protocol::Mcp,
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

    /// How often the server cuts every connection, also with requests in flight.
    pub(crate) fn cut_every(self) -> Option<Duration> {
        (self == Self::A2aLongTask).then_some(Duration::from_millis(100))
    }

    /// How long the agent waits between two calls.
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
            // Enough calls for some connections to reach their maximum age.
            Scenario::A2aMesh => self.0.max(500),
            // One call, whose task sends this many status updates.
            Scenario::A2aLongTask => (self.0 / 20).max(25),
            _ => self.0,
        }
    }
}

#[cfg(test)]
mod tests;
