//! What signals say: when to stop (SIGTERM, or Ctrl-C), and when to read the configuration again
//! (SIGHUP).

use std::io;

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

/// From now on SIGHUP does not end the process: each is told here.
pub fn hangups() -> io::Result<signal::unix::Signal> {
    signal::unix::signal(signal::unix::SignalKind::hangup())
}
