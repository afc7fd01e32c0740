//! The client's answers to requests of the server.

#![allow(deprecated, reason = "sampling is a part of the revisions under test")]

use rmcp::model::{
    ClientInfo, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
    ElicitationAction, ElicitationCapability, ErrorData, FormElicitationCapability, Role,
    SamplingMessage, SamplingMessageContentBlock,
};
use rmcp::service::RequestContext;
use rmcp::{ClientHandler, RoleClient};
use serde_json::{Map, Value};

pub(crate) struct Handler;

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientInfo {
        let mut info = ClientInfo::default();
        let form = FormElicitationCapability::new().with_schema_validation(true);
        info.capabilities.elicitation = Some(ElicitationCapability::new().with_form(form));
        info
    }

    /// Fills in a form with its defaults.
    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let content = match &request {
            ElicitRequestParams::FormElicitationParams {
                requested_schema, ..
            } => filled_in(serde_json::to_value(requested_schema).unwrap_or_default()),
            _ => Map::new(),
        };
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(Value::Object(content)))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let text = SamplingMessageContentBlock::text("ahoy");
        let message = SamplingMessage::new(Role::Assistant, text);
        Ok(CreateMessageResult::new(message, "none".to_owned()).with_stop_reason("endTurn"))
    }
}

/// The defaults of a schema; for required fields without a default, a value of their type.
fn filled_in(schema: Value) -> Map<String, Value> {
    let mut content = Map::new();
    let required: Vec<_> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let value = match (field.get("default"), field["type"].as_str()) {
            (Some(default), _) => default.clone(),
            (None, _) if !required.contains(&name.as_str()) => continue,
            (None, Some("boolean")) => Value::Bool(true),
            (None, Some("number" | "integer")) => 1.into(),
            (None, _) => "text".into(),
        };
        content.insert(name.clone(), value);
    }
    content
}
