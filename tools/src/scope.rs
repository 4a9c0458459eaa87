//! Which stack, servers and signal a command is about: `COMMAND [STACK] [SERVER…]`.
//!
//! - STACK may be left out when there is only one stack: then all names are servers.
//! - The first name is the stack if a stack has that name. `--stack NAME` says it in any case, and then all
//!   names are servers; `--server NAME` names one more server.
//! - A name that matches nothing is reported with the names nearest to it. An unknown stack is an error
//!   (exit code 2). An unknown server of a known stack is only noted, because its first record may be on its
//!   way; a command that then finds nothing ends with exit code 1.
//!
//! Commands flatten [`ScopeArgs`] and call [`ScopeArgs::open`]. Commands about whole stacks use
//! [`open_stack`], [`stack_name`] or [`ScopeArgs::resolve_each`].

use crate::{commands::store_options, damage, output::note};
use anyhow::{Context, bail};
use clap::builder::TypedValueParser;
use gridctl_telemetry::{Query, ServerName, Signal, Store, StoreOptions, home::list_stacks};
use std::{ffi::OsStr, path::Path};

/// The maximum number of names that a message suggests.
const SUGGESTIONS_MAX: usize = 3;
/// The least similarity of a name that is suggested, from 0 to 1.
const SIMILARITY_MIN: f64 = 0.8;

/// The stack and the servers of a command.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ScopeArgs {
    /// The stack; may be left out when there is only one
    #[arg(value_name = "STACK")]
    first: Option<String>,
    /// The servers [default: all]
    #[arg(value_name = "SERVER")]
    more: Vec<ServerName>,
    /// The stack, if its name is also that of a server; all names before and after it are servers
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// A server, like SERVER; may be given several times
    #[arg(long, value_name = "NAME")]
    server: Vec<ServerName>,
}

/// A stack that is open for reading, and the servers that a command is about.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) store: Store,
    /// Empty for all servers.
    pub(crate) servers: Vec<ServerName>,
}

impl ScopeArgs {
    /// A whole stack.
    pub(crate) fn of_stack(stack: &str) -> ScopeArgs {
        ScopeArgs {
            stack: Some(stack.to_owned()),
            ..ScopeArgs::default()
        }
    }

    /// Whether neither a stack nor a server is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
            && self.more.is_empty()
            && self.stack.is_none()
            && self.server.is_empty()
    }

    /// Opens the stack for reading. Notes each server that has no records, with the names nearest to its
    /// name.
    ///
    /// Fails when the stack is unknown, when it is left out and there is none or more than one, and when it
    /// cannot be read.
    pub(crate) fn open(&self, home: &Path) -> anyhow::Result<Scope> {
        self.open_with(home, |options| options)
    }

    /// Does the same with other options of the store.
    pub(crate) fn open_with(
        &self,
        home: &Path,
        options: impl FnOnce(StoreOptions) -> StoreOptions,
    ) -> anyhow::Result<Scope> {
        let known = list_stacks(home)?;
        let (stack, servers) = self.resolve(home, &known)?;
        let scope = Scope {
            store: open(home, &stack, options(store_options()))?,
            servers,
        };
        self.check_servers(&scope)?;
        Ok(scope)
    }

    /// The name of the stack, one of `known`, and the servers. Does not open the stack.
    pub(crate) fn resolve(
        &self,
        home: &Path,
        known: &[String],
    ) -> anyhow::Result<(String, Vec<ServerName>)> {
        let named = match (&self.stack, &self.first) {
            (Some(stack), _) => Some(stack),
            (None, Some(first)) if known.contains(first) || known.len() != 1 => Some(first),
            (None, _) => None,
        };
        let is_server = named.is_none() || self.stack.is_some();
        let first = self.first.as_ref().filter(|_| is_server);
        let first = first.map(ServerName::new).transpose()?;
        let servers = first.iter().chain(&self.more).chain(&self.server);
        let servers = servers.cloned().collect();
        Ok((pick_stack(home, named, known)?, servers))
    }

    /// Several stacks at once: all of `known` if none is named, else the named one.
    ///
    /// Fails like [`ScopeArgs::resolve`] for a name that is unknown.
    pub(crate) fn resolve_each(
        &self,
        home: &Path,
        known: &[String],
    ) -> anyhow::Result<(Vec<String>, Vec<ServerName>)> {
        if self.first.is_none() && self.stack.is_none() {
            return Ok((known.to_vec(), self.server.clone()));
        }
        let (stack, servers) = self.resolve(home, known)?;
        Ok((vec![stack], servers))
    }

    /// The stacks and servers to delete from: the first name is always the stack, because a server that has
    /// the name of a missing stack must not be deleted in its place. Notes an unknown stack.
    ///
    /// Fails when no stack is named and there are several, unless `all` are to be deleted.
    pub(crate) fn resolve_to_delete(
        &self,
        known: &[String],
        all: bool,
    ) -> anyhow::Result<(Vec<String>, Vec<ServerName>)> {
        let named = self.stack.as_ref().or(self.first.as_ref());
        let first = self.first.as_ref().filter(|_| self.stack.is_some());
        let first = first.map(ServerName::new).transpose()?;
        let servers = first.iter().chain(&self.more).chain(&self.server);
        let stacks = match (named, known) {
            (Some(named), _) if all => {
                bail!("pass either the stack {named:?} or --all, which is every stack")
            }
            (Some(named), known) => {
                if !known.contains(named) {
                    let known = known.iter().map(String::as_str);
                    note(&format!(
                        "there is no stack {named:?}{}",
                        suggestion(named, known)
                    ));
                }
                vec![named.clone()]
            }
            (None, [_, _, ..]) if !all => {
                bail!("name the stack to wipe, or pass --all to wipe every stack")
            }
            (None, known) => known.to_vec(),
        };
        Ok((stacks, servers.cloned().collect()))
    }

    fn check_servers(&self, scope: &Scope) -> anyhow::Result<()> {
        if scope.servers.is_empty() {
            return Ok(());
        }
        let known = scope.store.snapshot()?.servers()?;
        let known: Vec<&str> = known.iter().map(ServerName::as_str).collect();
        let stack = scope.store.stack();
        for server in scope.servers.iter().map(ServerName::as_str) {
            if known.contains(&server) {
                continue;
            }
            // It may also be a misspelt stack.
            if self.stack.is_none() && self.first.as_deref() == Some(server) {
                let names = known.iter().copied().chain([stack]);
                bail!(
                    "{server:?} is neither a stack nor a server of the only stack, {stack:?}{}",
                    suggestion(server, names)
                );
            }
            note(&format!(
                "the stack {stack:?} has no records of a server {server:?}{}",
                suggestion(server, known.iter().copied())
            ));
        }
        Ok(())
    }
}

