//! The names of the metrics that every service has.

pub(crate) struct MetricNames {
    pub(crate) ready: &'static str,
    pub(crate) reloads: &'static str,
    pub(crate) configuration_refused: &'static str,
    pub(crate) requests: &'static str,
    pub(crate) requests_in_flight: &'static str,
    pub(crate) requests_cut: &'static str,
    pub(crate) request_seconds: &'static str,
    pub(crate) response_bytes: &'static str,
}

/// `bowline_SERVICE_…`.
macro_rules! metric_names {
    ($service:literal) => {
        $crate::ops::metric_names::MetricNames {
            ready: concat!("bowline_", $service, "_ready"),
            reloads: concat!("bowline_", $service, "_reloads_total"),
            configuration_refused: concat!("bowline_", $service, "_configuration_refused"),
            requests: concat!("bowline_", $service, "_requests_total"),
            requests_in_flight: concat!("bowline_", $service, "_requests_in_flight"),
            requests_cut: concat!("bowline_", $service, "_requests_cut_total"),
            request_seconds: concat!("bowline_", $service, "_request_seconds"),
            response_bytes: concat!("bowline_", $service, "_response_bytes_total"),
        }
    };
}
pub(crate) use metric_names;
