//! How far a live session's recording is, as a leaf each minute: once that is
//! cosigned, nobody can drop what was finished before it.

use std::sync::Arc;
use std::time::Duration;

use super::session::Live;

/// Time between two looks.
const CHECK_EVERY: Duration = Duration::from_secs(60);

impl Live {
    /// Until the session ends. A minute that finished no chunk says nothing
    /// new and makes no leaf.
    pub async fn check_each_minute(self: Arc<Self>) {
        let mut said = self.recorder.open_leaf().size;
        while self.control.stop.guard(tokio::time::sleep(CHECK_EVERY)).await.is_some() {
            let recorder = self.recorder.clone();
            let Ok(Ok(leaf)) = tokio::task::spawn_blocking(move || recorder.check_leaf()).await else {
                // The recorder tells of its failure itself.
                continue;
            };
            if leaf.size == said {
                continue;
            }
            let size = leaf.size;
            let salt = self.recorder.head().salt;
            // Boxed: nearly all the time it only sleeps.
            let appended = Box::pin(self.gate.ledger.append_check(leaf, salt));
            match self.control.stop.guard(appended).await {
                Some(Ok(_)) => said = size,
                Some(Err(error)) => {
                    tracing::error!(session = %self.id, %error, "the ledger does not take how far the recording is");
                }
                None => return,
            }
        }
    }
}