impl Scope {
    /// All records of one signal of these servers.
    pub(crate) fn query(&self, signal: Signal) -> Query {
        self.servers
            .iter()
            .cloned()
            .fold(Query::new(signal), Query::server)
    }

    /// Whether the command is about this server.
    pub(crate) fn includes(&self, server: &ServerName) -> bool {
        self.servers.is_empty() || self.servers.contains(server)
    }
}

/// Opens a stack for reading; the only one if none is named.
///
/// Fails like [`stack_name`], and when the stack cannot be read.
pub(crate) fn open_stack(home: &Path, named: Option<&String>) -> anyhow::Result<Store> {
    open(home, &stack_name(home, named)?, store_options())
}

/// The name of a stack that has a database: the named one, or the only one.
///
/// Fails when there is no stack of this name, and when none is named and there is none or more than one.
pub(crate) fn stack_name(home: &Path, named: Option<&String>) -> anyhow::Result<String> {
    pick_stack(home, named, &list_stacks(home)?)
}

/// The named stack, one of `known`, or the only one.
pub(crate) fn pick_stack(
    home: &Path,
    named: Option<&String>,
    known: &[String],
) -> anyhow::Result<String> {
    let below = home.join("telemetry");
    let below = below.display();
    match (named, known) {
        (Some(named), known) if known.contains(named) => Ok(named.clone()),
        (None, [only]) => Ok(only.clone()),
        (_, []) => bail!("there is no telemetry below {below}: check --home and GRIDCTL_HOME"),
        (Some(named), known) => bail!(
            "there is no stack {named:?} below {below}{}",
            suggestion(named, known.iter().map(String::as_str))
        ),
        (None, known) => bail!(
            "name the stack: there are {} below {below}",
            listed(known.iter().map(String::as_str), "and")
        ),
    }
}

fn open(home: &Path, stack: &str, options: StoreOptions) -> anyhow::Result<Store> {
    let store = Store::open_read_only(home, stack, options)?
        .with_context(|| format!("the stack {stack:?} was deleted just now"))?;
    damage::note_known(&store);
    Ok(store)
}

/// What to add to a message about an unknown name: the names nearest to it, or all if they are few.
/// Begins with a colon; empty if there is nothing to say.
pub(crate) fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = nearest(unknown, known.iter().copied());
    if !near.is_empty() {
        format!(": did you mean {}?", listed(near, "or"))
    } else if (1..=SUGGESTIONS_MAX).contains(&known.len()) {
        format!(": the known ones are {}", listed(known, "and"))
    } else {
        String::new()
    }
}

/// The known names that are most like `unknown`, the nearest first.
pub(crate) fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let unknown = unknown.to_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (similarity(&unknown, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= SIMILARITY_MIN)
        .collect();
    scored.sort_by(|(a, a_name), (b, b_name)| b.total_cmp(a).then(a_name.cmp(b_name)));
    scored.truncate(SUGGESTIONS_MAX);
    scored.into_iter().map(|(_, name)| name).collect()
}

fn similarity(unknown: &str, name: &str) -> f64 {
    // A part of a name, such as `hub` of `github`, is often all that is remembered.
    if !unknown.is_empty() && name.contains(unknown) {
        return 0.95;
    }
    strsim::jaro_winkler(unknown, name)
}

