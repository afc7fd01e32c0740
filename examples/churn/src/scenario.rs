//! What a network does to connections.

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
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] = [
        Self::WarmH2,
        Self::WarmH1,
        Self::Idle,
        Self::Serverless,
        Self::SseH1,
        Self::SseH2,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WarmH2 => "warm-h2",
            Self::WarmH1 => "warm-h1",
            Self::Idle => "idle",
            Self::Serverless => "serverless",
            Self::SseH1 => "sse-h1",
            Self::SseH2 => "sse-h2",
        }
    }

    /// The scenarios that a `--scenario` argument names.
    pub(crate) fn parse(name: &str) -> Result<Vec<Self>, String> {
        let named: Vec<_> = Self::ALL
            .into_iter()
            .filter(|s| s.name() == name || (name == "sse" && s.has_event_stream()))
            .collect();
        if named.is_empty() {
            let names = Self::ALL.map(Self::name).join(", ");
            return Err(format!(
                "there is no such scenario; there are {names}, and sse for both of the last two"
            ));
        }
        Ok(named)
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
            Self::WarmH2 | Self::WarmH1 | Self::SseH1 | Self::SseH2 => Cycle::default(),
        }
    }

    pub(crate) fn alpn(self) -> Alpn {
        match self {
            Self::WarmH1 | Self::Serverless | Self::SseH1 => Alpn::Http1,
            Self::WarmH2 | Self::Idle | Self::SseH2 => Alpn::Both,
        }
    }

    /// How long the agent thinks between two calls.
    pub(crate) fn think_time(self) -> Option<Duration> {
        (self == Self::Idle).then_some(Duration::from_millis(120))
    }

    /// Whether the MCP session has a GET event stream. Without it the server is stateless and answers in JSON.
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
        assert_eq!(Scenario::parse("sse"), Ok(vec![Scenario::SseH1, Scenario::SseH2]));
        assert!(Scenario::parse("warm").unwrap_err().contains("warm-h2"));
    }
}
