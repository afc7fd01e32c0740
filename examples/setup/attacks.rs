//! The attackers. They use ordinary HTTP clients: a bowline client sends no token that is bound to
//! another certificate than its own (CL-8).

use bowline::AccessToken;
use bowline::client::challenges;
use bowline_testkit::attacker::replay;
use rmcp::ServiceExt;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use crate::{Error, Setup, expected};

/// The status of a response, and what its challenges say.
pub fn refusal<B>(response: &http::Response<B>) -> String {
    told(response.status(), response.headers())
}

fn told(status: http::StatusCode, headers: &http::HeaderMap) -> String {
    let challenges = challenges(headers);
    let said = challenges.iter().find_map(|c| c.param("error_description"));
    match said {
        Some(said) => format!("{status} ({said})"),
        None => status.to_string(),
    }
}

impl Setup {
    /// The log has leaked the last token and proof. Attackers repeat the request on connections of
    /// their own: one with another certificate, one with the victim's own.
    ///
    /// # Errors
    /// If one is not refused, or by another check than the one that is meant for it.
    pub async fn replay_the_leaked_request(&self, origin: &str) -> Result<(), Error> {
        println!("\na log has leaked the agent's last token and proof. On other connections:");
        let stolen = self
            .log
            .last()
            .ok_or("the server has received no request")?;
        for (whose, name, check) in [
            ("another certificate", "attacker", "RS-3"),
            ("the agent's own certificate", "agent", "RS-6"),
        ] {
            let outcome = replay(&self.pki, &self.leaf(name), origin, &stolen, "").await?;
            let outcome = expected(check, outcome.to_string())?;
            println!("  an attacker with {whose}: {outcome}");
        }
        let without = stolen.without_credentials();
        let outcome = replay(&self.pki, &self.leaf("agent"), origin, &without, "").await?;
        println!(
            "  without a token: {}",
            expected("401", outcome.to_string())?
        );
        Ok(())
    }

    /// The token is stolen, without a proof. Attackers present it with rmcp's stock client.
    ///
    /// # Errors
    /// If one is not refused.
    pub async fn steal_with_stock_rmcp(&self, url: &str, token: &AccessToken) -> Result<(), Error> {
        println!("\nan attacker has the token, and rmcp's stock client:");
        for (whose, name, check) in [
            ("another certificate", "attacker", "RS-3"),
            ("the agent's own certificate", "agent", "RS-4"),
        ] {
            let config =
                StreamableHttpClientTransportConfig::with_uri(url).auth_header(token.secret());
            let http = self.stock_client(name)?;
            let transport = StreamableHttpClientTransport::with_client(http, config);
            let refused = ().serve(transport).await.err();
            let error = format!("{:?}", refused.ok_or("the attacker was not refused")?);
            expected(check, error)?;
            println!("  with {whose}: refused by {check}");
        }
        Ok(())
    }

    /// Presents a token with an ordinary HTTP client and the certificate of this name: GET, or POST
    /// with this JSON.
    ///
    /// # Errors
    /// If the server serves the request.
    pub async fn present(
        &self,
        name: &str,
        url: &str,
        token: &AccessToken,
        json: Option<serde_json::Value>,
    ) -> Result<String, Error> {
        let client = self.stock_client(name)?;
        let request = match json {
            None => client.get(url),
            Some(json) => client.post(url).json(&json),
        };
        let response = request.bearer_auth(token.secret()).send().await?;
        if response.status().is_success() {
            return Err(format!("the attacker was not refused: {}", response.status()).into());
        }
        Ok(told(response.status(), response.headers()))
    }

    fn stock_client(&self, name: &str) -> Result<reqwest::Client, Error> {
        let pem = self.certificate(name);
        let pair = [pem.certificate, pem.key].concat();
        Ok(reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem.ca)?])
            .identity(reqwest::Identity::from_pem(&pair)?)
            .build()?)
    }
}
