//! Warns once when workers are about to run out of accounts: whoever comes after that is counted
//! under one name with all others, until the next start.

use farm::ledger::{OTHER, WORKERS_MAX};

/// From so many accounts on: nine tenths, so that there is time to look who makes them.
const WARNED_FROM: usize = WORKERS_MAX / 10 * 9;

/// What has been told already.
#[derive(Debug, Default)]
pub(crate) struct AccountsLog {
    is_told: bool,
}

impl AccountsLog {
    /// Tells what is new, with how many workers have an account.
    pub(crate) fn tell(&mut self, workers: usize) {
        if let Some(warning) = self.warning(workers) {
            tracing::warn!(workers, "{warning}");
        }
    }

    fn warning(&mut self, workers: usize) -> Option<String> {
        let is_news = workers >= WARNED_FROM && !self.is_told;
        self.is_told |= is_news;
        is_news.then(|| {
            format!(
                "{workers} worker names have had a share since the start, and {WORKERS_MAX} are \
                 told apart: further ones will be counted as \"{OTHER}\"; look in \
                 /api/v1/workers for names that somebody makes up, then restart"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_that_run_out_are_told_once_and_in_time() {
        let mut log = AccountsLog::default();
        assert_eq!(log.warning(58_000), None);
        let warning = log.warning(59_000).expect("it is time");
        assert!(
            warning.starts_with("59000 worker names") && warning.contains("65536"),
            "{warning}"
        );
        assert_eq!(log.warning(65_536), None, "once");
    }
}
