//! The frame of every HELP reply: Redis's title line, the subcommands, and HELP itself.

use crate::resp::Reply;

/// Writes the help of `container`, in capitals. `lines` are the subcommands with their arguments, each
/// followed by what it does, indented by four spaces.
pub fn help(reply: &mut Reply<'_>, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Show this text.");
}
