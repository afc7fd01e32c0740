//! The MCP server's tools.

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};

/// One tool that does almost nothing, because only the calls are measured.
#[derive(Clone)]
pub(crate) struct Tools {
    tool_router: ToolRouter<Self>,
    announces: bool,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    /// Returned unchanged.
    text: String,
}

#[tool_router]
impl Tools {
    pub(crate) fn new(announces: bool) -> Self {
        Self {
            tool_router: Self::tool_router(),
            announces,
        }
    }

    #[tool(description = "Returns its argument")]
    async fn echo(
        &self,
        Parameters(Echo { text }): Parameters<Echo>,
        context: RequestContext<RoleServer>,
    ) -> String {
        if self.announces {
            // An event for the event stream. A client that has disconnected must not fail the call.
            let _ = context.peer.notify_tool_list_changed().await;
        }
        text
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities)
    }
}
