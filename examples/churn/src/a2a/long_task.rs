use a2a_client::{A2AClient, Transport};
use indicatif::ProgressBar;

use crate::agent::Driven;

pub(super) async fn follow(_client: &A2AClient<Box<dyn Transport>>, _steps: u32, _progress: &ProgressBar) -> Driven {
    Driven::default()
}
