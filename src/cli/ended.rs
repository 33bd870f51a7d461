//! What a command's exit code says.

use std::error::Error as StdError;

use anyhow::anyhow;

/// The codes, as the help and the documents tell them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the message says why
  2  the command line is not right
  3  partly done: some of it was refused, was not there or is left (check-key: a key is refused;
     status --ready: the gateway takes no updates)
  4  the gateway is not reachable (check-key: Userpilot could not be asked)
  5  the gateway refuses who asks: no credential, a wrong one, or one that may not do this";

/// How a command ended that has not done all that it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// For the reason that the message tells.
    Failed = 1,
    /// The command line is not right.
    Usage = 2,
    /// Some was refused, was not there or is left.
    Partly = 3,
    /// No gateway was reached, or it went away.
    Unreachable = 4,
    /// The gateway refuses who asks.
    Refused = 5,
}

/// An error whose exit code is not that of any other.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Ended {
    exit: Exit,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Exit {
    /// An error that ends a command so.
    pub fn error(self, message: impl Into<String>) -> anyhow::Error {
        anyhow!(Ended { exit: self, message: message.into(), source: None })
    }

    /// The same, because of another error.
    pub fn because(
        self,
        source: impl StdError + Send + Sync + 'static,
        message: impl Into<String>,
    ) -> anyhow::Error {
        anyhow!(Ended { exit: self, message: message.into(), source: Some(Box::new(source)) })
    }

    /// How an error ends the command.
    pub fn of(error: &anyhow::Error) -> Self {
        let ended = error.chain().find_map(|error| error.downcast_ref::<Ended>());
        ended.map_or(Self::Failed, |ended| ended.exit)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_keeps_its_exit_code_whatever_is_said_about_it() {
        let bare = Exit::Partly.error("two were refused");
        assert_eq!(Exit::of(&bare), Exit::Partly);
        let told = Err::<(), _>(Exit::Unreachable.because(std::io::Error::other("gone"), "nobody"))
            .context("line 7")
            .unwrap_err();
        assert_eq!(Exit::of(&told), Exit::Unreachable);
        assert_eq!(format!("{told:#}"), "line 7: nobody: gone");
        assert_eq!(Exit::of(&anyhow!("else")), Exit::Failed);
    }
}
