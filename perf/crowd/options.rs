//! What one crowd is: its habit, its size, its rate, and how it comes back.

use std::error::Error;
use std::net::SocketAddr;

use crate::habits::{BackOff, Habit};

/// What every wrong command line is answered with.
pub(crate) const USAGE: &str = "usage: perf-crowd SERVER HABIT [key=value …], see its source";

/// One crowd.
pub(crate) struct Options {
    /// Where it connects.
    pub(crate) server: SocketAddr,
    /// What its clients do.
    pub(crate) habit: Habit,
    /// How many they are.
    pub(crate) clients: u32,
    /// The number of the first; it names its worker.
    pub(crate) first: u32,
    /// Shares, drips, connects or lumps of garbage a second, by all of them.
    pub(crate) rate: f64,
    /// How a client comes back.
    pub(crate) back_off: BackOff,
    /// A second handle of each socket is kept, so that they can vanish.
    pub(crate) vanishing: bool,
}

impl Options {
    /// Reads the command line.
    pub(crate) fn parse() -> Result<Options, Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let server = arguments.next().ok_or(USAGE)?.parse()?;
        let habit = arguments.next().as_deref().and_then(Habit::of).ok_or(USAGE)?;
        let mut options = Options {
            server,
            habit,
            clients: 100,
            first: 0,
            rate: 0.0,
            back_off: BackOff::AtOnce,
            vanishing: false,
        };
        for argument in arguments {
            match argument.split_once('=').ok_or(USAGE)? {
                ("clients", value) => options.clients = value.parse()?,
                ("first", value) => options.first = value.parse()?,
                ("rate", value) => options.rate = value.parse()?,
                ("back", "firmware") => options.back_off = BackOff::Firmware,
                ("back", "at-once") => options.back_off = BackOff::AtOnce,
                ("vanishing", value) => options.vanishing = value == "1",
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}
