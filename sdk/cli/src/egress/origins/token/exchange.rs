//! The token that a request brings, exchanged for one of the next service (RFC 8693), if the ingress
//! beside this egress has verified it (AS-3).

use std::time::{SystemTime, UNIX_EPOCH};

use bowline::Client;
use bowline::token::{AccessToken, Authorized, Builder, Exchanges, OAuth};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::egress::refused::Refused;
use crate::failure::Failure;
use crate::receipt::{RECEIPT, ReceiptKey};
use crate::secret::SecretAt;

pub(super) struct Exchange {
    client: Client,
    origin: String,
    sources: Exchanges,
    /// `None`: nobody has verified the tokens (R3).
    receipts: Option<ReceiptKey>,
}

impl Exchange {
    pub(super) fn new(
        client: Client,
        origin: &str,
        builder: Builder,
        actor: Option<OAuth>,
        receipt_key: Option<&SecretAt>,
    ) -> Result<Self, Failure> {
        let receipts = match receipt_key {
            Some(at) => {
                let key = at.read("`receipt-key`")?;
                let key = ReceiptKey::new(&key);
                Some(key.map_err(|error| Failure::usage(format!("`receipt-key`: {error}")))?)
            }
            None => {
                tracing::warn!(
                    "{origin}: exchange-unverified: a token that was stolen from its client is \
                     exchanged for whoever reaches this egress with it (R3)"
                );
                None
            }
        };
        let builder = match actor {
            Some(own) => builder.actor(own),
            None => builder,
        };
        Ok(Self {
            client,
            origin: origin.to_owned(),
            sources: Exchanges::new(builder).map_err(Failure::usage)?,
            receipts,
        })
    }

    /// The source of the token that the request's own is exchanged for. Takes that out, and its
    /// receipt.
    ///
    /// # Errors
    /// 401 without a token, 403 without a receipt that is valid for it.
    pub(super) fn admit(&self, headers: &mut HeaderMap) -> Result<Authorized, Refused> {
        let mut brought = headers.get_all(AUTHORIZATION).iter();
        let subject = match (brought.next(), brought.next()) {
            (Some(one), None) => AccessToken::from_authorization(one).ok(),
            _ => None,
        };
        let subject = subject.ok_or_else(|| {
            Refused::new(
                StatusCode::UNAUTHORIZED,
                "no_subject",
                "the token that is to be exchanged is missing: copy Authorization (Bearer) of the \
                 request that is being served",
            )
        })?;
        if let Some(key) = &self.receipts {
            self.check_receipt(key, &subject, headers)?;
        }
        headers.remove(AUTHORIZATION);
        headers.remove(RECEIPT);
        let source = self.sources.for_token(&subject);
        let authorized =
            source.and_then(|source| Authorized::new(self.client.clone(), source, &self.origin));
        authorized.map_err(|error| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Refused::new(status, "exchange", error.to_string())
        })
    }

    fn check_receipt(
        &self,
        key: &ReceiptKey,
        subject: &AccessToken,
        headers: &HeaderMap,
    ) -> Result<(), Refused> {
        let refused = |text: String| Refused::new(StatusCode::FORBIDDEN, "receipt", text);
        let mut receipts = headers.get_all(HeaderName::from_static(RECEIPT)).iter();
        let (Some(receipt), None) = (receipts.next(), receipts.next()) else {
            return Err(refused(
                "one Session-Binding-Receipt is needed: copy it, as Authorization, from the request \
                 that is being served; the ingress sets it where it has a receipt key"
                    .to_owned(),
            ));
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        key.verify(receipt, subject.hash(), now.as_secs())
            .map_err(|why| refused(format!("{why}: its token is not exchanged")))
    }
}
