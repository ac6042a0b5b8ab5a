//! One thing that `check` has to say: where in the file, what, and the remedy. `run` refuses to
//! start on the faults among them and logs the warnings.

use crate::config::{Places, Spot};

/// Whether `run` would start all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It would not, or could not work.
    Fault,
    /// It would.
    Warning,
}

/// One finding: what is wrong and, after a semicolon, the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// The value of the file that it is about, or that would mend it.
    pub spot: Spot,
    /// Whose it is, as "host" or the name of a node.
    pub whose: String,
    /// What is wrong, and the remedy.
    pub what: String,
}

impl Finding {
    /// A fault of the host.
    pub fn fault(spot: Spot, what: impl Into<String>) -> Finding {
        Finding { weight: Weight::Fault, spot, whose: "host".to_owned(), what: what.into() }
    }

    /// A warning about the host.
    pub fn warning(spot: Spot, what: impl Into<String>) -> Finding {
        Finding { weight: Weight::Warning, ..Finding::fault(spot, what) }
    }

    /// The same, about somebody else.
    pub fn of(self, whose: &str) -> Finding {
        Finding { whose: whose.to_owned(), ..self }
    }

    /// Whether `run` would not start.
    pub fn is_fault(&self) -> bool {
        self.weight == Weight::Fault
    }

    /// The line that is printed: `file:line:column: whose: what; remedy`.
    pub fn line(&self, places: &Places) -> String {
        let warning = if self.is_fault() { "" } else { "warning: " };
        format!("{}: {}: {warning}{}", places.show(self.spot), self.whose, self.what)
    }
}