/// Names as a part of a sentence: `"a", "b" and "c"`.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>, word: &str) -> String {
    let mut quoted: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    match (quoted.pop(), quoted.is_empty()) {
        (Some(last), false) => format!("{} {word} {last}", quoted.join(", ")),
        (last, _) => last.unwrap_or_default(),
    }
}

/// Parses the value of `--signal`; the error suggests the nearest name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignalParser;

impl TypedValueParser for SignalParser {
    type Value = Signal;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Signal, clap::Error> {
        let name = value.to_string_lossy();
        name.parse().map_err(|error| {
            let near = nearest(&name, Signal::ALL.map(Signal::as_str));
            let hint = match near.first() {
                Some(near) => format!(": did you mean {near}?"),
                None => String::new(),
            };
            command.clone().error(
                clap::error::ErrorKind::ValueValidation,
                format!("{error}{hint}"),
            )
        })
    }

    fn possible_values(
        &self,
    ) -> Option<Box<dyn Iterator<Item = clap::builder::PossibleValue> + '_>> {
        // For completions and help.
        Some(Box::new(
            Signal::ALL.into_iter().map(|signal| signal.as_str().into()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(first: Option<&str>, more: &[&str]) -> ScopeArgs {
        ScopeArgs {
            first: first.map(Into::into),
            more: more
                .iter()
                .map(|name| ServerName::new(*name).unwrap())
                .collect(),
            ..ScopeArgs::default()
        }
    }

    fn resolve(args: &ScopeArgs, known: &[&str]) -> anyhow::Result<(String, Vec<String>)> {
        let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        let (stack, servers) = args.resolve(Path::new("/home"), &known)?;
        Ok((stack, servers.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn the_first_name_is_the_stack_if_a_stack_has_it() {
        let found = |stack: &str, servers: &[&str]| {
            (
                stack.to_owned(),
                servers
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let one = &["gw"][..];
        let two = &["gw", "lab"][..];
        for (first, more, known, expected) in [
            (None, &[][..], one, found("gw", &[])),
            (Some("gw"), &[], one, found("gw", &[])),
            (Some("gw"), &["github"], two, found("gw", &["github"])),
            (
                Some("github"),
                &["slack"],
                one,
                found("gw", &["github", "slack"]),
            ),
        ] {
            assert_eq!(resolve(&args(first, more), known).unwrap(), expected);
        }
        let named = ScopeArgs {
            stack: Some("lab".into()),
            server: vec![ServerName::new("last").unwrap()],
            ..args(Some("gw"), &["github"])
        };
        assert_eq!(
            resolve(&named, two).unwrap(),
            found("lab", &["gw", "github", "last"])
        );
    }

    #[test]
    fn a_stack_that_is_not_clear_is_refused() {
        for (first, known, said) in [
            (
                None,
                &["gw", "lab"][..],
                r#"name the stack: there are "gw" and "lab" below"#,
            ),
            (
                None,
                &[],
                "there is no telemetry below /home/telemetry: check --home",
            ),
            (
                Some("gw"),
                &[],
                "there is no telemetry below /home/telemetry: check --home",
            ),
            (
                Some("g"),
                &["gw", "lab"],
                r#"no stack "g" below /home/telemetry: did you mean "gw"?"#,
            ),
            (
                Some("x"),
                &["gw", "lab"],
                r#": the known ones are "gw" and "lab""#,
            ),
        ] {
            let error = resolve(&args(first, &[]), known).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn deleting_takes_no_server_for_a_missing_stack() {
        let delete = |args: &ScopeArgs, known: &[&str], all| {
            let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
            args.resolve_to_delete(&known, all)
                .map(|(stacks, servers)| (stacks.join(","), servers.len()))
        };
        let name = |stack: &str, servers| (stack.to_owned(), servers);
        for (first, more, known, all, expected) in [
            (
                Some("github"),
                &[][..],
                &["gw"][..],
                false,
                Some(name("github", 0)),
            ),
            (
                Some("gw"),
                &["github"],
                &["gw", "lab"],
                false,
                Some(name("gw", 1)),
            ),
            (None, &[], &["gw"], false, Some(name("gw", 0))),
            (None, &[], &["gw", "lab"], false, None),
            (None, &[], &["gw", "lab"], true, Some(name("gw,lab", 0))),
            (None, &[], &[], false, Some(name("", 0))),
            (Some("gw"), &[], &["gw"], true, None),
        ] {
            assert_eq!(
                delete(&args(first, more), known, all).ok(),
                expected,
                "{first:?}"
            );
        }
    }

    #[test]
    fn near_names_come_first() {
        let known = ["github", "gitlab", "slack", "jira", "GitHub-2"];
        assert_eq!(nearest("githib", known)[0], "github");
        assert_eq!(nearest("SLAKC", known), ["slack"]);
        assert_eq!(nearest("hub", known), ["GitHub-2", "github"]);
        assert!(nearest("prometheus", known).is_empty());
        assert!(nearest("", known).is_empty());
    }
}
