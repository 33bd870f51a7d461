//! When to stop: SIGTERM, or Ctrl-C.

use tokio::signal;

/// Completes when somebody wants the process to end.
pub async fn requested() {
    #[cfg(unix)]
    let terminate = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<Option<()>>();
    tokio::select! {
        _ = terminate => {}
        Ok(()) = signal::ctrl_c() => {}
    }
}
