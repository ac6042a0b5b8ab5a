//! `generate`: the sample configuration, the man page and completions, each from the one
//! definition that the program itself obeys.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::{Cli, Generate};
use crate::exit::{Exit, Stop};

/// Prints what was asked for on standard output.
pub fn generate(what: &Generate) -> Result<Exit, Stop> {
    let mut text = Vec::new();
    match what {
        Generate::Config => text.extend(crate::config::sample().as_bytes()),
        Generate::Man => man(&mut text).map_err(Stop::internal)?,
        Generate::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "headframe", &mut text);
        }
        Generate::Dashboard => return Err(Stop::not_in_this_version("generate dashboard")),
    }
    match io::stdout().write_all(&text) {
        // A reader that has seen enough (`| head`) is no fault.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Stop::unavailable(error)),
        _ => Ok(Exit::Done),
    }
}

/// One page for the program, with a section for each command and its flags.
fn man(out: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(out)?;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        if inner.get_name() == "help" {
            continue;
        }
        writeln!(out, ".SH {}", inner.get_name().to_uppercase())?;
        let page = clap_mangen::Man::new(inner.clone());
        page.render_synopsis_section(out)?;
        page.render_description_section(out)?;
        page.render_options_section(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_of_the_command_line_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_man_page_has_every_command() {
        let mut text = Vec::new();
        man(&mut text).expect("a vector can be written");
        let text = String::from_utf8(text).expect("roff is text");
        for wanted in [".TH headframe", ".SH RUN", ".SH CHECK", ".SH DEMO", "\\-\\-miners"] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
        assert!(!text.contains(".SH KEYS"), "what is not built is not advertised");
    }
}
